import { faultOfPath } from '@uspark/client'
import { useEffect, useMemo, useState } from 'preact/hooks'
import { ActivityView } from './activity-view.tsx'
import { file as fileInAddress, forgetToken, goTo } from './address.ts'
import { DifferenceView } from './difference-view.tsx'
import { Dialog, type Question } from './dialog.tsx'
import { FileView, Nothing, download, save, type Cursor } from './file-view.tsx'
import { Icon } from './icons.tsx'
import { Palette, type Command } from './palette.tsx'
import { myName } from './people.ts'
import { Session, sentence } from './session.ts'
import { People, StatusBar } from './status.tsx'
import { TreeView, type TreeActions } from './tree-view.tsx'
import { useValue } from './values.ts'

/** What a narrow page shows of the three. */
type Pane = 'files' | 'file' | 'activity'

const isMac = /mac|iphone|ipad/i.test(navigator.platform)
const MOD = isMac ? '⌘' : 'Ctrl+'

/** A project: its tree, the file that is chosen, and what happens. */
export function ProjectPage ({ id, token }: { id: string, token: string }) {
  const session = useMemo(() => new Session(location.origin, id, token), [])
  useEffect(() => () => session.close(), [])
  const { connection, why, readOnly } = useValue(session.project.state)
  const loaded = useValue(session.loaded)
  const path = useValue(session.file)
  const difference = useValue(session.difference)
  const [pane, setPane] = useState<Pane>(fileInAddress() === null ? 'files' : 'file')
  const [showsActivity, setShowsActivity] = useState(true)
  const [palette, setPalette] = useState<string | null>(null)
  const [question, setQuestion] = useState<Question | null>(null)
  const [cursor, setCursor] = useState<Cursor | null>(null)
  const [uploads, setUploads] = useState<string | null>(null)

  const open = (next: string): void => {
    session.difference.set(null)
    goTo(next)
    setPane('file')
  }
  useAddress(session, loaded)
  useWarning(session)

  const actions = useActions(session, readOnly, open, setQuestion, setUploads)
  const commands: Command[] = [
    { name: 'Go to file…', keys: `${MOD}P`, run: () => setPalette('') },
    { name: 'New file…', run: actions.create },
    { name: 'New directory…', run: actions.makeDirectory },
    { name: 'Upload files…', run: () => actions.choose('files') },
    { name: 'Upload a directory…', run: () => actions.choose('directory') },
    ...(path === null ? [] : [
      { name: 'Rename this file…', keys: 'F2', run: () => actions.rename(path) },
      { name: 'Delete this file…', run: () => actions.remove(path) },
      { name: 'Download this file', run: () => { void session.attempt(() => download(session, path)) } }
    ]),
    { name: 'Download everything as a zip', run: () => { void session.attempt(async () => save(await session.project.archive(), `${id}.zip`)) } },
    { name: showsActivity ? 'Hide the activity' : 'Show the activity', run: () => setShowsActivity(!showsActivity) },
    {
      name: 'Change my name…',
      run: () => setQuestion({
        title: 'Your name, as others see it', value: myName.value, action: 'Change it', run: name => myName.set(name.trim()),
        fault: name => name.trim() === '' ? 'others have to call you something' : undefined
      })
    }
  ]
  useKeys({ p: () => setPalette(''), 'shift+p': () => setPalette('>'), k: () => setPalette('') })

  if (connection === 'refused' && !loaded) {
    return (
      <main class="alone">
        <Nothing title="This project cannot be opened" words={why?.message ?? ''} hint={why?.hint ?? 'Ask whoever gave you the link for a new one.'}
          action={{ words: 'Use another token', run: () => { forgetToken(); location.reload() } }} />
      </main>
    )
  }
  return (
    <div class={`project shows-${pane} ${showsActivity ? '' : 'without-activity'}`}
      onDragOver={event => event.preventDefault()}
      onDropCapture={event => {
        // Before the editor, which would type a file that is dropped on it.
        if (event.dataTransfer?.types.includes('Files') !== true) return
        event.preventDefault()
        event.stopPropagation()
        actions.upload([...event.dataTransfer.files], '')
      }}>
      <header class="top">
        <a class="mark" href="/" aria-label="All projects"><Icon name="spark" /></a>
        <h1 title={id}>{id}</h1>
        <button class="go" onClick={() => setPalette('')}><Icon name="search" /><span>{path ?? 'Go to file'}</span><kbd>{MOD}P</kbd></button>
        <People session={session} onOpen={open} />
        <button class="icon-button wide-only" aria-pressed={showsActivity} aria-label="Activity" title="Activity"
          onClick={() => setShowsActivity(!showsActivity)}><Icon name="activity" /></button>
      </header>
      {connection === 'refused' && (
        <p class="banner error" role="alert">
          <span>{sentence(why?.message ?? '')} What you see is how it was; nothing more arrives, and nothing is saved. {sentence(why?.hint ?? '')}</span>
        </p>
      )}
      <nav class="side" aria-label="Files of the project">
        <div class="heading">
          <h2>Files</h2>
          <button class="icon-button" aria-label="New file" title="New file" onClick={actions.create}><Icon name="plus" /></button>
          <button class="icon-button" aria-label="Upload files" title="Upload files" onClick={() => actions.choose('files')}><Icon name="upload" /></button>
        </div>
        <TreeView session={session} actions={{ ...actions, open }} />
        {uploads !== null && <p class="uploads" role="status">{uploads}</p>}
      </nav>
      <main class="middle">
        {difference !== null ? <DifferenceView {...{ session, difference }} onOpen={open} /> : path === null
          ? loaded ? <Welcome readOnly={readOnly} /> : null
          : <FileView {...{ session, path }} onCursor={setCursor} onMoved={next => { if (next !== path) goTo(next, true) }} />}
      </main>
      <ActivityView session={session} onOpen={open} onDifference={chosen => { session.difference.set(chosen); setPane('file') }} />
      <StatusBar session={session} cursor={path === null ? null : cursor} />
      <div class="panes" role="group" aria-label="What is shown">
        {([['files', 'tree', 'Files'], ['file', 'file', 'File'], ['activity', 'activity', 'Activity']] as const).map(([name, icon, words]) => (
          <button key={name} aria-pressed={pane === name} onClick={() => setPane(name)}><Icon name={icon} />{words}</button>
        ))}
      </div>
      {palette !== null && <Palette key={palette} start={palette} commands={commands} onOpen={open} onClose={() => setPalette(null)}
        files={() => [...session.outline.files()].map(node => node.path)} />}
      {question !== null && <Dialog key={question.title} question={question} onClose={() => setQuestion(null)} />}
      <NoticeView session={session} />
    </div>
  )
}

