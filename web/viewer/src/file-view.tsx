import type { Entry, OpenText, TextState } from '@uspark/client'
import { UsparkError } from '@uspark/client'
import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Icon } from './icons.tsx'
import { bytesInWords, kindInWords, sentence, type Session } from './session.ts'
import { myName, myself } from './people.ts'
import { Skeleton } from './skeleton.tsx'
import { paced, useValue } from './values.ts'

/** Bytes of a file that is fetched to be looked at. */
const SHOWN = 16 << 20

/** What the browser shows as a picture. An SVG as a picture runs no script. */
const PICTURES: Record<string, string> = {
  png: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg', gif: 'image/gif', webp: 'image/webp', avif: 'image/avif', bmp: 'image/bmp',
  ico: 'image/x-icon', svg: 'image/svg+xml'
}

/** Where the cursor is, from 1. */
export interface Cursor { line: number, column: number }

interface FileProps {
  session: Session
  path: string
  onCursor: (cursor: Cursor | null) => void
  /** The file that is shown has another path now. */
  onMoved: (path: string) => void
}

/** The file that is chosen, whatever it is. */
export function FileView ({ session, path, onCursor, onMoved }: FileProps) {
  const loaded = useValue(session.loaded)
  useValue(session.version)
  const entry = session.project.tree.get(path)
  // A text that is open follows its document, not what is at its path: it says itself what became of it.
  const [text, setText] = useState<string | null>(null)
  const followed = useRef<string | null>(null)
  useEffect(() => {
    // Where the text itself went, it is shown already.
    if (path === followed.current) return
    followed.current = null
    setText(null)
    onCursor(null)
  }, [path])
  useEffect(() => { if (entry?.kind === 'text' && text === null) setText(path) }, [path, entry, text])

  if (!loaded) return <Loading what={path} />
  if (text !== null) return (
    <TextFile key={text} {...{ session, path: text, onCursor }} onLeft={() => { followed.current = null; setText(null) }}
      onMoved={next => { followed.current = next; onMoved(next) }} />
  )
  if (entry === undefined) return <Nothing title="There is no such file" words={`${path} is not, or no longer, in this project.`} />
  if (entry.kind === 'text') return <Loading what={path} />
  if (entry.kind === 'link') return <Nothing title="A symbolic link" words={`It leads to ${entry.target}`} />
  if (entry.kind === 'dir') return <Nothing title="A directory" words="There is nothing in it yet." />
  return <BinaryFile key={path + entry.hash} {...{ session, path, entry, onCursor }} />
}

/** A text; `onLeft` says that what is at its path now is wanted instead. */
function TextFile ({ session, path, onCursor, onMoved, onLeft }: FileProps & { onLeft: () => void }) {
  const [open, setOpen] = useState<OpenText | UsparkError | null>(null)
  const [again, setAgain] = useState(0)
  useEffect(() => {
    let isOver = false
    let mine: OpenText | undefined
    session.project.openText(path).then(opened => {
      if (isOver) return opened.close()
      mine = opened
      setOpen(opened)
    }, error => { if (!isOver) setOpen(error) })
    return () => {
      isOver = true
      mine?.close()
    }
  }, [again])
  if (open === null) return <Loading what={path} />
  if (open instanceof UsparkError) {
    const retry = (): void => { setOpen(null); setAgain(again + 1) }
    return <Nothing title="This file cannot be opened" words={open.message} hint={open.hint} action={{ words: 'Try again', run: retry }} />
  }
  return <LiveText {...{ session, open, onCursor, onMoved, onLeft }} />
}

interface LiveProps extends Pick<FileProps, 'session' | 'onCursor' | 'onMoved'> { open: OpenText, onLeft: () => void }

