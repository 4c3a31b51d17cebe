import * as encoding from 'lib0/encoding'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Ledger } from '../src/ledger.ts'

const SYNC = 0
const STATUS = 8

/** A frame of a document: what kind it is, and the number behind that. */
function frame (name: string, type: number, detail: number): Uint8Array {
  const encoder = encoding.createEncoder()
  encoding.writeVarString(encoder, name)
  encoding.writeVarUint(encoder, type)
  encoding.writeVarUint(encoder, detail)
  encoding.writeVarUint8Array(encoder, new Uint8Array(3))
  return encoding.toUint8Array(encoder)
}

const step1 = frame('a', SYNC, 0)
const step2 = frame('a', SYNC, 1)
const update = frame('a', SYNC, 2)
const durable = frame('a', STATUS, 1)

test('a document is settled when the server was given what it asked for, and has answered all', () => {
  const ledger = new Ledger()
  const socket = ledger.begin()
  assert.equal(ledger.isSettled('a'), false)
  // An update alone does not have what was changed before there was this socket.
  for (const sent of [step1, update]) socket.sent(sent)
  socket.received(durable)
  assert.equal(ledger.isSettled('a'), false)
  socket.sent(step2)
  socket.sent(update)
  socket.received(durable)
  assert.equal(ledger.isSettled('a'), false)
  socket.received(frame('b', STATUS, 1))
  assert.equal(ledger.isSettled('a'), false)
  socket.received(durable)
  assert.equal(ledger.isSettled('a'), true)
  ledger.forget('a')
  assert.equal(ledger.isSettled('a'), false)
})

test('what an older socket still says is of no account', () => {
  const ledger = new Ledger()
  const [old, now] = [ledger.begin(), ledger.begin()]
  old.sent(step2)
  now.sent(step2)
  old.received(durable)
  assert.equal(ledger.isSettled('a'), false)
  now.received(durable)
  assert.equal(ledger.isSettled('a'), true)
})

test('a refusal is told, and what was refused is never settled', () => {
  const ledger = new Ledger()
  const told: string[] = []
  ledger.answered.add(name => told.push(name))
  const socket = ledger.begin()
  socket.sent(step2)
  socket.sent(update)
  socket.received(durable)
  socket.received(frame('a', STATUS, 0).buffer)
  assert.deepEqual([ledger.isRefused('a'), ledger.isSettled('a'), told], [true, false, ['a', 'a']])
})

test('others’ updates are told; pings and what is no frame of a document are passed over', () => {
  const ledger = new Ledger()
  const told: string[] = []
  ledger.updated.add(name => told.push(name))
  const socket = ledger.begin()
  for (const received of [step1, step2, new Uint8Array([9]), 'text', update]) socket.received(received)
  assert.deepEqual(told, ['a'])
})
