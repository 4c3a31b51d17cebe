import { Component } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { timeInWords, type Happened } from './activity.ts'
import type { Difference, Session } from './session.ts'
import { useValue } from './values.ts'

const VERBS = { created: 'made', changed: 'edited', deleted: 'deleted', moved: 'moved', said: '', gap: '' }

const exactly = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })

/** What happens in the project, the newest first. */
export function ActivityView ({ session, onOpen, onDifference }: ActivityProps) {
  const happened = useValue(session.activity)
  const live = useValue(session.activityIsLive)
  const [now, setNow] = useState(Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 10_000)
    return () => clearInterval(timer)
  }, [])
  return (
    <section class="activity" aria-label="Activity">
      <header class="heading"><h2>Activity</h2>{!live && <span class="soft">not live</span>}</header>
      {happened.length === 0
        ? <p class="empty">{live ? 'Nothing has happened yet.' : 'Loading…'}</p>
        : <ol tabIndex={0} aria-label="What has happened, the newest first">
          {happened.toReversed().map(one => <Line key={one.key} {...{ one, now, session, onOpen, onDifference }} />)}
        </ol>}
    </section>
  )
}

interface ActivityProps { session: Session, onOpen: (path: string) => void, onDifference: (difference: Difference) => void }

interface LineProps extends ActivityProps { one: Happened, now: number }

/** One of hundreds, of which one is new: the others are left as they are. */
class Line extends Component<LineProps> {
  override shouldComponentUpdate ({ one, now }: LineProps): boolean {
    return one !== this.props.one || now !== this.props.now
  }

  override render ({ one, now, session, onOpen, onDifference }: LineProps) {
    const { at, kind, by, byAgent, path, from, words, times, before, version } = one
    const time = <time dateTime={new Date(at).toISOString()} title={exactly.format(at)}>{timeInWords(at, Math.max(now, at))}</time>
    if (path === undefined) return <li class={kind}><p class="words">{words}</p><small>{by}{by !== '' && ' · '}{time}</small></li>
    const begin = path.lastIndexOf('/') + 1
    const name = path.slice(begin)
    const isThere = session.project.tree.get(path) !== undefined
    return (
      <li class={kind}>
        <span class={`dot ${kind}`} aria-hidden="true" />
        <div class="what">
          {isThere
            ? <button class="path" title={path} onClick={() => onOpen(path)}>{name}</button>
            : <span class="path gone" title={path}>{name}</span>}
          <span class="soft where">{path.slice(0, Math.max(0, begin - 1))}</span>
          {time}
        </div>
        <small>{kind === 'changed' && before !== undefined && version !== undefined && before !== version
          ? <button class="plain verb" aria-label={`What changed in ${path}`}
              onClick={() => onDifference({ path, before, after: version, words: `by ${by}, ${exactly.format(at)}` })}>{VERBS[kind]}</button>
          : VERBS[kind]}{times > 1 && ` ${times} times`}{from !== undefined && ` from ${from}`} by <span class={byAgent ? 'agent' : ''}>{by}</span></small>
      </li>
    )
  }
}