function LiveText ({ session, open, onCursor, onMoved, onLeft }: LiveProps) {
  const state = useValue(open.state)
  const { readOnly } = useValue(session.project.state)
  const cannot = whyNot(state, readOnly)
  const reason = useRef(cannot)
  reason.current = cannot

  useEffect(() => {
    if (state.is === 'open') onMoved(state.path)
  }, [state])
  useEffect(() => {
    const introduce = (): void => open.awareness.setLocalStateField('user', myself())
    introduce()
    return myName.subscribe(introduce)
  }, [open])

  const foreign = useForeign(open.text)
  return (
    <div class="file">
      {state.is !== 'open' && <Banner {...{ state, session, open, readOnly, onLeft }} />}
      {foreign === null
        ? <CodeArea path={state.path} readOnly={cannot !== undefined} onCursor={onCursor}
            onRefusedInput={() => { if (reason.current !== undefined) session.say(...reason.current) }}
            show={(editor, shown) => editor.editText(open, shown)} />
        : <ReadOnlyText key={foreign} {...{ session, path: state.path, content: open.text.toString(), onCursor }}
            why="Another program has put something into this text that is no text: it can only be read here." />}
    </div>
  )
}

/**
 * Whether a text holds what is no text (an embed of a foreign client): an editor of characters would then edit at the wrong
 * places. Null if not; else a number that is another after each change.
 */
function useForeign (text: OpenText['text']): number | null {
  const [foreign, setForeign] = useState<number | null>(() => holdsForeign(text) ? 0 : null)
  useEffect(() => {
    const look = paced(() => setForeign(now => holdsForeign(text) ? (now ?? 0) + 1 : null))
    const changed = ({ delta }: { delta: Array<{ insert?: unknown }> }): void => {
      if (foreign !== null || delta.some(({ insert }) => insert !== undefined && typeof insert !== 'string')) look()
    }
    text.observe(changed)
    return () => text.unobserve(changed)
  }, [foreign === null])
  return foreign
}

/** An embed counts in a text's length, and not among its characters. */
function holdsForeign (text: OpenText['text']): boolean {
  return text.length !== text.toString().length
}

/** A text that is only looked at, and why. */
function ReadOnlyText ({ session, path, content, why, action, onCursor }: {
  session: Session, path: string, content: string, why: string, action?: ComponentChildren, onCursor: (cursor: Cursor) => void
}) {
  return (
    <>
      <p class="banner quiet" role="status"><span>{why}</span>{action}</p>
      <CodeArea {...{ path, onCursor }} readOnly onRefusedInput={() => session.say(why)} show={(editor, shown) => editor.showContent(content, shown)} />
    </>
  )
}

/** Why nobody can type here, and what to do about it. */
function whyNot (state: TextState, readOnly: boolean): [words: string, hint?: string | undefined] | undefined {
  if (readOnly) return ['This link may only read', 'Ask whoever gave it to you for one that may write.']
  if (state.is === 'deleted') return ['This file was deleted', 'Put it back to go on.']
  if (state.is === 'replaced') return ['Something else is at this path now']
  if (state.is === 'refused') return [state.why.message, state.why.hint]
  return undefined
}

function Banner ({ state, session, open, readOnly, onLeft }: { state: TextState, session: Session, open: OpenText, readOnly: boolean, onLeft: () => void }) {
  if (state.is === 'deleted') {
    return (
      <p class="banner" role="status">
        <span><b>{state.path}</b> was deleted. What you see is what it was.</span>
        {!readOnly && <button onClick={() => { void session.attempt(() => open.restore()) }}>Put it back</button>}
      </p>
    )
  }
  if (state.is === 'replaced') {
    const entry = session.project.tree.get(state.path)
    const what = entry === undefined ? 'something else' : `a ${kindInWords(entry).toLowerCase()}`
    return (
      <p class="banner" role="status">
        <span><b>{state.path}</b> is {what} now. What you see is the text that was there.</span>
        <button onClick={onLeft}>Show what is there</button>
      </p>
    )
  }
  if (state.is === 'refused') return <p class="banner error" role="alert"><span>{sentence(state.why.message)} {sentence(state.why.hint ?? '')}</span></p>
  return null
}

type EditorModule = typeof import('./editor/editor.ts')
type ShownIn = import('./editor/editor.ts').Shown

