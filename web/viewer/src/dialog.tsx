import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { sentence } from './session.ts'

/** A question: for a line of text where it has a `value`, else for a yes. */
export interface Question {
  title: string
  words?: string
  value?: string
  action: string
  isDangerous?: boolean
  /** Why the text will not do. */
  fault?: (value: string) => string | undefined
  run: (value: string) => void
}

/** Asks, and does what was asked for. */
export function Dialog ({ question, onClose }: { question: Question, onClose: () => void }) {
  const { title, words, action, isDangerous, fault, run } = question
  const [value, setValue] = useState(question.value ?? '')
  const dialog = useRef<HTMLDialogElement>(null)
  const input = useRef<HTMLInputElement>(null)
  useLayoutEffect(() => {
    dialog.current?.showModal()
    // The name, and not what it ends with, is what is typed anew.
    const name = value.lastIndexOf('/') + 1
    const ending = value.lastIndexOf('.')
    input.current?.setSelectionRange(name, ending > name ? ending : value.length)
  }, [])
  const wrong = question.value === undefined ? undefined : fault?.(value)
  return (
    <dialog class="question" ref={dialog} onClose={onClose} aria-labelledby="question-title">
      <form method="dialog" onSubmit={event => {
        event.preventDefault()
        if (wrong !== undefined) return
        onClose()
        run(value)
      }}>
        <h2 id="question-title">{title}</h2>
        {words !== undefined && <p>{words}</p>}
        {question.value !== undefined && <input ref={input} value={value} spellcheck={false} aria-label={title} aria-invalid={wrong !== undefined}
          onInput={event => setValue(event.currentTarget.value)} />}
        {wrong !== undefined && value !== question.value && <p class="fault" role="alert">{sentence(wrong)}</p>}
        <footer>
          <button type="button" onClick={() => dialog.current?.close()}>Cancel</button>
          <button class={isDangerous === true ? 'danger' : 'main'} disabled={wrong !== undefined}>{action}</button>
        </footer>
      </form>
    </dialog>
  )
}
