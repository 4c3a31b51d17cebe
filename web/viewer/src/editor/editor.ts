//! CodeMirror, set up once for each file that is shown. Loaded when the first one is.

import { defaultKeymap, indentWithTab } from '@codemirror/commands'
import { bracketMatching, foldGutter, foldKeymap, indentOnInput, indentUnit } from '@codemirror/language'
import { highlightSelectionMatches, search, searchKeymap } from '@codemirror/search'
import { Compartment, EditorState, type Extension } from '@codemirror/state'
import { EditorView, crosshairCursor, dropCursor, highlightActiveLine, highlightActiveLineGutter, keymap, rectangularSelection } from '@codemirror/view'
import type { OpenText } from '@uspark/client'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import { lineEnds } from './crlf.ts'
import { cursors } from './cursors.ts'
import { languageOf } from './languages.ts'
import { looks } from './looks.ts'

/** What is shown, and what is told of it. */
export interface Shown {
  parent: HTMLElement
  path: string
  readOnly: boolean
  /** Somebody tried to type where they cannot. */
  onRefusedInput: () => void
  /** The cursor is at this line and column, from 1. */
  onCursor: (line: number, column: number) => void
}

/** An editor on the page. */
export interface Editor {
  setReadOnly: (readOnly: boolean) => void
  /** The file has another name, and so perhaps another language. */
  setPath: (path: string) => void
  focus: () => void
  destroy: () => void
}

/** Shows a text that people type into. */
export function editText (open: OpenText, shown: Shown): Editor {
  const content = open.text.toString()
  return edit(content, shown, [yCollab(open.text, null), keymap.of(yUndoManagerKeymap), cursors(open.text, open.awareness)])
}

/** Shows a content that is only looked at. */
export function showContent (content: string, shown: Shown): Editor {
  return edit(content, shown, [])
}

function edit (content: string, shown: Shown, more: Extension[]): Editor {
  const writing = new Compartment()
  const language = new Compartment()
  const labelled = new Compartment()
  const label = (path: string): Extension => EditorView.contentAttributes.of({ 'aria-label': path })
  const view = new EditorView({
    parent: shown.parent,
    state: EditorState.create({
      doc: content,
      extensions: [
        lineEnds(content),
        writing.of(EditorState.readOnly.of(shown.readOnly)),
        language.of([]),
        labelled.of(label(shown.path)),
        reports(shown),
        more,
        looks(),
        tools,
        keymap.of([...searchKeymap, ...foldKeymap, ...defaultKeymap, indentWithTab])
      ]
    })
  })
  const setLanguage = async (path: string): Promise<void> => {
    const loaded = await languageOf(path)?.load()
    view.dispatch({ effects: language.reconfigure(loaded ?? []) })
  }
  void setLanguage(shown.path)
  return {
    setReadOnly: readOnly => view.dispatch({ effects: writing.reconfigure(EditorState.readOnly.of(readOnly)) }),
    setPath: path => {
      view.dispatch({ effects: labelled.reconfigure(label(path)) })
      void setLanguage(path)
    },
    focus: () => view.focus(),
    destroy: () => view.destroy()
  }
}

function reports ({ onCursor, onRefusedInput }: Shown): Extension {
  return [
    EditorView.updateListener.of(update => {
      if (!update.selectionSet && !update.docChanged) return
      const { head } = update.state.selection.main
      const line = update.state.doc.lineAt(head)
      onCursor(line.number, head - line.from + 1)
    }),
    EditorView.domEventHandlers({
      beforeinput: (_, view) => { if (view.state.readOnly) onRefusedInput() },
      // A read-only editor may be given no input event at all.
      keydown: (event, view) => {
        const types = (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) || ['Enter', 'Backspace', 'Delete'].includes(event.key)
        if (types && view.state.readOnly) onRefusedInput()
      },
      paste: (_, view) => { if (view.state.readOnly) onRefusedInput() }
    })
  ]
}

/** What one types with. Tab leaves the editor after Escape, as CodeMirror has it, so that the keyboard is not trapped. */
const tools: Extension = [
  highlightActiveLineGutter(),
  foldGutter(),
  dropCursor(),
  EditorState.allowMultipleSelections.of(true),
  indentOnInput(),
  indentUnit.of('  '),
  bracketMatching(),
  rectangularSelection(),
  crosshairCursor(),
  highlightActiveLine(),
  highlightSelectionMatches(),
  search({ top: true })
]
