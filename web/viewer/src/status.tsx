import { useEffect, useState } from 'preact/hooks'
import type { Cursor } from './file-view.tsx'
import { Icon } from './icons.tsx'
import { initials, type Person } from './people.ts'
import type { Session } from './session.ts'
import { useValue } from './values.ts'

/** Milliseconds after which what is not acknowledged is worth a worry. */
const LATE = 5000

/** Connection and saved state, in words that are true. */
export function Connection ({ session }: { session: Session }) {
  const { connection, saved, readOnly } = useValue(session.project.state)
  const isLate = useIsLate(saved)
  const [kind, words] = connection === 'refused' ? ['bad', 'Not allowed']
    : connection === 'connecting' ? ['wait', 'Connecting…']
      : connection === 'offline' ? ['bad', saved ? 'Offline' : 'Offline · not saved yet']
        : saved ? ['good', readOnly ? 'Live' : 'Saved']
          : !isLate ? ['wait', 'Saving…'] : ['bad', 'The server is slow to save']
  return (
    <span class={`connection ${kind}`} role="status">
      <i aria-hidden="true" />{words}
      {connection === 'offline' && <button class="plain" onClick={() => session.project.retry()}>Try now</button>}
    </span>
  )
}

/** Whether something has not been saved for longer than it should take. */
function useIsLate (saved: boolean): boolean {
  const [isLate, setLate] = useState(false)
  useEffect(() => {
    setLate(false)
    if (saved) return
    const timer = setTimeout(() => setLate(true), LATE)
    return () => clearTimeout(timer)
  }, [saved])
  return isLate && !saved
}

/** The line below everything. */
export function StatusBar ({ session, cursor }: { session: Session, cursor: Cursor | null }) {
  const { readOnly } = useValue(session.project.state)
  useValue(session.version)
  const count = session.project.tree.size
  return (
    <footer class="status">
      <Connection session={session} />
      {readOnly && <span class="locked" title="This link may only read. Ask whoever gave it to you for one that may write."><Icon name="lock" />Read only</span>}
      <span class="space" />
      {cursor !== null && <span>Line {cursor.line}, column {cursor.column}</span>}
      <span>{count === 1 ? '1 file' : `${count.toLocaleString('en')} files`}</span>
    </footer>
  )
}

/** Who has the project open; a click goes where they are. */
export function People ({ session, onOpen }: { session: Session, onOpen: (path: string) => void }) {
  const people = useValue(session.people)
  return (
    <ul class="people" aria-label="People here">
      {people.slice(0, 8).map(person => <li key={person.client}><Avatar {...{ session, person, onOpen }} /></li>)}
      {people.length > 8 && <li class="soft">+{people.length - 8}</li>}
    </ul>
  )
}

function Avatar ({ session, person, onOpen }: { session: Session, person: Person, onOpen: (path: string) => void }) {
  const { name, hue, isMe, doc } = person
  const path = doc === undefined ? undefined : session.project.tree.pathOf(doc)
  const words = isMe ? `${name} (you)` : path === undefined ? name : `${name}, in ${path}`
  return (
    <button class={`badge large hue-${hue}`} title={words} aria-label={words} disabled={isMe || path === undefined}
      onClick={() => { if (path !== undefined) onOpen(path) }}>{initials(name)}</button>
  )
}
