// A bare WebSocket that sends whatever bytes it is told to, for what no well-behaved client sends. Steered by JSON lines.
// Argument: the server's URL.

import WebSocket from 'ws'
import { serve, until } from './lines.mjs'

const TIMEOUT = 30_000
const [, , url] = process.argv
const sockets = new Map()

await serve({
  open: async ({ socket, path }) => {
    const ws = new WebSocket(url.replace('http', 'ws') + path)
    const state = { ws, received: 0, closed: null, waiting: new Set() }
    const changed = () => { for (const look of [...state.waiting]) look() }
    ws.on('message', () => { state.received += 1; changed() })
    ws.on('close', (code, reason) => { state.closed = { code, reason: reason.toString() }; changed() })
    // A socket that is cut off says so by `close`, too.
    ws.on('error', () => {})
    sockets.set(socket, state)
    await wait(state, () => ws.readyState !== WebSocket.CONNECTING, 'not open')
    if (ws.readyState === WebSocket.CLOSED) throw new Error(`refused: ${JSON.stringify(state.closed)}`)
  },
  // Sends hex bytes, then `zeros` zero bytes, as one binary frame, or a text frame.
  send: ({ socket, hex, zeros, text }) => {
    const { ws } = sockets.get(socket)
    if (text !== undefined) ws.send(text)
    else ws.send(Buffer.concat([Buffer.from(hex, 'hex'), Buffer.alloc(zeros ?? 0)]))
  },
  waitMessages: ({ socket, count }) => {
    const state = sockets.get(socket)
    return wait(state, () => state.received >= count, `${state.received} messages`)
  },
  waitClosed: async ({ socket, timeout }) => {
    const state = sockets.get(socket)
    await wait(state, () => state.closed !== null, 'not closed', timeout)
    return state.closed
  }
}, () => { for (const { ws } of sockets.values()) ws.terminate() })

function wait (state, condition, what, timeout = TIMEOUT) {
  const subscribe = look => {
    state.waiting.add(look)
    state.ws.on('open', look)
    return () => { state.waiting.delete(look); state.ws.off('open', look) }
  }
  return until(condition, subscribe, timeout, () => what)
}
