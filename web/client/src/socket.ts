import { HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { UsparkError } from './error.ts'
import { Ledger } from './ledger.ts'
import { Listeners } from './observable.ts'

/** Milliseconds before the first attempt to come back, and between later ones at most. */
const FIRST_DELAY = 250
const LAST_DELAY = 5000

/** Close codes after which coming back is of no use. */
const FINAL = new Set([4400, 4401, 4403, 4404, 4413])

/** The one socket of a project, to `/collab`: it comes back by itself until it is refused or closed. */
export class Socket {
  readonly ledger = new Ledger()
  readonly provider: HocuspocusProviderWebsocket
  /** The socket is gone. */
  readonly lost = new Listeners<void>()
  /** The server will not have it back. */
  readonly refused = new Listeners<UsparkError>()

  constructor (server: string, Base: typeof WebSocket) {
    this.provider = new HocuspocusProviderWebsocket({
      url: server.replace(/^http/, 'ws') + '/collab',
      WebSocketPolyfill: noted(Base, this.ledger),
      delay: FIRST_DELAY,
      minDelay: FIRST_DELAY,
      maxDelay: LAST_DELAY
    })
    this.provider.on('close', ({ event }: { event: { code?: number, reason?: string } }) => {
      this.lost.tell()
      if (event.code === undefined || !FINAL.has(event.code)) return
      this.stop()
      this.refused.tell(new UsparkError(event.reason || 'the server refused this', event.code))
    })
  }

  /** Tries now, rather than when the next attempt is due. Does nothing when the socket is there. */
  retry (): void {
    if (this.provider.shouldConnect && this.provider.status === 'disconnected') void this.provider.connect()
  }

  /** Stays away. */
  stop (): void {
    this.provider.disconnect()
  }

  /** Ends it for good. */
  close (): void {
    this.provider.destroy()
  }
}

/** A WebSocket whose frames are noted in a ledger. */
function noted (Base: typeof WebSocket, ledger: Ledger): typeof WebSocket {
  return class extends Base {
    readonly #carried = ledger.begin()

    constructor (...args: ConstructorParameters<typeof WebSocket>) {
      super(...args)
      // Before the provider's own listener, which may answer at once.
      this.addEventListener('message', event => { this.#carried.received(event.data) })
    }

    override send (data: Parameters<WebSocket['send']>[0]): void {
      this.#carried.sent(data)
      super.send(data)
    }
  }
}
