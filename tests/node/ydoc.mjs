// Y.Docs without any network, steered by JSON lines: makes real updates, and reads them, for requests by curl.
// Bytes are hex in both directions; several documents are held at once, by name.

import * as Y from 'yjs'
import { serve } from './lines.mjs'

const docs = new Map()
const doc = ({ name }) => {
  if (!docs.has(name)) docs.set(name, new Y.Doc())
  return docs.get(name)
}
const hex = bytes => Buffer.from(bytes).toString('hex')

await serve({
  // Sets files[path] for each of `files`. -> the update that does it
  set: request => {
    const before = Y.encodeStateVector(doc(request))
    const map = doc(request).getMap('files')
    doc(request).transact(() => { for (const [path, value] of Object.entries(request.files)) map.set(path, value) })
    return hex(Y.encodeStateAsUpdate(doc(request), before))
  },
  // Makes the text `length` characters longer. -> the update that does it
  grow: request => {
    const before = Y.encodeStateVector(doc(request))
    doc(request).getText('content').insert(0, 'x'.repeat(request.length))
    return hex(Y.encodeStateAsUpdate(doc(request), before))
  },
  apply: request => Y.applyUpdate(doc(request), Buffer.from(request.update, 'hex')),
  // Applies updates one after the other. -> for each what it did to `files`: { path, action, doc } with the document that
  // is named there now, or was
  history: request => request.updates.map(update => {
    const map = doc(request).getMap('files')
    const done = []
    const observe = event => {
      for (const [path, { action, oldValue }] of event.changes.keys) {
        done.push({ path, action, doc: (map.get(path) ?? oldValue)?.doc ?? null })
      }
    }
    map.observe(observe)
    Y.applyUpdate(doc(request), Buffer.from(update, 'hex'))
    map.unobserve(observe)
    return done
  }),
  stateVector: request => Buffer.from(Y.encodeStateVector(doc(request))).toString('base64url'),
  files: request => doc(request).getMap('files').toJSON(),
  texts: request => doc(request).getMap('texts').toJSON()
})
