import type { ProjectEvent } from '@uspark/client'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { activityOf, timeInWords, type Happened } from '../src/activity.ts'

let number = 0
const made = (event: object): ProjectEvent => ({ number: number += 1, id: '', at: number * 1000, kind: 'text', who: null, ...event }) as unknown as ProjectEvent
const lines = (...events: object[]): Happened[] => events.map(made).reduce(activityOf, [] as Happened[])

test('edits of one file by one hand are one line', () => {
  const who = { token: 't', tool: 'Edit' }
  const all = lines({ what: 'created', path: 'a', who }, { what: 'changed', path: 'a', who }, { what: 'changed', path: 'a', who }, { what: 'changed', path: 'a' }, { what: 'changed', path: 'b' })
  assert.deepEqual(all.map(({ kind, path, by, times }) => [kind, path, by, times]), [
    ['created', 'a', 'Claude · Edit', 1], ['changed', 'a', 'Claude · Edit', 2], ['changed', 'a', 'The server', 1], ['changed', 'b', 'The server', 1]
  ])
  assert.equal(new Set(all.map(({ key }) => key)).size, 4)
})

test('a change knows the versions before and after it, also over a rename and over several in a row', () => {
  const all = lines(
    { what: 'created', path: 'a', hash: '1' }, { what: 'changed', path: 'a', hash: '2' }, { what: 'changed', path: 'a', hash: '3' },
    { what: 'moved', from: 'a', path: 'b', hash: '3' }, { what: 'changed', path: 'b', hash: '4' },
    { what: 'deleted', path: 'b', hash: '4' }, { what: 'created', path: 'b', hash: '5' },
    { what: 'changed', path: 'old', hash: '6' }, { what: 'changed', path: 'c', kind: 'binary', hash: '7' }
  )
  assert.deepEqual(all.map(({ kind, path, before, version }) => [kind, path, before, version]), [
    ['created', 'a', undefined, '1'], ['changed', 'a', '1', '3'], ['moved', 'b', '3', '3'], ['changed', 'b', '3', '4'], ['deleted', 'b', '4', undefined],
    ['created', 'b', undefined, '5'], ['changed', 'old', undefined, '6'], ['changed', 'c', undefined, undefined]
  ])
})

test('of what Claude says the words are shown, and nothing that is between the programs', () => {
  const said = (message: object): object => ({ what: 'line', run: 'r', line: 1, text: JSON.stringify(message) })
  const all = lines(
    said({ type: 'system', subtype: 'init' }),
    said({ type: 'assistant', message: { content: [{ type: 'text', text: 'I will look.' }, { type: 'tool_use', name: 'Edit' }] } }),
    said({ type: 'assistant', message: { content: [{ type: 'tool_use', name: 'Edit' }] } }),
    said({ type: 'user', message: { content: [{ type: 'tool_result' }] } }),
    { what: 'line', run: 'r', line: 2, text: 'no JSON' }, { what: 'line', run: 'r', line: 3, text: '' }, { what: 'lagged', why: 'cut' }
  )
  assert.deepEqual(all.map(({ kind, words }) => [kind, words]), [['said', 'I will look.'], ['said', 'no JSON'], ['gap', 'Something may be missing here.']])
})

test('times are short', () => {
  assert.deepEqual([0, 30, 90, 7200, 200_000, -5].map(seconds => timeInWords(0, seconds * 1000)), ['now', '30 s', '1 min', '2 h', '2 d', 'now'])
})
