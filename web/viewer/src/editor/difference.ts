//! Two versions of a text, side by side, or one below the other where there is no room.

import { MergeView, unifiedMergeView } from '@codemirror/merge'
import { EditorState, Text, type Extension } from '@codemirror/state'
import { EditorView, keymap } from '@codemirror/view'
import { searchKeymap } from '@codemirror/search'
import { lineEnds } from './crlf.ts'
import { languageOf } from './languages.ts'
import { looks } from './looks.ts'

/** Pixels from which two versions have room beside each other. */
const WIDE = 720
/** Lines that are shown around what is different, and the fewest that are left out. */
const collapseUnchanged = { margin: 4, minSize: 6 }
/** A difference takes at most so many milliseconds to find; then it is coarse. */
const diffConfig = { scanLimit: 1000, timeout: 300 }

/** Shows what became of a text; the result takes it away. */
export async function showDifference (parent: HTMLElement, path: string, before: string, after: string): Promise<() => void> {
  const language = await languageOf(path)?.load()
  const extensions = (content: string, label: string): Extension => [
    lineEnds(content), EditorState.readOnly.of(true), EditorView.contentAttributes.of({ 'aria-label': label }), language ?? [], looks(), keymap.of(searchKeymap)
  ]
  const [old, now] = [extensions(before, `${path} before`), extensions(after, `${path} after`)]
  if (parent.clientWidth >= WIDE) {
    const view = new MergeView({ parent, a: { doc: before, extensions: old }, b: { doc: after, extensions: now }, collapseUnchanged, diffConfig })
    return () => view.destroy()
  }
  // As lines of our own, since a CR is a character here.
  const original = Text.of(before.split('\n'))
  const view = new EditorView({ parent, doc: after, extensions: [now, unifiedMergeView({ original, mergeControls: false, collapseUnchanged, diffConfig })] })
  return () => view.destroy()
}
