import { UsparkError } from './error.ts'
import type { Http } from './http.ts'
import { messages } from './sse.ts'

/** Who made a change, as far as it is known: the token's id is, the rest is its holder's claim. */
export interface Who { token: string, run?: string, toolUseId?: string, tool?: string }

interface Numbered {
  /** What to give as `after` to go on behind this. */
  id: string
  number: number
}

/** Something that happened in a project. Times are milliseconds since 1970. */
export type ProjectEvent = Numbered & (
  | { what: 'created' | 'changed' | 'deleted', at: number, path: string, kind: 'text' | 'binary' | 'link' | 'dir', hash?: string, who: Who | null, also?: Who[] }
  | { what: 'moved', at: number, path: string, from: string, kind: 'text', hash?: string, who: Who | null, also?: Who[] }
  /** A run said something; `line` is the number of the line in its run. */
  | { what: 'line', at: number, run: string, line: number, text: string, who: Who | null }
  /** Something may have been missed: look at the tree. */
  | { what: 'lagged', why: string }
)

/** Where a stream of events begins, and what ends it. */
export interface EventsFrom {
  /** An event's `id`, or `now`; without it the stream begins with the oldest event that is kept. */
  after?: string
  /** Without `after`: the stream begins with the last so many events. */
  last?: number
  signal?: AbortSignal
  /** Whether the stream is there now, told when that changes. */
  onConnection?: (connected: boolean) => void
}

/** Milliseconds between attempts to come back: doubled from the first to the last. */
const FIRST_DELAY = 250
const LAST_DELAY = 5000

/**
 * A project's events, one by one, each once and in order. Where the connection is lost the stream comes back by itself
 * and goes on behind the last event; it throws a `UsparkError` when the server will not have it back, and ends with `signal`.
 */
export async function * events (http: Http, project: string, { after, last: count, signal, onConnection }: EventsFrom = {}): AsyncGenerator<ProjectEvent> {
  let last = after
  let delay = FIRST_DELAY
  const isOver = (): boolean => signal?.aborted === true
  while (!isOver()) {
    try {
      if (last === undefined && count !== undefined) last = await before(count, http, project, signal)
      for await (const message of stream(http, project, last, signal)) {
        onConnection?.(true)
        delay = FIRST_DELAY
        // With `now` too: what comes after this id is what happens from now on.
        if (message.id !== '') last = message.id
        if (message.data !== '') yield { ...JSON.parse(message.data) as ProjectEvent, id: message.id }
      }
    } catch (error) {
      if (isOver()) return
      if (error instanceof UsparkError && error.isFinal) throw error
    }
    onConnection?.(false)
    await pause(delay, signal)
    delay = Math.min(delay * 2, LAST_DELAY)
  }
}

/** The id behind which the last `count` events are; nothing if there are not that many. */
async function before (count: number, http: Http, project: string, signal: AbortSignal | undefined): Promise<string | undefined> {
  for await (const { id } of stream(http, project, 'now', signal)) {
    const [, epoch, number] = /^(.*)\.(\d+)$/.exec(id) ?? []
    return Number(number) > count ? `${epoch}.${Number(number) - count}` : undefined
  }
  return undefined
}

async function * stream (http: Http, project: string, after: string | undefined, signal: AbortSignal | undefined): ReturnType<typeof messages> {
  const query = after === undefined ? '' : `?after=${encodeURIComponent(after)}`
  const response = await http.call(`projects/${project}/events${query}`, { headers: { accept: 'text/event-stream' }, signal })
  if (response.body !== null) yield * messages(response.body)
}

function pause (milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise(resolve => {
    const end = (): void => { clearTimeout(timer); resolve() }
    const timer = setTimeout(() => { signal?.removeEventListener('abort', end); resolve() }, milliseconds)
    signal?.addEventListener('abort', end, { once: true })
  })
}
