import type { Awareness } from 'y-protocols/awareness'
import type * as Y from 'yjs'
import type { SyncedDocument } from './document.ts'
import type { Entry } from './entry.ts'
import type { UsparkError } from './error.ts'
import { Value, until, type Observable } from './observable.ts'
import type { Tree } from './tree.ts'

/** Where an open text stands. */
export type TextState =
  /** Its content has not come yet. */
  | { is: 'loading', path: string }
  /** It is at this path. */
  | { is: 'open', path: string }
  /** Its path was deleted. An edit brings it back, and `restore` does. */
  | { is: 'deleted', path: string }
  /** Something else is at its path now: a binary, a link, or another text. */
  | { is: 'replaced', path: string }
  /** The server will not have it opened, or will not take its changes. */
  | { is: 'refused', path: string, why: UsparkError }

/** A text that is open: what is typed into it reaches everybody, and what others type arrives. */
export class OpenText {
  /** The content. Its offsets are UTF-16 units, and a line break is as many as it has bytes. */
  readonly text: Y.Text
  /** Who else is here. */
  readonly awareness: Awareness
  /** Where it stands, and at which path. */
  readonly state: Observable<TextState>
  /** Whether what was typed here is on the server's disk. */
  readonly saved: Observable<boolean>
  /** What stood at its path last. */
  #entry: Entry | undefined

  constructor (readonly id: string, path: string, document: SyncedDocument, private readonly actions: TextActions) {
    this.text = document.doc.getText('content')
    this.awareness = document.awareness
    const state = new Value<TextState>({ is: 'loading', path })
    const saved = new Value(document.state.value.saved)
    const look = (): void => {
      const at = actions.tree.pathOf(id)
      if (at !== undefined) this.#entry = actions.tree.get(at)
      const next = stateOf(id, state.value.path, document, actions.tree)
      if (next.is !== state.value.is || next.path !== state.value.path) state.set(next)
      saved.set(document.state.value.saved)
    }
    look()
    actions.whenClosed(actions.tree.subscribe(look))
    actions.whenClosed(document.state.subscribe(look))
    this.state = state
    this.saved = saved
  }

  /** Where it is, or was last. */
  get path (): string {
    return this.state.value.path
  }

  /** Waits until its content is there; throws if the server refuses it. */
  async loaded (signal?: AbortSignal): Promise<this> {
    const state = await until(this.state, ({ is }) => is !== 'loading', signal)
    if (state.is === 'refused') throw state.why
    return this
  }

  /** Gives a text that was deleted its path back. Throws if something else is there now, or the token may not write. */
  restore (): void {
    if (this.#entry !== undefined) this.actions.restore(this.path, this.#entry)
  }

  /** Is done with it. The text stays on the socket until what was typed here is saved. */
  close (): void {
    this.actions.close()
  }
}

/** What a text needs of its project. */
export interface TextActions {
  tree: Tree
  /** Does this when nobody has the text open any more. */
  whenClosed: (end: () => void) => void
  restore: (path: string, entry: Entry) => void
  close: () => void
}

function stateOf (id: string, last: string, document: SyncedDocument, tree: Tree): TextState {
  const { loaded, denied, rejected } = document.state.value
  const why = denied ?? rejected
  const path = tree.pathOf(id)
  if (path !== undefined) {
    if (why !== undefined) return { is: 'refused', path, why }
    return { is: loaded ? 'open' : 'loading', path }
  }
  return { is: tree.get(last) === undefined ? 'deleted' : 'replaced', path: last }
}
