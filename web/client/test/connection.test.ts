import assert from 'node:assert/strict'
import { test } from 'node:test'
import WebSocket from 'ws'
import { Server, UsparkError, openProject, until, type ProjectEvent } from '../src/index.ts'
import { TestServer, eventually } from './binaries.ts'
import { holdingSockets } from './holding.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

test('nothing is saved before the server has said so of all of it', async t => {
  const server = await TestServer.start(t)
  const sockets = holdingSockets()
  const project = openProject(server.url, server.project, server.admin, { WebSocket: sockets.WebSocket })
  t.after(() => project.close())
  await project.ready()
  const { doc } = await project.writeFile('a.txt', utf8('text'))
  const open = await project.openText('a.txt')
  await project.saved()

  // What was typed offline is sent change by change, and once more when the server asks: each of that is answered.
  sockets.cut()
  await until(project.state, ({ connection }) => connection === 'offline')
  sockets.holds = true
  for (const word of ['one ', 'two ', 'three ']) open.text.insert(0, word)
  const held = (): Array<() => void> => sockets.held.get(`${server.project}/${doc}`) ?? []
  await eventually('the answers', () => held().length >= 4)
  for (const pass of sockets.held.get(server.project) ?? []) pass()
  while (held().length > 0) {
    assert.equal(open.saved.value, false, `${held().length} answers are missing`)
    assert.equal(project.state.value.saved, false)
    held().shift()?.()
  }
  assert.equal(open.saved.value, true)
  assert.equal(project.state.value.saved, true)

  // A change of the tree counts as one of a text does, and so does what is left unanswered by a server that dies.
  project.makeDirectory('empty')
  open.text.insert(0, 'four ')
  await eventually('the answers', () => held().length === 1 && sockets.held.get(server.project)?.length === 2)
  held().shift()?.()
  assert.equal(open.saved.value, true)
  assert.equal(project.state.value.saved, false)
  await server.kill()
  await until(project.state, ({ connection }) => connection === 'offline')
  assert.equal(project.state.value.saved, false)
  sockets.holds = false
  await server.start()
  await project.saved()
})

test('the saved light is true at every kill while somebody types', async t => {
  const server = await TestServer.start(t)
  const project = await server.open(t)
  await project.writeFile('a.txt', utf8('|'))
  const open = await project.openText('a.txt')
  let typed = 0
  let savedUpTo = 0
  const note = (): void => { if (project.state.value.saved) savedUpTo = typed }
  project.state.subscribe(note)
  for (let round = 0; round < 5; round += 1) {
    for (let at = 0; at < 50; at += 1) {
      open.text.insert(open.text.length, ` w${typed += 1}`)
      note()
      await new Promise(resolve => setImmediate(resolve))
    }
    const promised = savedUpTo
    await server.kill()
    await server.start()
    const response = await fetch(`${server.url}/api/projects/demo/files/a.txt`, { headers: { authorization: `Bearer ${server.admin}` } })
    const words = new Set((await response.text()).split(' '))
    for (let word = 1; word <= promised; word += 1) assert.ok(words.has(`w${word}`), `w${word} of ${promised} is lost`)
    await project.saved()
  }
  assert.equal(savedUpTo, typed)
})

test('what was done offline arrives, also in a text that was closed', async t => {
  const server = await TestServer.start(t)
  const project = await server.open(t)
  for (const path of ['a.txt', 'b.txt', 'c.txt']) await project.writeFile(path, utf8('text'))
  const [a, b] = [await project.openText('a.txt'), await project.openText('b.txt')]
  await server.kill()
  await until(project.state, ({ connection }) => connection === 'offline')
  a.text.insert(0, 'offline ')
  b.text.insert(0, 'closed ')
  b.close()
  project.rename('c.txt', 'd.txt')
  await assert.rejects(project.readFile('a.txt'), { status: 0 })
  assert.equal(project.state.value.saved, false)

  await server.start()
  await until(project.state, ({ connection, saved }) => connection === 'connected' && saved)
  const other = await server.open(t)
  assert.equal((await other.openText('a.txt')).text.toString(), 'offline text')
  assert.equal((await other.openText('b.txt')).text.toString(), 'closed text')
  assert.equal((await other.openText('d.txt')).text.toString(), 'text')
})

test('a text that was deleted while one was away comes back with what was typed there, or when it is put back', async t => {
  const server = await TestServer.start(t)
  const sockets = holdingSockets()
  const project = openProject(server.url, server.project, server.admin, { WebSocket: sockets.WebSocket })
  t.after(() => project.close())
  const other = await server.open(t)
  for (const path of ['a.txt', 'b.txt']) await other.writeFile(path, utf8('text'))
  const [typed, read] = [await project.openText('a.txt'), await project.openText('b.txt')]
  sockets.away = true
  sockets.cut()
  await until(project.state, ({ connection }) => connection === 'offline')
  typed.text.insert(0, 'offline ')
  for (const path of ['a.txt', 'b.txt']) other.remove(path)
  await other.saved()
  sockets.away = false
  // However often it is asked to come back, it does.
  for (let ask = 0; ask < 5; ask += 1) project.retry()
  await project.saved()
  await until(read.state, ({ is }) => is === 'deleted')
  await until(typed.state, ({ is }) => is === 'open')
  assert.equal(new TextDecoder().decode(await other.readFile('a.txt')), 'offline text')

  read.restore()
  read.text.insert(0, 'more ')
  await project.saved()
  assert.deepEqual(read.state.value, { is: 'open', path: 'b.txt' })
  assert.equal(new TextDecoder().decode(await other.readFile('b.txt')), 'more text')
})

