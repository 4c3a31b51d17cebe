//! A project on the page: the client, and what the page makes of it. Knows no element of the page.

import { UsparkError, Value, openProject, type Entry, type Project, type TreeChange } from '@uspark/client'
import { activityOf, type Happened } from './activity.ts'
import { Outline } from './outline.ts'
import { myName, myself, people, type Person } from './people.ts'
import { paced } from './values.ts'

/** Milliseconds for which what has changed glows. */
const GLOW = 2500
/** Lines of the activity that are kept, and fetched at first. */
const ACTIVITY = 300

/** What the person is told, once. */
export interface Notice { words: string, hint?: string | undefined, isError: boolean }

/** Two versions of a text, by their hashes, and what is said of what lies between them. */
export interface Difference { path: string, before: string, after: string, words: string }

/** A project that is open on the page. */
export class Session {
  readonly project: Project
  readonly outline = new Outline()
  /** Counts up when the tree is to be drawn again. */
  readonly version = new Value(0)
  readonly loaded = new Value(false)
  readonly people = new Value<Person[]>([])
  readonly activity = new Value<Happened[]>([])
  readonly activityIsLive = new Value(false)
  readonly notice = new Value<Notice | null>(null)
  /** The file that is shown. */
  readonly file = new Value<string | null>(null)
  /** The difference that is shown in its place. */
  readonly difference = new Value<Difference | null>(null)
  /** When each path last changed, of those that glow. */
  readonly #glow = new Map<string, number>()
  readonly #draw = paced(() => this.version.set(this.version.value + 1))

  constructor (server: string, readonly id: string, token: string) {
    this.project = openProject(server, id, token)
    this.project.tree.subscribe(changes => this.#changed(changes))
    this.project.awareness.on('change', () => this.#met())
    void this.#begin()
  }

  /** Whether a path changed a moment ago, and when: what was drawn as glowing before glows anew. */
  glow (path: string): number | undefined {
    return this.#glow.get(path)
  }

  /** Those who look at a file, oneself not among them. */
  at (path: string): Person[] {
    return this.people.value.filter(({ doc, isMe }) => !isMe && doc !== undefined && this.project.tree.pathOf(doc) === path)
  }

  /** Does something that may fail; the person is told if it does. */
  async attempt<T> (work: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await work()
    } catch (error) {
      const hint = error instanceof UsparkError ? error.hint : undefined
      this.notice.set({ words: error instanceof Error ? error.message : String(error), hint, isError: true })
      return undefined
    }
  }

  /** Says something in passing. */
  say (words: string, hint?: string): void {
    this.notice.set({ words, hint, isError: false })
  }

  /** Says to the others where one is. */
  lookAt (path: string | null): void {
    this.file.set(path)
    this.difference.set(null)
    const entry = path === null ? undefined : this.project.tree.get(path)
    this.project.awareness.setLocalStateField('doc', entry?.kind === 'text' ? entry.doc : null)
  }

  close (): void {
    this.project.close()
  }

  async #begin (): Promise<void> {
    const { project } = this
    const introduce = (): void => project.awareness.setLocalStateField('user', myself())
    introduce()
    myName.subscribe(introduce)
    try {
      await project.ready()
    } catch {
      // The state says why.
      return
    }
    this.loaded.set(true)
    void this.#follow()
  }

  async #follow (): Promise<void> {
    let happened: Happened[] = []
    const draw = paced(() => this.activity.set(happened))
    try {
      for await (const event of this.project.events({ last: ACTIVITY, onConnection: live => this.activityIsLive.set(live) })) {
        const next = activityOf(happened, event)
        if (next === happened) continue
        happened = next.slice(-ACTIVITY)
        draw()
      }
    } catch {
      // Refused for good: the project's own state says so too.
      this.activityIsLive.set(false)
    }
  }

  #met (): void {
    const { awareness } = this.project
    this.people.set(people(awareness.getStates(), awareness.clientID))
    this.#draw()
  }

  #changed (changes: TreeChange[]): void {
    for (const change of changes) this.#outline(change)
    // What was there before the page was is not new.
    if (this.loaded.value) this.#light(changes.filter(change => !change.local || change.what !== 'removed').map(({ path }) => path))
    this.#draw()
  }

  #outline (change: TreeChange): void {
    const { outline } = this
    switch (change.what) {
      case 'removed': return outline.delete(change.path)
      case 'moved': outline.delete(change.from); return outline.set(change.path, change.entry)
      case 'added': case 'changed': return outline.set(change.path, change.entry)
      case 'edited': case 'settled': return undefined
    }
  }

  #light (paths: string[]): void {
    const now = performance.now()
    for (const path of paths) this.#glow.set(path, now)
    setTimeout(() => {
      for (const path of paths) if (this.#glow.get(path) === now) this.#glow.delete(path)
      this.#draw()
    }, GLOW)
  }
}

/** Bytes as people read them. */
export function bytesInWords (bytes: number): string {
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB']
  let [size, unit] = [bytes, 0]
  while (size >= 1000 && unit < units.length - 1) [size, unit] = [size / 1000, unit + 1]
  return `${unit === 0 ? size : size.toPrecision(3)} ${units[unit]!}`
}

/** Words of the server's as a sentence. */
export function sentence (words: string): string {
  return words === '' ? '' : `${words[0]!.toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? '' : '.'}`
}

/** What something is called. */
export function kindInWords (entry: Entry): string {
  return { text: 'Text', binary: 'Binary file', link: 'Symbolic link', dir: 'Directory' }[entry.kind]
}
