// An unmodified yjs + y-websocket client, steered by JSON lines. Arguments: the server's URL, a token.
// One process is one client: y-websocket joins the providers of a process behind the server's back.

import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import * as decoding from 'lib0/decoding'
import { serve } from './lines.mjs'
import { documentCommands } from './document.mjs'

const SYNC = 0
const STEP1 = 0
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
        const { type, content } = syncMessage(new Uint8Array(data))
        let has
        if (type === UPDATE) {
          opened.updates.push(content.length)
          has = Y.parseUpdateMeta(content).to
        } else if (type === STEP1) {
          // After a lost connection: what it echoed and we missed.
          has = Y.decodeStateVector(content)
        } else return
        echoed = Math.max(echoed, has.get(opened.doc.clientID) ?? 0)
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
    unsaved: () => `${echoed} of ${Y.getState(opened.doc.store, opened.doc.clientID)}`,
    closed: () => closed,
    disconnect: () => provider.disconnect(),
    reconnect: () => provider.connect(),
    destroy: () => provider.destroy()
  }
}

/** The type and content of a y-protocols sync message; neither for every other message. */
function syncMessage (frame) {
  const decoder = decoding.createDecoder(frame)
  if (decoding.readVarUint(decoder) !== SYNC) return {}
  return { type: decoding.readVarUint(decoder), content: decoding.readVarUint8Array(decoder) }
}

const { commands, end } = documentCommands(connect)
await serve(commands, end)
