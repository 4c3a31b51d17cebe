//! Other people's cursors and selections. Only classes, no style attributes: those a strict Content-Security-Policy forbids.

import { Annotation, RangeSet, type Extension, type Range } from '@codemirror/state'
import { Decoration, EditorView, ViewPlugin, WidgetType, type DecorationSet, type ViewUpdate } from '@codemirror/view'
import type { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { personOf } from '../people.ts'

/** Says that others moved, and nothing else. */
const moved = Annotation.define<true>()

/** Shows the others' cursors and tells them of one's own, where the field `cursor` of the awareness is `{ anchor, head }`. */
export function cursors (text: Y.Text, awareness: Awareness): Extension {
  return ViewPlugin.define(view => new Cursors(view, text, awareness), { decorations: plugin => plugin.decorations })
}

class Cursors {
  decorations: DecorationSet = Decoration.none

  constructor (private readonly view: EditorView, private readonly text: Y.Text, private readonly awareness: Awareness) {
    awareness.on('change', this.#changed)
    this.decorations = this.#drawn()
  }

  update (update: ViewUpdate): void {
    if (update.selectionSet || update.focusChanged) this.#tell(update)
    if (update.docChanged || update.transactions.some(transaction => transaction.annotation(moved))) this.decorations = this.#drawn()
  }

  destroy (): void {
    this.awareness.off('change', this.#changed)
    this.awareness.setLocalStateField('cursor', null)
  }

  readonly #changed = ({ added, updated, removed }: { added: number[], updated: number[], removed: number[] }): void => {
    const isOthers = [...added, ...updated, ...removed].some(client => client !== this.awareness.clientID)
    if (isOthers) this.view.dispatch({ annotations: moved.of(true) })
  }

  /** Tells the others where one is, as a place that moves with the text; nobody is where they do not look. */
  #tell ({ view, state, docChanged }: ViewUpdate): void {
    const local = this.awareness.getLocalState()
    if (local === null) return
    if (!view.hasFocus) {
      if (local.cursor != null) this.awareness.setLocalStateField('cursor', null)
      return
    }
    const { anchor, head } = state.selection.main
    const place = (at: number): Y.RelativePosition => Y.createRelativePositionFromTypeIndex(this.text, at)
    // The text follows the editor when this update is through, and the place is found in the text.
    const tell = (): void => this.awareness.setLocalStateField('cursor', { anchor: place(anchor), head: place(head) })
    if (docChanged) queueMicrotask(tell)
    else tell()
  }

  #drawn (): DecorationSet {
    const doc = this.text.doc
    const { length } = this.view.state.doc
    const drawn: Array<Range<Decoration>> = []
    for (const [client, state] of this.awareness.getStates()) {
      const person = client === this.awareness.clientID ? undefined : personOf(client, state, this.awareness.clientID)
      if (person === undefined || doc === null || state.cursor == null) continue
      const at = (place: unknown): number | undefined => indexOf(place, this.text, doc)
      const [anchor, head] = [at(state.cursor.anchor), at(state.cursor.head)]
      if (anchor === undefined || head === undefined || Math.max(anchor, head) > length) continue
      if (anchor !== head) drawn.push(Decoration.mark({ class: `others-selection hue-${person.hue}` }).range(Math.min(anchor, head), Math.max(anchor, head)))
      drawn.push(Decoration.widget({ side: head > anchor ? -1 : 1, widget: new Caret(person.name, person.hue) }).range(head))
    }
    return RangeSet.of(drawn, true)
  }
}

/** A place in the text; nothing for what is none, or is in another text. */
function indexOf (place: unknown, text: Y.Text, doc: Y.Doc): number | undefined {
  try {
    const absolute = Y.createAbsolutePositionFromRelativePosition(Y.createRelativePositionFromJSON(place), doc)
    return absolute?.type === text ? absolute.index : undefined
  } catch {
    return undefined
  }
}

class Caret extends WidgetType {
  constructor (private readonly name: string, private readonly hue: number) { super() }

  override eq (other: Caret): boolean {
    return other.name === this.name && other.hue === this.hue
  }

  override toDOM (): HTMLElement {
    const caret = document.createElement('span')
    caret.className = `others-caret hue-${this.hue}`
    const label = caret.appendChild(document.createElement('span'))
    label.className = 'others-name'
    label.textContent = this.name
    return caret
  }

  override ignoreEvent (): boolean { return true }
}
