import { HocuspocusProvider } from '@hocuspocus/provider'
import type { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { UsparkError } from './error.ts'
import { Value } from './observable.ts'
import type { Socket } from './socket.ts'

/** How a document stands with the server. */
export interface DocumentState {
  /** Its content has come at least once. */
  loaded: boolean
  /** It is open on the server now, and up to date. */
  live: boolean
  /** What was changed here is on the server's disk. */
  saved: boolean
  /** Why the server will not open it. Final. */
  denied?: UsparkError
  /** Why the server did not take a change that was made here. */
  rejected?: UsparkError
}

/** One Y.Doc on the project's socket. */
export class SyncedDocument {
  readonly doc = new Y.Doc()
  readonly awareness: Awareness
  readonly provider: HocuspocusProvider
  readonly state = new Value<DocumentState>({ loaded: false, live: false, saved: true })
  readonly #ends: Array<() => void> = []

  constructor (private readonly socket: Socket, readonly name: string, token: string) {
    socket.ledger.forget(name)
    this.provider = new HocuspocusProvider({ websocketProvider: socket.provider, name, document: this.doc, token })
    this.awareness = this.provider.awareness as Awareness
    this.provider.on('synced', () => this.#change({ loaded: true, live: true }))
    this.provider.on('authenticationFailed', ({ reason }: { reason: string }) => {
      this.#change({ live: false, denied: new UsparkError(reason, 4403) })
    })
    this.doc.on('update', this.#updated)
    this.#ends.push(
      socket.lost.add(() => this.#change({ live: false })),
      socket.ledger.answered.add(answered => { if (answered === name) this.#answered() })
    )
    this.provider.attach()
  }

  /** Whether its token may not write; unknown, and so false, before the server has said so. */
  get isReadOnly (): boolean {
    return this.provider.authorizedScope === 'readonly'
  }

  /** Leaves it. What is not saved by then may be lost. */
  close (): void {
    for (const end of this.#ends) end()
    this.doc.off('update', this.#updated)
    this.provider.destroy()
    this.doc.destroy()
  }

  readonly #updated = (_: Uint8Array, origin: unknown): void => {
    if (origin !== this.provider) this.#change({ saved: false })
  }

  #answered (): void {
    const { ledger } = this.socket
    if (ledger.isRefused(this.name)) {
      this.#change({ rejected: new UsparkError('the server did not take a change of yours: this link may only read', 403) })
    } else if (ledger.isSettled(this.name)) {
      this.#change({ saved: true })
    }
  }

  #change (change: Partial<DocumentState>): void {
    const now = this.state.value
    const keys = Object.keys(change) as Array<keyof DocumentState>
    if (keys.some(key => change[key] !== now[key])) this.state.set({ ...now, ...change })
  }
}
