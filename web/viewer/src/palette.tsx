import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { find, type Found } from './find.ts'

/** Something that can be done by its name. */
export interface Command { name: string, keys?: string, run: () => void }

/** Choices that are shown at most. */
const SHOWN = 50

/** Finds a file by a few letters; behind `>`, a command. */
export function Palette ({ files, commands, start, onOpen, onClose }: {
  files: () => Iterable<string>
  commands: Command[]
  start: string
  onOpen: (path: string) => void
  onClose: () => void
}) {
  const [query, setQuery] = useState(start)
  const [chosen, setChosen] = useState(0)
  const dialog = useRef<HTMLDialogElement>(null)
  const list = useRef<HTMLUListElement>(null)
  useLayoutEffect(() => dialog.current?.showModal(), [])

  const isCommand = query.startsWith('>')
  const found = find(isCommand ? query.slice(1) : query, isCommand ? commands.map(({ name }) => name) : files(), SHOWN)
  const run = (choice: Found | undefined): void => {
    if (choice === undefined) return
    onClose()
    if (isCommand) commands.find(({ name }) => name === choice.candidate)?.run()
    else onOpen(choice.candidate)
  }
  const choose = (at: number): void => {
    const next = (at + found.length) % Math.max(1, found.length)
    setChosen(next)
    list.current?.children[next]?.scrollIntoView({ block: 'nearest' })
  }
  const keys: Record<string, () => void> = { ArrowDown: () => choose(chosen + 1), ArrowUp: () => choose(chosen - 1), Enter: () => run(found[chosen]) }
  return (
    <dialog class="palette" ref={dialog} aria-label={isCommand ? 'Commands' : 'Go to file'} onClose={onClose}
      onClick={event => { if (event.target === dialog.current) dialog.current?.close() }}>
      <input role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant={found.length > 0 ? `palette-${chosen}` : undefined}
        aria-label={isCommand ? 'Command' : 'File'} placeholder="Go to file, or > for a command" value={query} spellcheck={false} autofocus
        onInput={event => { setQuery(event.currentTarget.value); setChosen(0) }}
        onKeyDown={event => {
          const key = keys[event.key]
          if (key === undefined) return
          event.preventDefault()
          key()
        }} />
      <ul id="palette-list" role="listbox" aria-label="Found" ref={list}>
        {found.map((one, at) => (
          <li key={one.candidate} id={`palette-${at}`} role="option" aria-selected={at === chosen} onMouseMove={() => setChosen(at)} onClick={() => run(one)}>
            <Marked {...one} isPath={!isCommand} />
            {isCommand && <kbd>{commands.find(({ name }) => name === one.candidate)?.keys}</kbd>}
          </li>
        ))}
      </ul>
      {found.length === 0 && <p class="empty">Nothing has these letters.</p>}
    </dialog>
  )
}

/** What was found, with the letters that were asked for. */
function Marked ({ candidate, at, isPath }: Found & { isPath: boolean }) {
  const marked = new Set(at)
  const name = isPath ? candidate.lastIndexOf('/') + 1 : 0
  const part = (from: number, to: number) => [...candidate.slice(from, to)].length === 0 ? null
    : Array.from({ length: to - from }, (_, index) => from + index).map(index => marked.has(index) ? <b key={index}>{candidate[index]}</b> : candidate[index])
  return <><span class="name">{part(name, candidate.length)}</span>{name > 0 && <span class="soft">{part(0, name - 1)}</span>}</>
}