function Welcome ({ readOnly }: { readOnly: boolean }) {
  return (
    <div class="nothing">
      <Icon name="spark" />
      <h2>Choose a file</h2>
      <p>{readOnly ? 'You can watch everything here as it happens.' : 'What you type reaches everybody, and the agent’s disk, as you type it.'}</p>
      <p class="soft"><kbd>{MOD}P</kbd> goes to a file · <kbd>{MOD}Shift+P</kbd> does everything else</p>
    </div>
  )
}

/** Shows what the address names, as soon as the tree is there. */
function useAddress (session: Session, loaded: boolean): void {
  useEffect(() => {
    const look = (): void => session.lookAt(fileInAddress())
    look()
    addEventListener('hashchange', look)
    addEventListener('popstate', look)
    return () => {
      removeEventListener('hashchange', look)
      removeEventListener('popstate', look)
    }
  }, [loaded])
}

/** Closing the page asks first, while something is not saved; being online again tries at once. */
function useWarning (session: Session): void {
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent): void => { if (!session.project.state.value.saved) event.preventDefault() }
    const retry = (): void => session.project.retry()
    addEventListener('beforeunload', warn)
    addEventListener('online', retry)
    return () => {
      removeEventListener('beforeunload', warn)
      removeEventListener('online', retry)
    }
  }, [])
}

