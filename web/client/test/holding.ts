import * as decoding from 'lib0/decoding'
import WebSocket from 'ws'

const SYNC_STATUS = 8

/** A kind of WebSocket that keeps what acknowledges changes back while `holds`, until it is let through, and reaches nobody while `away`. */
export function holdingSockets (): { holds: boolean, away: boolean, held: Map<string, Array<() => void>>, WebSocket: typeof WebSocket, cut: () => void } {
  const all = new Set<WebSocket>()
  const sockets = {
    holds: false,
    away: false,
    /** By document, what lets its next acknowledgement through. */
    held: new Map<string, Array<() => void>>(),
    /** Ends every connection, as a network does. */
    cut: () => { for (const socket of all) socket.terminate() },
    WebSocket: class extends WebSocket {
      readonly #listeners: Array<(event: WebSocket.MessageEvent) => void> = []

      constructor (address: string) {
        super(sockets.away ? 'ws://127.0.0.1:1' : address)
        all.add(this)
        super.addEventListener('message', event => {
          const decoder = decoding.createDecoder(new Uint8Array(event.data as ArrayBuffer))
          const name = decoding.readVarString(decoder)
          const pass = (): void => { for (const listener of this.#listeners) listener(event) }
          if (!sockets.holds || decoding.readVarUint(decoder) !== SYNC_STATUS) return pass()
          sockets.held.set(name, [...sockets.held.get(name) ?? [], pass])
        })
      }

      override addEventListener (type: any, listener: any): void {
        if (type === 'message') this.#listeners.push(listener)
        else super.addEventListener(type, listener)
      }
    } as unknown as typeof WebSocket
  }
  return sockets
}