/** The editor, which is fetched when it is first needed. */
function CodeArea ({ path, readOnly, onCursor, onRefusedInput, show }: {
  path: string
  readOnly: boolean
  onCursor: (cursor: Cursor) => void
  onRefusedInput: () => void
  show: (editor: EditorModule, shown: ShownIn) => import('./editor/editor.ts').Editor
}) {
  const place = useRef<HTMLDivElement>(null)
  const editor = useRef<import('./editor/editor.ts').Editor | null>(null)
  const [isHere, setHere] = useState(false)
  useEffect(() => {
    let isOver = false
    void import('./editor/editor.ts').then(module => {
      if (isOver || place.current === null) return
      editor.current = show(module, {
        parent: place.current, path, readOnly, onRefusedInput, onCursor: (line, column) => onCursor({ line, column })
      })
      setHere(true)
    })
    return () => {
      isOver = true
      editor.current?.destroy()
      editor.current = null
    }
  }, [])
  useEffect(() => editor.current?.setReadOnly(readOnly), [readOnly, isHere])
  useEffect(() => { if (isHere) editor.current?.setPath(path) }, [path])
  return <div class="code" ref={place}>{!isHere && <Loading what={path} />}</div>
}

type Binary = Extract<Entry, { kind: 'binary' }>
type Content = { is: 'loading' } | { is: 'failed', why: string } | { is: 'text', content: string } | { is: 'picture', address: string } | { is: 'bytes' }

function BinaryFile ({ session, path, entry, onCursor }: { session: Session, path: string, entry: Binary, onCursor: (cursor: Cursor) => void }) {
  const [content, setContent] = useState<Content>({ is: 'loading' })
  useEffect(() => {
    const stop = new AbortController()
    let address: string | undefined
    const load = async (): Promise<Content> => {
      if (entry.size > SHOWN) return { is: 'bytes' }
      const bytes = await session.project.readVersion(entry.hash, stop.signal)
      const picture = PICTURES[path.slice(path.lastIndexOf('.') + 1).toLowerCase()]
      if (picture !== undefined) {
        address = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: picture }))
        return { is: 'picture', address }
      }
      const text = decoded(bytes)
      return text === undefined ? { is: 'bytes' } : { is: 'text', content: text }
    }
    load().then(setContent, error => { if (!stop.signal.aborted) setContent({ is: 'failed', why: error.message }) })
    return () => {
      stop.abort()
      if (address !== undefined) URL.revokeObjectURL(address)
    }
  }, [])
  const size = bytesInWords(entry.size)
  const save = { words: 'Download', run: () => { void session.attempt(() => download(session, path)) } }
  switch (content.is) {
    case 'loading': return <Loading what={path} />
    case 'failed': return <Nothing title="This file cannot be shown" words={content.why} action={save} />
    case 'bytes': return <Nothing title="A binary file" words={`${size}. It cannot be shown here.`} action={save} />
    case 'picture': return (
      <figure class="picture">
        <img src={content.address} alt={path} onError={() => setContent({ is: 'bytes' })} />
        <figcaption>{size} <button onClick={save.run}>Download</button></figcaption>
      </figure>
    )
    case 'text': return (
      <div class="file">
        <ReadOnlyText {...{ session, path, onCursor }} content={content.content} action={<button onClick={save.run}>Download</button>}
          why={`A text of at most 1 MiB can be typed into; this one has ${size}, and can only be read here.`} />
      </div>
    )
  }
}

/** Saves a file as the server has it. */
export async function download (session: Session, path: string): Promise<void> {
  const bytes = await session.project.readFile(path)
  save(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: 'application/octet-stream' }), path.slice(path.lastIndexOf('/') + 1))
}

/** Gives the browser something to save. */
export function save (content: Blob, name: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

/** Bytes as a text, if they are one. */
function decoded (bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return undefined
  }
}

function Loading ({ what }: { what: string }) {
  return <Skeleton className="code-skeleton" label={`Loading ${what}`} widths={[40, 62, 55, 30, 70, 48, 20, 58]} />
}

/** A view with nothing in it, and why. */
export function Nothing ({ title, words, hint, action }: {
  title: string, words: string, hint?: string | undefined, action?: { words: string, run: () => void }
}) {
  return (
    <div class="nothing">
      <Icon name="file" />
      <h2>{title}</h2>
      <p>{sentence(words)}</p>
      {hint !== undefined && <p class="soft">{sentence(hint)}</p>}
      {action !== undefined && <button class="main" onClick={action.run}>{action.words}</button>}
    </div>
  )
}
