// An unmodified yjs + y-websocket client, steered by JSON lines. Arguments: the server's URL, a token, and which
// y-websocket: the newest stable one without it.
// One process is one client: y-websocket joins the providers of a process behind the server's back.

import WebSocket from 'ws'
import * as decoding from 'lib0/decoding'
import { serve } from './lines.mjs'
import { documentCommands } from './document.mjs'
import { library } from './libraries.mjs'

const SYNC = 0
const STEP1 = 0
const UPDATE = 2

const [, , url, token, generation] = process.argv
const yjs = await library(generation)
const { Y, WebsocketProvider } = yjs
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
          opened.echoes.push(content)
          has = ends(content)
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
  const clock = () => Y.decodeStateVector(Y.encodeStateVector(opened.doc)).get(opened.doc.clientID) ?? 0
  return {
    awareness: provider.awareness,
    synced: () => provider.synced,
    saved: () => echoed === clock(),
    unsaved: () => `${echoed} of ${clock()}`,
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

/** Up to which clock an update has the elements of each client. */
function ends (update) {
  const ends = new Map()
  for (const { id, length } of Y.decodeUpdate(update).structs) ends.set(id.client, id.clock + length)
  return ends
}

const { commands, end } = documentCommands(connect, yjs)
await serve(commands, end)
