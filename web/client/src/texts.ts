import { SyncedDocument } from './document.ts'
import type { Entry } from './entry.ts'
import { Listeners, until } from './observable.ts'
import type { Socket } from './socket.ts'
import { OpenText } from './text.ts'
import type { Tree } from './tree.ts'

interface Held {
  document: SyncedDocument
  text: OpenText
  /** How often it was opened and not closed. */
  holders: number
  ends: Array<() => void>
}

/** The texts of a project that are open, each once, and those that are closed but not saved yet. */
export class Texts {
  readonly #held = new Map<string, Held>()
  /** A text was opened, closed, or is saved or not. */
  readonly changed = new Listeners<void>()

  constructor (
    private readonly project: string,
    private readonly token: string,
    private readonly socket: Socket,
    private readonly tree: Tree,
    private readonly restore: (path: string, entry: Entry) => void
  ) {}

  /** The documents that are open. */
  * documents (): Iterable<SyncedDocument> {
    for (const { document } of this.#held.values()) yield document
  }

  open (doc: string, path: string): OpenText {
    const held = this.#held.get(doc) ?? this.#hold(doc, path)
    held.holders += 1
    return held.text
  }

  /** Leaves all of them as they are. */
  end (): void {
    for (const doc of [...this.#held.keys()]) this.#forget(doc)
  }

  #hold (doc: string, path: string): Held {
    const document = new SyncedDocument(this.socket, `${this.project}/${doc}`, this.token)
    const ends: Array<() => void> = []
    const text = new OpenText(doc, path, document, {
      tree: this.tree,
      whenClosed: end => ends.push(end),
      restore: this.restore,
      close: () => { void this.#close(doc) }
    })
    ends.push(document.state.subscribe(() => this.changed.tell()))
    const held = { document, text, holders: 0, ends }
    this.#held.set(doc, held)
    this.changed.tell()
    return held
  }

  async #close (doc: string): Promise<void> {
    const held = this.#held.get(doc)
    if (held === undefined || held.holders === 0) return
    held.holders -= 1
    await until(held.document.state, ({ saved, denied, rejected }) => saved || (denied ?? rejected) !== undefined || held.holders > 0)
    if (held.holders === 0) this.#forget(doc)
  }

  #forget (doc: string): void {
    const held = this.#held.get(doc)
    if (held === undefined) return
    this.#held.delete(doc)
    for (const end of held.ends) end()
    held.document.close()
    this.changed.tell()
  }
}
