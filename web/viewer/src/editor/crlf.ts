//! Files whose lines end with CR LF, edited so that every byte stays.
//!
//! Yjs counts CR LF as two, CodeMirror a line break as one. So CodeMirror is told that only LF breaks a line
//! (`EditorState.lineSeparator`): the CR is then an ordinary character at the end of its line, and every offset is the
//! same on both sides, also where a file mixes both. What is left to do is that nobody meets that character: it is not
//! shown, no cursor stands behind it, it goes with its LF, and in a file of CR LF a new line brings one.

import { EditorSelection, EditorState, Prec, RangeSetBuilder, RangeValue, type ChangeSet, type ChangeSpec, type Extension, type RangeSet, type Text } from '@codemirror/state'
import { Decoration, EditorView, ViewPlugin, type DecorationSet, type ViewUpdate } from '@codemirror/view'
import { ySyncAnnotation } from 'y-codemirror.next'

/** How a file ends its lines: as its first line does. */
export type LineEnd = 'LF' | 'CRLF'

/** How the lines of a text end. */
export function lineEndOf (text: string): LineEnd {
  const first = text.indexOf('\n')
  return first > 0 && text[first - 1] === '\r' ? 'CRLF' : 'LF'
}

/** Everything an editor needs to keep line ends as they are. */
export function lineEnds (text: string): Extension {
  const lineEnd = lineEndOf(text)
  return [
    EditorState.lineSeparator.of('\n'),
    EditorState.transactionFilter.of(transaction => {
      // What comes from others is as they made it.
      if (!transaction.docChanged || transaction.annotation(ySyncAnnotation) !== undefined) return transaction
      const changes = corrections(transaction.startState.doc, transaction.newDoc, transaction.changes, lineEnd)
      return changes.length === 0 ? transaction : [transaction, { changes, sequential: true }]
    }),
    // Asked last, and so told of the corrections too.
    Prec.highest(EditorState.transactionFilter.of(transaction => {
      const { newDoc, newSelection } = transaction
      if (!newSelection.ranges.some(({ anchor, head }) => isInside(newDoc, anchor) || isInside(newDoc, head))) return transaction
      const outside = (at: number): number => isInside(newDoc, at) ? at - 1 : at
      const ranges = newSelection.ranges.map(({ anchor, head }) => EditorSelection.range(outside(anchor), outside(head)))
      return [transaction, { selection: EditorSelection.create(ranges, newSelection.mainIndex), sequential: true }]
    })),
    hidden
  ]
}

/**
 * What is to be changed behind a change, so that lines end as they should: new line breaks as `lineEnd` says, those that
 * were there as they were, and no CR alone of what was a CR LF.
 */
export function corrections (before: Text, after: Text, changes: ChangeSet, lineEnd: LineEnd): ChangeSpec[] {
  const found: ChangeSpec[] = []
  changes.iterChanges((fromA, toA, fromB, toB, inserted) => {
    for (let line = 1, at = fromB; line < inserted.lines; line += 1) {
      at += inserted.line(line).length
      // `at` is the LF. A CR before it may also be one that was there before what was inserted.
      const hasReturn = charAt(after, at - 1) === '\r'
      if (lineEnd === 'CRLF' && !hasReturn) found.push({ from: at, insert: '\r' })
      if (lineEnd === 'LF' && hasReturn && at - 1 >= fromB) found.push({ from: at - 1, to: at })
      at += 1
    }
    const lostReturn = toA > fromA && isInside(before, toA) && charAt(after, toB) === '\n' && charAt(after, toB - 1) !== '\r'
    if (lostReturn) found.push({ from: toB, insert: '\r' })
    const leftReturn = isInside(before, fromA) && charAt(after, fromB - 1) === '\r' && charAt(after, fromB) !== '\n'
    if (leftReturn) found.push({ from: fromB - 1, to: fromB })
  }, true)
  return found
}

/** Whether a place is between a CR and its LF. */
function isInside (doc: Text, at: number): boolean {
  return at > 0 && at < doc.length && charAt(doc, at) === '\n' && charAt(doc, at - 1) === '\r'
}

function charAt (doc: Text, at: number): string {
  return at < 0 ? '' : doc.sliceString(at, at + 1, '\n')
}

/** Not shown, and gone over and deleted together with its LF. */
class Hidden {
  shown: DecorationSet
  whole: RangeSet<RangeValue>
  readonly #page: Document
  /** Whether a pointer is down: a click behind a line's end is at its end, and not over it. */
  #isPointing = false

  constructor (view: EditorView) {
    [this.shown, this.whole] = inSight(view)
    this.#page = view.dom.ownerDocument
    for (const event of POINTING) this.#page.addEventListener(event, this.#pointed, true)
  }

  /** What the keyboard goes over in one step. */
  get atoms (): RangeSet<RangeValue> {
    return this.#isPointing ? Decoration.none : this.whole
  }

  update (update: ViewUpdate): void {
    if (update.docChanged || update.viewportChanged) [this.shown, this.whole] = inSight(update.view)
  }

  destroy (): void {
    for (const event of POINTING) this.#page.removeEventListener(event, this.#pointed, true)
  }

  readonly #pointed = ({ type }: Event): void => { this.#isPointing = type === 'pointerdown' }
}

const POINTING = ['pointerdown', 'pointerup', 'pointercancel']

const hidden = ViewPlugin.fromClass(Hidden, {
  decorations: plugin => plugin.shown,
  provide: plugin => EditorView.atomicRanges.of(view => view.plugin(plugin)?.atoms ?? Decoration.none)
})

const nothing = Decoration.replace({})
const unit = new class extends RangeValue {}()

function inSight (view: EditorView): [DecorationSet, RangeSet<RangeValue>] {
  const shown = new RangeSetBuilder<Decoration>()
  const whole = new RangeSetBuilder<RangeValue>()
  const { doc } = view.state
  for (const { from, to } of view.visibleRanges) {
    for (let line = doc.lineAt(from); ; line = doc.line(line.number + 1)) {
      if (line.text.endsWith('\r') && line.to < doc.length) {
        shown.add(line.to - 1, line.to, nothing)
        whole.add(line.to - 1, line.to + 1, unit)
      }
      if (line.to >= to) break
    }
  }
  return [shown.finish(), whole.finish()]
}
