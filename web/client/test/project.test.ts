import assert from 'node:assert/strict'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { UsparkError, type TreeChange } from '../src/index.ts'
import { TestServer, eventually } from './binaries.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')

test('the tree shows what an agent has on disk, and each change of it', async t => {
  const server = await TestServer.start(t)
  const workspace = await server.watch(t)
  const project = await server.open(t)
  const changes: TreeChange[] = []
  project.tree.subscribe(made => changes.push(...made))
  const has = (what: string, path: string): boolean => changes.some(change => change.what === what && change.path === path)

  await mkdir(join(workspace, 'src'))
  await mkdir(join(workspace, 'empty'))
  await writeFile(join(workspace, 'src/a.txt'), 'one\n')
  await writeFile(join(workspace, 'b.bin'), Buffer.from([0, 255, 1]))
  await eventually('all of it is there', () => has('added', 'src/a.txt') && has('added', 'b.bin') && has('added', 'empty'))
  const { kind, ...text } = project.tree.get('src/a.txt') ?? {}
  assert.equal(kind, 'text')
  assert.match((text as { hash: string }).hash, /^[0-9a-f]{64}$/)
  assert.equal(project.tree.get('b.bin')?.kind, 'binary')
  assert.deepEqual(project.tree.get('empty'), { kind: 'dir' })
  assert.deepEqual([...project.tree].map(([path]) => path).sort(), ['b.bin', 'empty', 'src/a.txt'])

  await rename(join(workspace, 'src/a.txt'), join(workspace, 'src/c.txt'))
  await eventually('it moved', () => has('moved', 'src/c.txt'))
  assert.equal((project.tree.get('src/c.txt') as { doc: string }).doc, (text as { doc: string }).doc)
  await writeFile(join(workspace, 'src/c.txt'), 'one\ntwo\n')
  await eventually('its edit is seen at once', () => has('edited', 'src/c.txt'))
  await eventually('and settles', () => has('settled', 'src/c.txt'))
  assert.equal((project.tree.get('src/c.txt') as { size: number }).size, 8)
  await rm(join(workspace, 'b.bin'))
  await eventually('it is gone', () => has('removed', 'b.bin'))
  assert.equal(project.tree.get('b.bin'), undefined)
})

test('a text is typed into on both sides', async t => {
  const server = await TestServer.start(t)
  const workspace = await server.watch(t)
  const project = await server.open(t)
  await project.writeFile('a.txt', utf8('one\r\nthree\r\n'))
  const on = join(workspace, 'a.txt')
  await eventually('it is on disk', async () => await read(on) === 'one\r\nthree\r\n')

  const open = await project.openText('a.txt')
  assert.equal(open.text.toString(), 'one\r\nthree\r\n')
  open.text.insert(5, 'two\r\n')
  await project.saved()
  await eventually('what was typed is on disk', async () => await read(on) === 'one\r\ntwo\r\nthree\r\n')
  await writeFile(on, 'zero\r\none\r\ntwo\r\nthree\r\n')
  await eventually('what was written is here', () => open.text.toString() === 'zero\r\none\r\ntwo\r\nthree\r\n')
})

test('a text that is open follows a rename, and says when it is deleted or replaced', async t => {
  const server = await TestServer.start(t)
  const workspace = await server.watch(t)
  const project = await server.open(t)
  await project.writeFile('a.txt', utf8('text\n'))
  await eventually('it is on disk', async () => await read(join(workspace, 'a.txt')) === 'text\n')
  const open = await project.openText('a.txt')

  await rename(join(workspace, 'a.txt'), join(workspace, 'b.txt'))
  await eventually('it is at its new path', () => open.path === 'b.txt' && open.state.value.is === 'open')
  open.text.insert(0, 'more ')
  await eventually('what is typed goes there', async () => await read(join(workspace, 'b.txt')) === 'more text\n')
  project.rename('b.txt', 'deep/c.txt')
  assert.deepEqual(open.state.value, { is: 'open', path: 'deep/c.txt' })
  await eventually('a rename here is one there', async () => await read(join(workspace, 'deep/c.txt')) === 'more text\n')

  await rm(join(workspace, 'deep/c.txt'))
  await eventually('its deletion is told', () => open.state.value.is === 'deleted')
  assert.equal(open.text.toString(), 'more text\n')
  open.restore()
  assert.equal(open.state.value.is, 'open')
  await project.saved()
  await eventually('it is back on disk', async () => await read(join(workspace, 'deep/c.txt')) === 'more text\n')

  await writeFile(join(workspace, 'deep/c.txt'), Buffer.from([0, 1, 2]))
  await eventually('that it is no text any more is told', () => open.state.value.is === 'replaced')
  assert.equal(project.tree.get('deep/c.txt')?.kind, 'binary')
})

