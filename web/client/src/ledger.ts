import { MessageType } from '@hocuspocus/provider'
import * as decoding from 'lib0/decoding'
import { messageYjsSyncStep2, messageYjsUpdate } from 'y-protocols/sync'
import { Listeners } from './observable.ts'

/** What a socket carried for one document. */
interface Account { step2: boolean, sent: number, answered: number, refused: boolean }

/** What one socket carries, frame by frame. */
export interface Carried {
  /** Takes note of a frame that is sent. */
  sent: (frame: unknown) => void
  /** Takes note of a frame that has come. */
  received: (frame: unknown) => void
}

/**
 * Counts, on the socket that is open now, what was sent of each document and what the server said is on its disk.
 *
 * The provider has a counter of its own, but any acknowledgement lowers that, also one of something else: after a
 * reconnect it reaches zero while edits are still under way. The server answers each update and each SyncStep2, in
 * order, so here both are counted. Only headers of frames are read.
 */
export class Ledger {
  #accounts = new Map<string, Account>()

  /** A document's name, when the server has answered something of it. */
  readonly answered = new Listeners<string>()
  /** A document's name, when somebody else's update of it has come. */
  readonly updated = new Listeners<string>()

  /** Begins anew, with a new socket: what an older one still says is of no account. */
  begin (): Carried {
    const accounts = this.#accounts = new Map<string, Account>()
    const ifCurrent = (note: (header: Header) => void) => (frame: unknown) => {
      const header = accounts === this.#accounts ? read(frame) : undefined
      if (header !== undefined) note(header)
    }
    return { sent: ifCurrent(header => this.#sent(header)), received: ifCurrent(header => this.#received(header)) }
  }

  /** Forgets a document that is opened anew. */
  forget (name: string): void {
    this.#accounts.delete(name)
  }

  /**
   * Whether everything is acknowledged that the document had when this is called: the server has asked for it on this
   * socket, was given it, and has answered that and all that followed.
   */
  isSettled (name: string): boolean {
    const account = this.#accounts.get(name)
    return account !== undefined && account.step2 && !account.refused && account.answered === account.sent
  }

  /** Whether the server refused an update on this socket. */
  isRefused (name: string): boolean {
    return this.#accounts.get(name)?.refused ?? false
  }

  #sent (header: Header): void {
    if (!isContent(header)) return
    const account = this.#of(header.name)
    account.sent += 1
    if (header.detail === messageYjsSyncStep2) account.step2 = true
  }

  #received ({ name, type, detail }: Header): void {
    if (type === MessageType.SyncStatus) {
      const account = this.#of(name)
      account.answered += 1
      if (detail === 0) account.refused = true
      this.answered.tell(name)
    } else if (type === MessageType.Sync && detail === messageYjsUpdate) {
      this.updated.tell(name)
    }
  }

  #of (name: string): Account {
    const account = this.#accounts.get(name) ?? { step2: false, sent: 0, answered: 0, refused: false }
    this.#accounts.set(name, account)
    return account
  }
}

interface Header { name: string, type: number, detail: number }

function isContent ({ type, detail }: Header): boolean {
  return type === MessageType.Sync && (detail === messageYjsSyncStep2 || detail === messageYjsUpdate)
}

/** A frame's document, type, and the number behind it (of a sync message its kind, of a status its meaning). */
function read (frame: unknown): Header | undefined {
  const bytes = frame instanceof ArrayBuffer ? new Uint8Array(frame) : frame
  // Shorter is a ping, or its answer.
  if (!(bytes instanceof Uint8Array) || bytes.length < 3) return undefined
  const decoder = decoding.createDecoder(bytes)
  const name = decoding.readVarString(decoder)
  const type = decoding.readVarUint(decoder)
  const hasDetail = type === MessageType.Sync || type === MessageType.SyncStatus
  return { name, type, detail: hasDetail ? decoding.readVarUint(decoder) : -1 }
}
