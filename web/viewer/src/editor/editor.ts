//! CodeMirror, set up once for each file that is shown. Loaded when the first one is.

import { defaultKeymap, indentWithTab } from '@codemirror/commands'
import { bracketMatching, foldGutter, foldKeymap, indentOnInput, indentUnit, syntaxHighlighting } from '@codemirror/language'
import { highlightSelectionMatches, search, searchKeymap } from '@codemirror/search'
import { Compartment, EditorState, type Extension } from '@codemirror/state'
import {
  EditorView, crosshairCursor, drawSelection, dropCursor, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, keymap, lineNumbers,
  rectangularSelection
} from '@codemirror/view'
import { classHighlighter } from '@lezer/highlight'
import type { OpenText } from '@uspark/client'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import { lineEnds } from './crlf.ts'
import { cursors } from './cursors.ts'
import { languageOf } from './languages.ts'

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
        EditorView.cspNonce.of(nonce()),
        lineEnds(content),
        writing.of(EditorState.readOnly.of(shown.readOnly)),
        language.of([]),
        labelled.of(label(shown.path)),
        reports(shown),
        more,
        looks,
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

/** The number that lets CodeMirror's own styles pass the Content-Security-Policy. */
function nonce (): string {
  return document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? ''
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

const looks: Extension = [
  lineNumbers(),
  highlightActiveLineGutter(),
  highlightSpecialChars(),
  foldGutter(),
  drawSelection(),
  dropCursor(),
  EditorState.allowMultipleSelections.of(true),
  indentOnInput(),
  indentUnit.of('  '),
  syntaxHighlighting(classHighlighter),
  bracketMatching(),
  rectangularSelection(),
  crosshairCursor(),
  highlightActiveLine(),
  highlightSelectionMatches(),
  search({ top: true }),
  // Tab leaves the editor after Escape, as CodeMirror has it, so that the keyboard is not trapped.
  EditorView.theme({
    '&': { height: '100%', color: 'var(--text)', backgroundColor: 'var(--page)', fontSize: 'var(--code-size)' },
    '&.cm-focused': { outline: 'none' },
    '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.6' },
    '.cm-content': { padding: '8px 0 40vh', caretColor: 'var(--accent)' },
    '.cm-line': { padding: '0 16px 0 8px' },
    '.cm-gutters': { backgroundColor: 'var(--page)', color: 'var(--faint)', border: 'none', paddingLeft: '8px' },
    '.cm-activeLineGutter': { backgroundColor: 'transparent', color: 'var(--text)' },
    '.cm-activeLine': { backgroundColor: 'var(--line)' },
    '.cm-cursor, .cm-dropCursor': { borderLeft: '2px solid var(--accent)' },
    '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--selection)' },
    '.cm-selectionMatch': { backgroundColor: 'var(--match)' },
    '.cm-foldPlaceholder': { backgroundColor: 'var(--raised)', border: 'none', color: 'var(--soft)', padding: '0 6px' },
    '.cm-panels': { backgroundColor: 'var(--side)', color: 'var(--text)' },
    '.cm-panels.cm-panels-top': { borderBottom: '1px solid var(--edge)' },
    '.cm-searchMatch': { backgroundColor: 'var(--match)' },
    '&.cm-focused .cm-matchingBracket': { backgroundColor: 'var(--match)' },
    '.cm-textfield': { backgroundColor: 'var(--page)', border: '1px solid var(--edge)', borderRadius: '4px' },
    '.cm-button': { backgroundImage: 'none', backgroundColor: 'var(--raised)', border: '1px solid var(--edge)', borderRadius: '4px' }
  })
]
