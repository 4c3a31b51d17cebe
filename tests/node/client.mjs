// An unmodified yjs + y-websocket client, steered by JSON lines. Arguments: the server's URL, a token.
// One process is one client: y-websocket joins the providers of a process behind the server's back.

import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import * as decoding from 'lib0/decoding'
import { serve } from './lines.mjs'
import { documentCommands } from './document.mjs'

const SYNC = 0
const UPDATE = 2

const [, , url, token] = process.argv
const params = token === undefined ? {} : { token }

function connect (opened) {
  /** Our own clock up to which the server has echoed our updates: it does so once they are on its disk. */
  let echoed = 0
  let closed = null

  class ListeningSocket extends WebSocket {
    constructor (...args) {
      super(...args)
      this.on('message', data => {
        const update = updateIn(new Uint8Array(data))
        if (update === null) return
        opened.updates.push(update.length)
        echoed = Math.max(echoed, Y.parseUpdateMeta(update).to.get(opened.doc.clientID) ?? 0)
        opened.changed()
      })
    }
  }

  const provider = new WebsocketProvider(url.replace('http', 'ws') + '/ws', opened.name, opened.doc, {
    params, WebSocketPolyfill: ListeningSocket, disableBc: true
  })
  provider.on('closed', event => { closed = { code: event.code, reason: event.reason } })
  provider.on('connection-close', () => { opened.closes += 1 })
  for (const event of ['sync', 'status', 'closed']) provider.on(event, () => opened.changed())
  return {
    synced: () => provider.synced,
    saved: () => echoed === Y.getState(opened.doc.store, opened.doc.clientID),
    closed: () => closed,
    disconnect: () => provider.disconnect(),
    reconnect: () => provider.connect(),
    destroy: () => provider.destroy()
  }
}

/** The Yjs update in a y-protocols Update message; null for every other message. */
function updateIn (frame) {
  const decoder = decoding.createDecoder(frame)
  if (decoding.readVarUint(decoder) !== SYNC || decoding.readVarUint(decoder) !== UPDATE) return null
  return decoding.readVarUint8Array(decoder)
}

const { commands, end } = documentCommands(connect)
await serve(commands, end)