test('files are written and read byte for byte, and an upload says how far it is', async t => {
  const server = await TestServer.start(t)
  const project = await server.open(t)
  const bytes = new Uint8Array(3_000_000).map((_, at) => (at * 7919) >> 8)
  const told: number[] = []
  const written = await project.upload('big file #1?.bin', bytes, ({ sent, total }) => {
    assert.equal(total, bytes.length)
    assert.equal(project.state.value.saved, false)
    told.push(sent)
  })
  assert.equal(written.kind, 'binary')
  assert.equal(project.state.value.saved, true)
  assert.ok(told.length > 10 && told.at(-1) === bytes.length && told.every((sent, at) => at === 0 || sent > (told[at - 1] ?? 0)))
  assert.deepEqual(await project.readFile('big file #1?.bin'), bytes)
  assert.deepEqual(await project.readVersion(written.hash), bytes)

  const first = await project.writeFile('a.txt', utf8('a\nb\nc\n'), { mode: 0o755 })
  assert.equal(first.mode, 0o755)
  await project.writeFile('a.txt', utf8('A\nb\nc\n'))
  await project.writeFile('a.txt', utf8('a\nb\nC\n'), { base: first.hash })
  assert.deepEqual(await project.readFile('a.txt'), utf8('A\nb\nC\n'))
  await assert.rejects(project.writeFile('a.txt', utf8('new'), { onlyNew: true }), { status: 412 })
  await assert.rejects(project.writeFile('../a', utf8('x')), /cannot be a path/)
  await assert.rejects(project.readFile('not there'), { status: 404 })
  await assert.rejects(project.openText('big file #1?.bin'), /is no text/)

  const archive = new Uint8Array(await (await project.archive()).arrayBuffer())
  assert.deepEqual([...archive.slice(0, 2)], [0x50, 0x4b])
})

test('directories are made, renamed and removed with all that is in them', async t => {
  const server = await TestServer.start(t)
  const project = await server.open(t)
  for (const path of ['src/a.txt', 'src/deep/b.txt', 'srcs.txt']) await project.writeFile(path, utf8(path))
  await eventually('they are there', () => project.tree.size === 3)
  project.makeDirectory('empty')
  const paths = (): string[] => [...project.tree].map(([path]) => path).sort()
  project.rename('src', 'lib/own')
  assert.deepEqual(paths(), ['empty', 'lib/own/a.txt', 'lib/own/deep/b.txt', 'srcs.txt'])
  for (const [from, to] of [['lib', 'lib/in'], ['lib', 'srcs.txt'], ['lib', 'srcs.txt/a'], ['srcs.txt', 'lib'], ['lib', 'a//b']] as const) {
    assert.throws(() => project.rename(from, to), UsparkError, `${from} to ${to}`)
  }
  project.remove('lib/own/deep')
  await project.saved()
  const other = await server.open(t)
  assert.deepEqual([...other.tree].map(([path]) => path).sort(), ['empty', 'lib/own/a.txt', 'srcs.txt'])
  assert.deepEqual(await other.readFile('lib/own/a.txt'), utf8('src/a.txt'))
})

test('two who are in a text see each other', async t => {
  const server = await TestServer.start(t)
  const [one, two] = [await server.open(t), await server.open(t)]
  await one.writeFile('a.txt', utf8('text'))
  const [mine, theirs] = [await one.openText('a.txt'), await two.openText('a.txt')]
  mine.awareness.setLocalStateField('user', { name: 'Ann' })
  one.awareness.setLocalStateField('user', { name: 'Ann' })
  const names = (states: Map<number, { [key: string]: any }>): unknown[] => [...states.values()].map(state => state.user?.name)
  await eventually('in the text', () => names(theirs.awareness.getStates()).includes('Ann'))
  await eventually('and in the project', () => names(two.awareness.getStates()).includes('Ann'))
  mine.close()
  await eventually('who has left is gone', () => !names(theirs.awareness.getStates()).includes('Ann'))
})
