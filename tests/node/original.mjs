// A client of the original protocol, which knows a manifest and blobs and nothing else: it fetches the project's Y.Doc,
// POSTs a file's bytes, sets files[path] = { hash, mtime } and PATCHes the update. Steered by JSON lines.
// Arguments: the server's URL, a token. Several copies of a project may be held at once, by name.

import * as Y from 'yjs'
import { serve } from './lines.mjs'

const [, , url, token] = process.argv
const headers = { authorization: `Bearer ${token}` }
const copies = new Map()

await serve({
  // GET the project into `copy`: all of it, or by ?sv= what the copy does not have yet. -> { version, files, texts, bytes }
  get: async ({ project, copy }) => {
    const known = copies.get(copy)
    const doc = known?.doc ?? new Y.Doc()
    const query = known === undefined ? '' : `?sv=${Buffer.from(Y.encodeStateVector(doc)).toString('base64url')}`
    const reply = await request('GET', `/api/projects/${project}${query}`)
    const update = new Uint8Array(await reply.arrayBuffer())
    Y.applyUpdate(doc, update)
    const version = reply.headers.get('x-version')
    copies.set(copy, { project, doc, version })
    return { version, files: doc.getMap('files').toJSON(), texts: doc.getMap('texts').toJSON(), bytes: update.length }
  },

  // POST bytes as a blob. -> { hash, size }
  post: async ({ project, text }) => {
    const reply = await request('POST', `/api/blobs?project=${project}`, Buffer.from(text))
    return await reply.json()
  },

  // Set files[path] in the copy and PATCH the update, naming the copy's version or not. -> the new version
  patch: async ({ copy, path, value, named }) => {
    const { project, doc, version } = copies.get(copy)
    const before = Y.encodeStateVector(doc)
    doc.getMap('files').set(path, value)
    const update = Y.encodeStateAsUpdate(doc, before)
    const reply = await request('PATCH', `/api/projects/${project}`, update, named ? { 'x-version': version } : {})
    return reply.headers.get('x-version')
  }
})

async function request (method, path, body, more = {}) {
  const type = body === undefined ? {} : { 'content-type': 'application/octet-stream' }
  const reply = await fetch(url + path, { method, body, headers: { ...headers, ...type, ...more } })
  if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${await reply.text()}`)
  return reply
}
