import type { Entry } from '@uspark/client'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { find, hasWords } from '../src/find.ts'
import { Outline } from '../src/outline.ts'

const file: Entry = { kind: 'link', target: 'x' }

function outline (...paths: string[]): Outline {
  const made = new Outline()
  for (const path of paths) made.set(path, path.endsWith('/') ? { kind: 'dir' } : file)
  return made
}

const shown = (made: Outline, isOpen = (_: string): boolean => true, matches?: (path: string) => boolean): string[] =>
  made.rows(isOpen, matches).map(({ node, level, isDirectory, position, siblings }) => `${'  '.repeat(level - 1)}${node.name}${isDirectory ? '/' : ''} ${position}/${siblings}`)

test('directories come first, names as people count, and each knows its place', () => {
  assert.deepEqual(shown(outline('b.txt', 'a10', 'a2', 'src/z/q', 'src/a', 'B')), [
    'src/ 1/5', '  z/ 1/2', '    q 1/1', '  a 2/2', 'a2 2/5', 'a10 3/5', 'B 4/5', 'b.txt 5/5'
  ])
})

test('what is closed is not looked into', () => {
  assert.deepEqual(shown(outline('src/a/x', 'src/b', 'c'), path => path === 'src'), ['src/ 1/2', '  a/ 1/2', '  b 2/2', 'c 2/2'])
})

test('a filter shows what it matches, with the directories above it', () => {
  const made = outline('src/a/parser.rs', 'src/b/lexer.rs', 'docs/Parser notes.md', 'x')
  assert.deepEqual(shown(made, () => false, hasWords('PARSER  s')), ['docs/ 1/3', '  Parser notes.md 1/1', 'src/ 2/3', '  a/ 1/2', '    parser.rs 1/1'])
  assert.deepEqual(shown(made, () => false, hasWords('nothing')), [])
})

test('directories go with the last file in them, those of their own stay', () => {
  const made = new Outline()
  for (const path of ['a/b/c', 'a/b/d', 'e/f']) made.set(path, file)
  made.set('e', { kind: 'dir' })
  for (const path of ['a/b/c', 'e/f', 'not/there']) made.delete(path)
  assert.deepEqual(shown(made), ['a/ 1/2', '  b/ 1/1', '    d 1/1', 'e/ 2/2'])
  made.delete('a/b/d')
  assert.deepEqual(shown(made), ['e/ 1/1'])
})

test('what becomes a directory, or a file, is sorted as one', () => {
  const made = outline('a', 'b', 'c')
  made.rows(() => true)
  made.set('c', { kind: 'dir' })
  assert.deepEqual(shown(made), ['c/ 1/3', 'a 2/3', 'b 3/3'])
  made.set('c', file)
  assert.deepEqual(shown(made), ['a 1/3', 'b 2/3', 'c 3/3'])
  made.set('b/x', file)
  assert.deepEqual(shown(made), ['b/ 1/3', '  x 1/1', 'a 2/3', 'c 3/3'])
})

test('ten thousand files are put up and looked at in a moment', () => {
  const made = new Outline()
  const begin = performance.now()
  for (let at = 0; at < 10_000; at += 1) made.set(`d${at % 100}/e${at % 7}/file-${at}.ts`, file)
  assert.equal(made.rows(() => true).length, 10_000 + 100 + 700)
  assert.ok(performance.now() - begin < 1000, `${performance.now() - begin} ms`)
})

test('a few letters find a file, its name before its directories', () => {
  const paths = ['src/parser/mod.rs', 'src/path.rs', 'src/http/paths.md', 'README.md', 'path/other.txt']
  const found = (query: string): string[] => find(query, paths, 3).map(({ candidate }) => candidate)
  assert.equal(found('path')[0], 'src/path.rs')
  assert.equal(found('sprs')[0], 'src/path.rs')
  assert.deepEqual(found('readme'), ['README.md'])
  assert.deepEqual(found('zzz'), [])
  assert.deepEqual(found(''), paths.slice(0, 3))
  const [one] = find('rdm', ['README.md'], 1)
  assert.deepEqual(one?.at, [0, 3, 4])
})
