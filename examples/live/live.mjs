#!/usr/bin/env node
// Prints every change of a project as it arrives: live.mjs URL PROJECT TOKEN. Ends when its stdin does.
// Nothing here is special to uspark: it is how any Yjs program reads a project.

import WebSocket from 'ws'
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'

const [, , url, project, token] = process.argv
if (token === undefined) {
  console.error('usage: live.mjs URL PROJECT TOKEN')
  process.exit(2)
}

const start = Date.now()
const say = (path, what) => console.log(`  live ${((Date.now() - start) / 1000).toFixed(3).padStart(8)} s  ${path}: ${what}`)

const open = name => {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(url.replace(/^http/, 'ws') + '/ws', name, doc, {
    params: { token }, WebSocketPolyfill: WebSocket, disableBc: true
  })
  provider.on('closed', ({ code, reason }) => console.error(`  live: ${name} is closed: ${code} ${reason}`))
  return { doc, provider, synced: new Promise(resolve => provider.once('sync', resolve)) }
}

/** Open texts by document id, each with the path it has now: a rename keeps the document. */
const texts = new Map()

async function follow (path, entry) {
  const known = texts.get(entry.doc)
  if (known !== undefined) {
    known.path = path
    return
  }
  const text = { path, ...open(`${project}/${entry.doc}`) }
  texts.set(entry.doc, text)
  await text.synced
  const content = text.doc.getText('content')
  content.observe(event => say(text.path, described(event.delta)))
}

function described (delta) {
  return delta.filter(part => part.retain === undefined)
    .map(part => part.insert !== undefined ? `+ ${JSON.stringify(shortened(part.insert))}` : `- ${part.delete} characters`)
    .join(', ')
}

function shortened (inserted) {
  const text = typeof inserted === 'string' ? inserted : '(no text)'
  return text.length <= 70 ? text : `${text.slice(0, 70)}…`
}

function kind (entry) {
  if (entry.doc !== undefined) return 'a text'
  if (entry.link !== undefined) return `a link to ${entry.link}`
  return entry.dir ? 'an empty directory' : `${entry.size} bytes`
}

const tree = open(project)
await tree.synced
const files = tree.doc.getMap('files')
await Promise.all([...files.entries()].map(([path, entry]) => entry.doc !== undefined && follow(path, entry)))
console.log(`  live: following ${files.size} files of ${project}`)

files.observe(event => {
  for (const [path, { action }] of event.changes.keys) {
    if (action === 'delete') {
      say(path, 'deleted')
      continue
    }
    const entry = files.get(path)
    const moved = entry.doc !== undefined && texts.has(entry.doc) && texts.get(entry.doc).path !== path
    say(path, moved ? `moved from ${texts.get(entry.doc).path}` : `${action === 'add' ? 'new' : 'changed'}, ${kind(entry)}`)
    if (entry.doc !== undefined) follow(path, entry)
  }
})

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
