// Prints what the real clients put on the wire, for bytes.txt. Run once, where yjs,
// y-protocols, lib0 and @hocuspocus/provider (with @hocuspocus/common) are installed:
//   node record.mjs > bytes.txt
import { createRequire } from 'node:module'
const require = createRequire(process.cwd() + '/')
const Y = require('yjs')
const encoding = require('lib0/encoding')
const sync = require('y-protocols/sync')
const auth = require('y-protocols/auth')
const awareness = require('y-protocols/awareness')
const common = require('@hocuspocus/common')
const { HocuspocusProvider, HocuspocusProviderWebsocket } = require('@hocuspocus/provider')

const version = name => `${name} ${require(name + '/package.json').version}`
const record = (name, bytes) => console.log(name, Buffer.from(bytes).toString('hex'))
const write = fill => { const e = encoding.createEncoder(); fill(e); return encoding.toUint8Array(e) }
const docOf = clientID => { const doc = new Y.Doc(); doc.clientID = clientID; return doc }
const updatesOf = doc => { const all = []; doc.on('update', u => all.push(u)); return all }

console.log('# Printed by record.mjs under', ['yjs', 'lib0', 'y-protocols'].map(version).join(', ') + ',')
console.log('# @hocuspocus/provider 4.8.0. A name, and the bytes in hex.')

// Updates: text
const a = docOf(11)
const text = a.getText('content')
const edits = updatesOf(a)
text.insert(0, 'héllo 😀\n')
text.insert(7, 'x')
text.delete(0, 2)
text.format(0, 2, { bold: true, href: { u: ['a'] } })
text.insertEmbed(1, { image: 'i.png' })
for (const name of ['insert', 'split_pair', 'delete', 'format', 'embed']) record('text_' + name, edits.shift())
record('text_state', Y.encodeStateAsUpdate(a))

// Updates: a project document
const p = docOf(4294967295)
const files = p.getMap('files')
const sets = updatesOf(p)
const entry = (mode, mtime) => ({ doc: 'd1', seed: 'aa', mode, mtime })
files.set('a.txt', entry(420, 1732166400123))
files.set('a.txt', entry(493, 1732166400124))
files.delete('a.txt')
p.transact(() => {
  files.set('x', [1, -1, 1.5, 2 ** 40, 'é', true, null, undefined, 123n, new Uint8Array([1, 2]), { n: {} }])
  files.set('bin', new Uint8Array([9]))
})
for (const name of ['set', 'replace', 'delete', 'any']) record('map_' + name, sets.shift())
record('map_state', Y.encodeStateAsUpdate(p))

// Updates: every shared type, a subdocument, collected garbage, a hole, two authors
const n = docOf(300)
const m = n.getMap('m')
n.transact(() => {
  m.set('arr', new Y.Array()); m.set('map', new Y.Map()); m.set('text', new Y.Text('t'))
  m.set('el', new Y.XmlElement('p')); m.set('frag', new Y.XmlFragment()); m.set('xt', new Y.XmlText('z'))
  m.set('sub', new Y.Doc({ guid: 'sub-1', autoLoad: true }))
  m.get('arr').push([1, 'two']); m.get('arr').insert(0, [new Y.Map()]); m.get('map').set('k', 'v')
})
record('nested', Y.encodeStateAsUpdate(n))
m.delete('arr')
record('gc', Y.encodeStateAsUpdate(n))

const s = docOf(77)
const typed = updatesOf(s)
for (const letter of 'abc') s.getText('content').insert(0, letter)
record('merged_with_hole', Y.mergeUpdates([typed[0], typed[2]]))

const b = docOf(12)
Y.applyUpdate(b, Y.encodeStateAsUpdate(a))
b.getText('content').insert(3, 'B'); b.getText('content').delete(0, 1)
record('two_clients', Y.encodeStateAsUpdate(b))
record('diff', Y.encodeStateAsUpdate(b, Y.encodeStateVector(a)))
record('empty_update', Y.encodeStateAsUpdate(new Y.Doc()))
record('state_vector', Y.encodeStateVector(b))