/** Keys with Ctrl, or ⌘ on a Mac. */
function useKeys (keys: Record<string, () => void>): void {
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (!(isMac ? event.metaKey : event.ctrlKey) || event.altKey) return
      const run = keys[`${event.shiftKey ? 'shift+' : ''}${event.key.toLowerCase()}`]
      if (run === undefined) return
      event.preventDefault()
      run()
    }
    addEventListener('keydown', press)
    return () => removeEventListener('keydown', press)
  })
}

interface Actions extends Omit<TreeActions, 'open'> { create: () => void, makeDirectory: () => void, choose: (what: 'files' | 'directory') => void }

/** What can be done to the files. Whoever may not is told why, rather than shown nothing. */
function useActions (session: Session, readOnly: boolean, open: (path: string) => void, ask: (question: Question) => void, setUploads: (words: string | null) => void): Actions {
  const { project } = session
  const fault = (path: string): string | undefined =>
    faultOfPath(path) ?? (project.tree.get(path) === undefined ? undefined : 'there is such a file already')
  const mayWrite = (work: () => void): void => {
    if (readOnly) session.say('This link may only read', 'ask whoever gave it to you for one that may write')
    else work()
  }
  const beside = (): string => {
    const { value } = session.file
    return value === null ? '' : value.slice(0, value.lastIndexOf('/') + 1)
  }
  const upload = (files: File[], directory: string): void => mayWrite(() => {
    void session.attempt(async () => {
      const wanted = files.map(file => ({ file, path: directory + (file.webkitRelativePath || file.name) })).filter(({ path }) => faultOfPath(path) === undefined)
      try {
        for (const [at, { file, path }] of wanted.entries()) {
          await project.upload(path, file, ({ sent, total }) => {
            setUploads(`${at + 1} of ${wanted.length} · ${file.name} · ${Math.floor(100 * sent / Math.max(1, total))} %`)
          })
        }
      } finally {
        setUploads(null)
      }
      const left = files.length - wanted.length
      if (left > 0) session.say(`${left} of ${files.length} files were left out`, 'their paths, such as those in .git, are never part of a project')
    })
  })
  return {
    upload,
    choose: what => mayWrite(() => {
      const input = document.createElement('input')
      input.type = 'file'
      input.multiple = true
      input.webkitdirectory = what === 'directory'
      input.addEventListener('change', () => upload([...input.files ?? []], beside()))
      input.click()
    }),
    create: () => mayWrite(() => ask({
      title: 'New file', value: beside(), action: 'Make it', fault,
      run: path => { void session.attempt(async () => { await project.writeFile(path, new Uint8Array(), { onlyNew: true }); open(path) }) }
    })),
    makeDirectory: () => mayWrite(() => ask({
      title: 'New directory', value: beside(), action: 'Make it', fault, run: path => { void session.attempt(() => project.makeDirectory(path)) }
    })),
    rename: from => mayWrite(() => ask({
      title: 'Rename', value: from, action: 'Rename', fault,
      run: to => {
        void session.attempt(() => {
          const isText = project.tree.get(from)?.kind === 'text'
          project.rename(from, to)
          // A text that is open says itself where it is.
          if (!isText && session.file.value === from) open(to)
        })
      }
    })),
    remove: path => mayWrite(() => ask({
      title: `Delete ${path.slice(path.lastIndexOf('/') + 1)}?`, words: `${path} goes away for everybody, and from the agent’s disk.`, action: 'Delete', isDangerous: true,
      run: () => { void session.attempt(() => project.remove(path)) }
    }))
  }
}

/** What was said last; it goes by itself, a failure not so soon. */
function NoticeView ({ session }: { session: Session }) {
  const notice = useValue(session.notice)
  useEffect(() => {
    if (notice === null) return
    const timer = setTimeout(() => session.notice.set(null), notice.isError ? 10_000 : 4000)
    return () => clearTimeout(timer)
  }, [notice])
  return (
    <div class="notices" aria-live="polite">
      {notice !== null && (
        <div class={`notice ${notice.isError ? 'error' : ''}`}>
          <span><b>{sentence(notice.words)}</b>{notice.hint !== undefined && ` ${sentence(notice.hint)}`}</span>
          <button class="icon-button" aria-label="Close" onClick={() => session.notice.set(null)}><Icon name="close" /></button>
        </div>
      )}
    </div>
  )
}
