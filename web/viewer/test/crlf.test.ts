import { indentMore, insertNewlineAndIndent, moveLineDown, moveLineUp, copyLineDown } from '@codemirror/commands'
import { EditorState, type StateCommand, type Transaction } from '@codemirror/state'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lineEndOf, lineEnds } from '../src/editor/crlf.ts'

/** An editor's state without a page: what a command does to it. */
class Typing {
  state: EditorState

  constructor (text: string, at = 0) {
    this.state = EditorState.create({ doc: text, selection: { anchor: at }, extensions: lineEnds(text) })
  }

  readonly dispatch = (transaction: Transaction): void => { this.state = transaction.state }

  run (command: StateCommand): this {
    command({ state: this.state, dispatch: this.dispatch })
    return this
  }

  change (from: number, to: number, insert = ''): this {
    this.dispatch(this.state.update({ changes: { from, to, insert }, selection: { anchor: from + insert.length } }))
    return this
  }

  select (anchor: number): this {
    this.dispatch(this.state.update({ selection: { anchor } }))
    return this
  }

  /** The text with a `|` where the cursor is. */
  get now (): string {
    const text = this.state.doc.toString()
    const { head } = this.state.selection.main
    return `${text.slice(0, head)}|${text.slice(head)}`
  }
}

test('the first line says how lines end', () => {
  for (const [text, end] of [['', 'LF'], ['a', 'LF'], ['\n', 'LF'], ['a\nb\r\n', 'LF'], ['a\r\nb\n', 'CRLF'], ['\r\n', 'CRLF'], ['a\rb', 'LF']] as const) {
    assert.equal(lineEndOf(text), end, JSON.stringify(text))
  }
})

test('a text is in the editor byte for byte, with the same offsets', () => {
  for (const text of ['a\r\nb\r\n', 'a\nb\r\nc\rd\n', '\r\n\r\n', '\r', 'a\r\r\nb']) {
    assert.equal(new Typing(text).state.doc.toString(), text)
    assert.equal(new Typing(text).state.doc.length, text.length)
  }
})

test('in a file of CR LF a new line brings both, and takes none from the next', () => {
  assert.equal(new Typing('one\r\ntwo\r\n', 3).run(insertNewlineAndIndent).now, 'one\r\n|\r\ntwo\r\n')
  assert.equal(new Typing('one\r\ntwo\r\n', 1).run(insertNewlineAndIndent).now, 'o\r\n|ne\r\ntwo\r\n')
  assert.equal(new Typing('one\r\n  two', 10).run(insertNewlineAndIndent).now, 'one\r\n  two\r\n  |')
  assert.equal(new Typing('a\r\n', 0).change(0, 0, 'x\ny\nz').now, 'x\r\ny\r\nz|a\r\n')
  assert.equal(new Typing('a\r\n', 0).change(0, 0, 'x\r\ny\r\n').now, 'x\r\ny\r\n|a\r\n')
})

test('in a file of LF nothing that is pasted brings a CR', () => {
  assert.equal(new Typing('a\nb', 0).change(0, 0, 'x\r\ny\r\nz').now, 'x\ny\nz|a\nb')
  assert.equal(new Typing('a\nb', 1).run(insertNewlineAndIndent).now, 'a\n|\nb')
  // But where the file has one, it stays.
  assert.equal(new Typing('a\nb\r\nc', 3).change(3, 3, '!').now, 'a\nb!|\r\nc')
})

test('a CR goes with its LF, and no cursor comes between them', () => {
  const two = 'one\r\ntwo\r\n'
  assert.equal(new Typing(two).select(4).now, 'one|\r\ntwo\r\n')
  assert.equal(new Typing(two, 1).change(1, 4).now, 'o|\r\ntwo\r\n')
  assert.equal(new Typing(two, 1).change(4, 6, '').now.replace('|', ''), 'onewo\r\n')
  assert.equal(new Typing('a\r\nb\r\nc\r\n', 0).run(moveLineDown).now.replace('|', ''), 'b\r\na\r\nc\r\n')
  assert.equal(new Typing('a\r\nb\r\nc\r\n', 3).run(moveLineUp).now.replace('|', ''), 'b\r\na\r\nc\r\n')
  assert.equal(new Typing('a\r\nb\r\n', 0).run(copyLineDown).now.replace('|', ''), 'a\r\na\r\nb\r\n')
  assert.equal(new Typing('a\r\nb\r\n', 0).run(indentMore).now.replace('|', ''), '  a\r\nb\r\n')
})
