import * as Y from 'yjs'
import { parseEntry, parseSettled, type Entry, type Settled } from './entry.ts'
import { Listeners } from './observable.ts'

/** What happened to a path. `local`: it was done here, and may not be on the server yet. */
export type TreeChange =
  | { what: 'added' | 'changed', path: string, entry: Entry, local: boolean }
  | { what: 'removed', path: string, entry: Entry, local: boolean }
  /** A text has another path; its document is the same. */
  | { what: 'moved', from: string, path: string, entry: Entry, local: boolean }
  /** Somebody else is writing in a text right now. */
  | { what: 'edited', path: string, entry: Entry, local: false }
  /** The server has stored a text's content: its hash, size and time are those of this moment. */
  | { what: 'settled', path: string, entry: Entry, local: false }

/** The paths of a project and what stands at them, kept up to date. */
export class Tree implements Iterable<[string, Entry]> {
  readonly #files: Y.Map<unknown>
  readonly #texts: Y.Map<unknown>
  readonly #entries = new Map<string, Entry>()
  /** The path of each text document. */
  readonly #paths = new Map<string, string>()
  readonly #changes = new Listeners<TreeChange[]>()

  constructor (doc: Y.Doc) {
    this.#files = doc.getMap('files')
    this.#texts = doc.getMap('texts')
    // Both maps, once for each transaction: a rename is two keys of one.
    doc.on('afterTransaction', (transaction: Y.Transaction) => {
      const changes = [...this.#changed(transaction), ...this.#settled(transaction)]
      if (changes.length > 0) this.#changes.tell(changes)
    })
  }

  /** How many paths there are. */
  get size (): number {
    return this.#entries.size
  }

  /** What stands at a path. */
  get (path: string): Entry | undefined {
    return this.#entries.get(path)
  }

  /** Where a text document is. */
  pathOf (doc: string): string | undefined {
    return this.#paths.get(doc)
  }

  /** Every path with what stands there, in no order. */
  [Symbol.iterator] (): IterableIterator<[string, Entry]> {
    return this.#entries.entries()
  }

  /** Calls `listener` with what each change of the project changed; the result ends that. */
  subscribe (listener: (changes: TreeChange[]) => void): () => void {
    return this.#changes.add(listener)
  }

  /** Says that somebody else writes in a text. */
  noteEdit (doc: string): void {
    const path = this.#paths.get(doc)
    const entry = path === undefined ? undefined : this.#entries.get(path)
    if (path !== undefined && entry !== undefined) this.#changes.tell([{ what: 'edited', path, entry, local: false }])
  }

  #changed ({ changed, local }: Y.Transaction): TreeChange[] {
    const keys = changed.get(this.#files as unknown as Y.AbstractType<Y.YEvent<any>>) ?? []
    const before = new Map<string, Entry>()
    const after = new Map<string, Entry>()
    for (const path of keys) {
      if (path === null) continue
      const was = this.#entries.get(path)
      const is = parseEntry(this.#files.get(path), doc => this.#settledOf(doc))
      if (was !== undefined) before.set(path, was)
      if (is !== undefined) after.set(path, is)
    }
    // All that went, before all that came: of a moved text the new path stays.
    for (const [path, entry] of before) this.#remove(path, entry)
    for (const [path, entry] of after) this.#put(path, entry)
    return compared(before, after, local)
  }

  #settled ({ changed }: Y.Transaction): TreeChange[] {
    const changes: TreeChange[] = []
    for (const doc of changed.get(this.#texts as unknown as Y.AbstractType<Y.YEvent<any>>) ?? []) {
      const path = doc === null ? undefined : this.#paths.get(doc)
      if (path === undefined) continue
      const was = this.#entries.get(path)
      const entry = parseEntry(this.#files.get(path), text => this.#settledOf(text))
      if (entry?.kind !== 'text' || (was?.kind === 'text' && was.hash === entry.hash && was.size === entry.size)) continue
      this.#put(path, entry)
      changes.push({ what: 'settled', path, entry, local: false })
    }
    return changes
  }

  #settledOf (doc: string): Settled | undefined {
    return parseSettled(this.#texts.get(doc))
  }

  #put (path: string, entry: Entry): void {
    this.#entries.set(path, entry)
    if (entry.kind === 'text') this.#paths.set(entry.doc, path)
  }

  #remove (path: string, entry: Entry): void {
    this.#entries.delete(path)
    if (entry.kind === 'text' && this.#paths.get(entry.doc) === path) this.#paths.delete(entry.doc)
  }
}

/** What one transaction did, from the entries before and after it at the paths it touched. */
function compared (before: Map<string, Entry>, after: Map<string, Entry>, local: boolean): TreeChange[] {
  const gone = new Map<string, string>()
  for (const [path, entry] of before) {
    if (entry.kind === 'text' && docOf(after.get(path)) !== entry.doc) gone.set(entry.doc, path)
  }
  const changes: TreeChange[] = []
  const moved = new Set<string>()
  for (const [path, entry] of after) {
    const was = before.get(path)
    const from = entry.kind === 'text' && docOf(was) !== entry.doc ? gone.get(entry.doc) : undefined
    if (from !== undefined) {
      moved.add(from)
      changes.push({ what: 'moved', from, path, entry, local })
    } else {
      changes.push({ what: was === undefined ? 'added' : 'changed', path, entry, local })
    }
  }
  for (const [path, entry] of before) {
    if (!after.has(path) && !moved.has(path)) changes.push({ what: 'removed', path, entry, local })
  }
  return changes
}

function docOf (entry: Entry | undefined): string | undefined {
  return entry?.kind === 'text' ? entry.doc : undefined
}