// Updates that are not supported
const h = docOf(5)
h.getMap('m').set('h', new Y.XmlHook('hk')); h.getMap('m').set('after', 1)
record('xml_hook', Y.encodeStateAsUpdate(h))
const legacy = new Y.UpdateEncoderV1()
encoding.writeVarUint(legacy.restEncoder, 1); encoding.writeVarUint(legacy.restEncoder, 1)
legacy.writeClient(6); encoding.writeVarUint(legacy.restEncoder, 0)
const content = new Y.ContentJSON([{ a: 1 }, undefined])
new Y.Item(Y.createID(6, 0), null, null, null, null, 'arr', null, content).write(legacy, 0)
encoding.writeVarUint(legacy.restEncoder, 0)
const relay = docOf(66)
Y.applyUpdate(relay, legacy.toUint8Array())
record('legacy_json', Y.encodeStateAsUpdate(relay))

// y-websocket frames
const ws = (name, type, fill) => record('ws_' + name, write(e => { encoding.writeVarUint(e, type); fill(e) }))
ws('step1', 0, e => sync.writeSyncStep1(e, b))
ws('step2', 0, e => sync.writeSyncStep2(e, new Y.Doc()))
ws('update', 0, e => sync.writeUpdate(e, new Uint8Array([0, 1, 11, 1, 0, 2])))
const here = new awareness.Awareness(b)
here.setLocalState({ user: { name: 'Ä😀', half: '\ud83d' }, cursor: null })
record('awareness', awareness.encodeAwarenessUpdate(here, [12]))
ws('awareness', 1, e => encoding.writeVarUint8Array(e, awareness.encodeAwarenessUpdate(here, [12])))
here.setLocalState(null)
record('awareness_gone', awareness.encodeAwarenessUpdate(here, [12]))
here.destroy()
ws('denied', 2, e => auth.writePermissionDenied(e, 'read only'))
ws('query', 3, () => {})

// Hocuspocus frames: what the real provider hands to its socket
const sent = []
const socket = { status: 'connected', configuration: {}, on () {}, off () {}, attach () {}, detach () {}, send: bytes => sent.push(bytes) }
const c = docOf(21)
c.getText('content').insert(0, 'hi')
const provider = new HocuspocusProvider({ websocketProvider: socket, name: 'p/doc', document: c, token: 'uspk_x' })
provider.attach()
const collab = (...names) => { for (const name of names) record('client_' + name, sent.shift()) }
sent.length = 0
await provider.onOpen({})
collab('token', 'step1', 'awareness')
c.getText('content').insert(2, '!')
collab('update')
provider.sendStateless('{"follow":"texts"}')
collab('stateless')
provider.configuration.sessionAwareness = true
provider.sessionId = 'sess1'
provider.sendStateless('s')
collab('session')
provider.configuration.sessionAwareness = false

// Hocuspocus frames: what its server sends, and what the provider answers
const server = (name, type, fill) => {
  const frame = write(e => { encoding.writeVarString(e, 'p/doc'); encoding.writeVarUint(e, type); fill(e) })
  if (name) record('server_' + name, frame)
  return frame
}
server('token_request', 2, e => common.writeTokenSyncRequest(e))
server('denied', 2, e => common.writePermissionDenied(e, 'no'))
server('granted', 2, e => common.writeAuthenticated(e, 'read-write'))
server('readonly', 2, e => common.writeAuthenticated(e, 'readonly'))
provider.onMessage({ data: server('step1', 0, e => sync.writeSyncStep1(e, new Y.Doc())) })
collab('step2')
provider.onMessage({ data: server(null, 3, () => {}) })
collab('query_answer')
const transport = HocuspocusProviderWebsocket.prototype
transport.detach.call({ configuration: { providerMap: new Map([['p/doc', provider]]) } }, provider)
collab('close')
transport.sendPong.call(socket)
collab('pong')
process.exit(0)