test('events go on over a restart, each once and in order', async t => {
  const server = await TestServer.start(t)
  const project = await server.open(t)
  const seen: ProjectEvent[] = []
  const connected: boolean[] = []
  const stop = new AbortController()
  const reading = (async () => {
    for await (const event of project.events({ signal: stop.signal, onConnection: is => connected.push(is) })) seen.push(event)
  })()
  await project.writeFile('a.bin', new Uint8Array([0]))
  await eventually('the first', () => seen.length === 1)
  await server.kill()
  await eventually('it is noticed', () => connected.at(-1) === false)
  await server.start()
  await project.writeFile('b.bin', new Uint8Array([0]))
  await project.writeFile('c.bin', new Uint8Array([0]))
  await eventually('the others', () => seen.length === 3)
  assert.deepEqual(seen.map(event => [event.number, event.what, 'path' in event && event.path]),
    [[1, 'created', 'a.bin'], [2, 'created', 'b.bin'], [3, 'created', 'c.bin']])

  const later: number[] = []
  for await (const event of project.events({ after: seen[0]?.id ?? '' })) {
    later.push(event.number)
    if (event.number === 3) break
  }
  assert.deepEqual(later, [2, 3])
  for (const [last, first] of [[2, 2], [3, 1], [9, 1]] as const) {
    for await (const event of project.events({ last })) {
      assert.equal(event.number, first)
      break
    }
  }
  stop.abort()
  await reading
})

test('a token that is revoked says so, and is not tried again', async t => {
  const server = await TestServer.start(t)
  const { id, token } = await server.token('write')
  const project = await server.open(t, token)
  await project.writeFile('a.txt', utf8('text'))
  const open = await project.openText('a.txt')
  const watching = (async () => { for await (const _ of project.events()) { /* until it is refused */ } })()
  const ended = assert.rejects(watching, { status: 401 })
  await new Server(server.url, server.admin).revokeToken(id)
  const { why } = await until(project.state, ({ connection }) => connection === 'refused')
  assert.match(why?.message ?? '', /revoked/)
  await ended
  open.text.insert(0, 'late ')
  await assert.rejects(project.saved(), UsparkError)
  await assert.rejects(project.writeFile('b.txt', utf8('x')), { status: 401 })
  assert.equal(project.state.value.saved, false)

  const again = openProject(server.url, server.project, token, { WebSocket })
  t.after(() => again.close())
  await assert.rejects(again.ready(), /revoked/)
  const none = openProject(server.url, 'no-such-project', server.admin, { WebSocket })
  t.after(() => none.close())
  await assert.rejects(none.ready(), /there is no project here/)
})

test('who may only read is told so, whatever they try', async t => {
  const server = await TestServer.start(t)
  const writer = await server.open(t)
  await writer.writeFile('a.txt', utf8('text'))
  const reader = await server.open(t, (await server.token('read')).token)
  assert.equal(reader.state.value.readOnly, true)
  assert.equal(writer.state.value.readOnly, false)
  await assert.rejects(reader.writeFile('b.txt', utf8('x')), /may only read/)
  for (const attempt of [() => reader.rename('a.txt', 'b.txt'), () => reader.remove('a.txt'), () => reader.makeDirectory('d')]) {
    assert.throws(attempt, /may only read/)
  }
  assert.deepEqual(await reader.readFile('a.txt'), utf8('text'))
  const open = await reader.openText('a.txt')
  await (async () => { const mine = await writer.openText('a.txt'); mine.text.insert(0, 'live '); await writer.saved() })()
  await eventually('they see what is typed', () => open.text.toString() === 'live text')

  // An editor that does not ask first: the change is not taken, and never called saved.
  open.text.insert(0, 'mine ')
  const state = await until(open.state, ({ is }) => is === 'refused')
  assert.match(state.is === 'refused' ? state.why.message : '', /may only read/)
  assert.equal(open.saved.value, false)
  await assert.rejects(reader.saved(), /may only read/)
  assert.deepEqual(await writer.readFile('a.txt'), utf8('live text'))
})

test('a server lists its projects, makes one, and mints links to it', async t => {
  const server = await TestServer.start(t)
  const admin = new Server(server.url, server.admin)
  assert.deepEqual((await admin.token()).project, null)
  for (let at = 0; at < 3; at += 1) await admin.createProject({ id: `p${at}` })
  const ids = []
  for await (const { id } of admin.projects()) ids.push(id)
  assert.deepEqual(ids.sort(), ['demo', 'p0', 'p1', 'p2'])
  const link = await admin.mintToken({ project: 'p1', access: 'read', expiresIn: 60 })
  const { project, access } = await new Server(server.url, link.token).token()
  assert.deepEqual({ project, access }, { project: 'p1', access: 'read' })
  await assert.rejects(new Server(server.url, link.token).createProject({}), { status: 403 })
})
