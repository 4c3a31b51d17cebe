//! What has happened, line by line as it is shown: pure.

import type { ProjectEvent, Who } from '@uspark/client'

/** One line of the activity. */
export interface Happened {
  /** The event's number: no two lines have the same. */
  key: number
  at: number
  kind: 'created' | 'changed' | 'deleted' | 'moved' | 'said' | 'gap'
  /** Who did it, in words. */
  by: string
  /** Whether it was an agent. */
  byAgent: boolean
  path?: string
  from?: string
  /** What was said. */
  words?: string
  /** How often it happened in a row. */
  times: number
  /** The content after it, by its hash, where it is a text's. */
  version?: string
  /** The content before it, where that is known. */
  before?: string
}

/** Milliseconds within which the same again is the same line. */
const TOGETHER = 60_000
const WORDS = 400

/** The lines, and what an event adds to them; the same lines when it adds nothing. */
export function activityOf (lines: Happened[], event: ProjectEvent): Happened[] {
  const happened = happenedOf(event)
  if (happened === undefined) return lines
  const last = lines.at(-1)
  const isSame = last !== undefined && last.kind === 'changed' && happened.kind === 'changed' &&
    last.path === happened.path && last.by === happened.by && happened.at - last.at < TOGETHER
  const before = isSame ? last.before : lines.findLast(({ path }) => path !== undefined && path === (happened.from ?? happened.path))?.version
  const next = before === undefined ? happened : { ...happened, before }
  return isSame ? [...lines.slice(0, -1), { ...next, times: last.times + 1 }] : [...lines, next]
}

function happenedOf (event: ProjectEvent): Happened | undefined {
  if (event.what === 'lagged') {
    return { key: event.number, at: Date.now(), kind: 'gap', by: '', byAgent: false, times: 1, words: 'Something may be missing here.' }
  }
  const { number: key, at } = event
  const own = { key, at, by: inWords(event.who), byAgent: event.who?.tool !== undefined || event.who?.run !== undefined, times: 1 }
  if (event.what === 'line') {
    const words = wordsOf(event.text)
    return words === undefined ? undefined : { ...own, kind: 'said', words, byAgent: true, by: 'Claude' }
  }
  const of = { ...own, path: event.path, ...(event.kind === 'text' && event.hash !== undefined && event.what !== 'deleted' ? { version: event.hash } : {}) }
  return event.what === 'moved' ? { ...of, kind: 'moved', from: event.from } : { ...of, kind: event.what }
}

/** Who it was: the tool call is a claim, but the best name there is. */
function inWords (who: Who | null): string {
  if (who === null) return 'The server'
  if (who.tool !== undefined) return `Claude · ${who.tool}`
  return who.run !== undefined ? 'Claude' : 'Somebody'
}

/** What Claude says in a line of its stream; nothing for what is said between the programs alone. */
function wordsOf (line: string): string | undefined {
  try {
    const said = JSON.parse(line) as { type?: string, message?: { content?: unknown } }
    if (said.type !== 'assistant' || !Array.isArray(said.message?.content)) return undefined
    const words = (said.message.content as Array<{ type?: string, text?: unknown }>)
      .filter(({ type, text }) => type === 'text' && typeof text === 'string')
      .map(({ text }) => text as string).join(' ').trim()
    return words === '' ? undefined : words.slice(0, WORDS)
  } catch {
    // Lines of a run need not be JSON.
    return line.trim() === '' ? undefined : line.slice(0, WORDS)
  }
}

/** A time as it is read at a glance; milliseconds since 1970. */
export function timeInWords (at: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - at) / 1000))
  if (seconds < 5) return 'now'
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} d`
}
