// Very many clients of one server. Steered by JSON lines. Arguments: the server's URL, a token.

import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { serve } from './lines.mjs'

/** "Send me all that you have." */
const STEP1 = Buffer.from([0, 0, 1, 0])
/** How many come at a time. */
const AT_ONCE = 20

const [, , url, token] = process.argv
const place = url.replace('http', 'ws') + '/ws'
const held = []
process.setMaxListeners(0)

/** Calls `visit` with each of `all`, a few at a time. */
async function each (all, visit) {
  const left = [...all]
  const one = async () => { while (left.length > 0) await visit(left.shift()) }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
}

await serve({
  // Opens each document, types a word into it, and leaves it.
  visit: ({ documents, word }) => each(documents, async name => {
    const doc = new Y.Doc()
    const provider = new WebsocketProvider(place, name, doc, { params: { token }, WebSocketPolyfill: WebSocket, disableBc: true })
    await new Promise(resolve => provider.once('sync', resolve))
    doc.getText('content').insert(0, word)
    // In turn: what is answered after it was taken after it.
    await new Promise(resolve => {
      provider.on('sync', isSynced => { if (isSynced) resolve() })
      provider.synced = false
      provider.ws.send(STEP1)
    })
    provider.destroy()
    doc.destroy()
  }),
  // Opens so many sockets at a document, and keeps them. -> once each of them has the document
  hold: ({ document, count }) => each(Array(count).keys(), () => new Promise((resolve, reject) => {
    const socket = new WebSocket(`${place}/${document}?token=${token}`)
    held.push(socket)
    let messages = 0
    socket.on('open', () => socket.send(STEP1))
    socket.on('message', () => { if (++messages === 2) resolve() })
    socket.on('close', code => reject(new Error(`closed with ${code}`)))
  }))
}, () => { for (const socket of held) socket.terminate() })
