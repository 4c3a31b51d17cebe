// Many unmodified yjs + y-websocket writers, and one that puts files, at a server that is killed: what was acknowledged is
// remembered, and looked for when the server is back. Steered by JSON lines. Arguments: the server's URL, a token.
// A word is put in whole, between others; an update is acknowledged when the server sends its very bytes back.

import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import * as decoding from 'lib0/decoding'
import { createHash } from 'node:crypto'
import { serve, numbers } from './lines.mjs'

const SYNC = 0
const UPDATE = 2
const [, , url, token] = process.argv
// Every provider listens for the end of the process.
process.setMaxListeners(0)

/** Of each document: what its words are, `saved`, or `sent` while nobody knows; a deletion that is sent is `leaving`. */
const documents = new Map()
/** The files whose PUT was acknowledged and that were not read since: path -> their hash. */
const files = new Map()
let round = null

/** One writer at one document, for one round. */
class Writer {
  constructor (name, label, random) {
    Object.assign(this, { name, label, random, sent: new Map(), own: [], words: 0 })
    const writer = this
    class ListeningSocket extends WebSocket {
      constructor (...args) {
        super(...args)
        writer.closed = new Promise(resolve => this.on('close', resolve))
        this.on('message', data => writer.heard(new Uint8Array(data)))
      }
    }
    this.doc = new Y.Doc()
    this.text = this.doc.getText('content')
    this.provider = new WebsocketProvider(url.replace('http', 'ws') + '/ws', name, this.doc, {
      params: { token }, WebSocketPolyfill: ListeningSocket, disableBc: true
    })
    this.provider.once('sync', () => { this.typed = this.type() })
  }

  /** An echo makes what was sent true. */
  heard (frame) {
    const decoder = decoding.createDecoder(frame)
    if (decoding.readVarUint(decoder) !== SYNC || decoding.readVarUint(decoder) !== UPDATE) return
    const key = Buffer.from(decoding.readVarUint8Array(decoder)).toString('base64')
    const acknowledged = this.sent.get(key)
    if (acknowledged === undefined) return
    this.sent.delete(key)
    round.saved += 1
    acknowledged()
  }

  async type () {
    const known = documents.get(this.name)
    compare(this.name, this.text.toString())
    this.doc.on('update', (update, origin) => {
      if (origin === this) this.sent.set(Buffer.from(update).toString('base64'), this.acknowledged)
    })
    while (!round.over) {
      const word = this.own.length > 3 && this.random() < 0.2
        ? this.own.splice(Math.floor(this.random() * this.own.length), 1)[0]
        : `<${this.label}.${this.words++}${'-'.repeat(this.random() ** 8 * 2000)}>`
      if (known.has(word)) {
        known.set(word, 'leaving')
        this.acknowledged = () => known.delete(word)
        this.doc.transact(() => this.text.delete(this.text.toString().indexOf(word), word.length), this)
      } else {
        known.set(word, 'sent')
        this.own.push(word)
        // What is deleted before its word is known to be saved stays `leaving`.
        this.acknowledged = () => { if (known.get(word) === 'sent') known.set(word, 'saved') }
        const content = this.text.toString()
        const after = content.indexOf('>', Math.floor(this.random() * content.length))
        this.doc.transact(() => this.text.insert(after + 1, word), this)
      }
      await new Promise(resolve => setTimeout(resolve, this.random() * 4))
    }
  }

  end () {
    this.provider.destroy()
    this.doc.destroy()
  }
}

/** Compares a document with what is known of it from earlier rounds, and takes as true what nobody knew. */
function compare (name, content) {
  const known = documents.get(name)
  const parts = content.match(/<[^<>]*>/g) ?? []
  const there = new Set(parts)
  const wrong = what => round.wrong.push(`${name}: ${what}`)
  if (parts.join('') !== content) wrong('something is torn')
  if (there.size !== parts.length) wrong('something is there twice')
  const isOld = word => !word.startsWith(`<${round.number}.`)
  for (const [word, state] of known) {
    if (!isOld(word)) continue
    if (there.has(word)) known.set(word, 'saved')
    else if (state === 'saved') wrong(`${word} is lost`)
    else known.delete(word)
  }
  for (const word of there) {
    if (isOld(word) && !known.has(word)) wrong(`${word} was deleted, or never written`)
  }
  round.compared += 1
}

/** Puts new files, one after the other, small ones and such as have a file of their own on the server. */
async function put (project, random) {
  for (let number = 0; !round.over; number++) {
    const path = `${project}/files/${round.number}/${number}`
    const body = Buffer.alloc(random() < 0.1 ? 200_000 : Math.floor(random() * 3_000), `${path} ${random()}\n`)
    const reply = await request(path, { method: 'PUT', body })
    if (!reply) return
    if (reply.status !== 200) round.wrong.push(`PUT ${path}: ${reply.status}`)
    files.set(path, hash(body))
    round.saved += 1
  }
}

/** Looks for every file that was put in earlier rounds. */
async function look () {
  for (const [path, expected] of [...files]) {
    const reply = await request(path, {})
    if (!reply) return
    if (reply.status !== 200 || hash(reply.body) !== expected) round.wrong.push(`GET ${path}: ${reply.status}`)
    files.delete(path)
  }
}

/** The whole answer; nothing once the server is gone. */
async function request (path, options) {
  try {
    const headers = { authorization: `Bearer ${token}` }
    const reply = await fetch(`${url}/api/projects/${path}`, { ...options, headers, signal: round.gone.signal })
    return { status: reply.status, body: Buffer.from(await reply.arrayBuffer()) }
  } catch {
    return null
  }
}

const hash = bytes => createHash('sha256').update(bytes).digest('hex')

await serve({
  // Everybody begins to write, at documents that nobody but these writers ever wrote to.
  begin: ({ number, seed, project, names, writers }) => {
    const random = numbers(seed)
    round = { number, over: false, gone: new AbortController(), saved: 0, compared: 0, wrong: [] }
    round.writers = names.flatMap(name => {
      if (!documents.has(name)) documents.set(name, new Map())
      return Array.from({ length: writers }, (_, n) => new Writer(name, `${number}.${n}`, numbers(random() * 2 ** 32)))
    })
    round.files = look().then(() => put(project, numbers(random() * 2 ** 32)))
  },
  // After the server was killed: what its last words say counts.
  // -> how many updates and files were acknowledged, how many documents were compared, what was wrong
  stop: async () => {
    round.over = true
    await Promise.all(round.writers.map(writer => writer.closed))
    round.gone.abort()
    for (const writer of round.writers) writer.end()
    await Promise.all([round.files, ...round.writers.map(writer => writer.typed)])
    const { saved, compared, wrong } = round
    return { saved, compared, wrong }
  },
  // Compares every document that there ever was. -> how many words they have, what was wrong
  compareAll: async () => {
    round = { number: -1, gone: new AbortController(), compared: 0, wrong: [] }
    await look()
    let words = 0
    for (const [name, known] of documents) {
      const doc = new Y.Doc()
      const provider = new WebsocketProvider(url.replace('http', 'ws') + '/ws', name, doc, {
        params: { token }, WebSocketPolyfill: WebSocket, disableBc: true
      })
      await new Promise(resolve => provider.once('sync', resolve))
      compare(name, doc.getText('content').toString())
      words += known.size
      provider.destroy()
    }
    return { words, documents: documents.size, wrong: round.wrong, unread: files.size }
  }
})
