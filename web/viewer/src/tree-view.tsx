import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks'
import { Icon, type IconName } from './icons.tsx'
import { hasWords } from './find.ts'
import { parentsOf, type Row } from './outline.ts'
import { initials } from './people.ts'
import type { Session } from './session.ts'
import { Skeleton } from './skeleton.tsx'
import { useValue } from './values.ts'

/** Pixels of a line, as in `style.css`, and lines drawn beyond what is seen. */
const LINE = 26
const BEYOND = 12
/** A project with at most so many paths is shown opened. */
const SMALL = 120

const IMAGE = /\.(png|jpe?g|gif|webp|avif|bmp|ico|svg)$/i

/** What the tree is asked to do. */
export interface TreeActions {
  open: (path: string) => void
  rename: (path: string) => void
  remove: (path: string) => void
  upload: (files: File[], directory: string) => void
}

/** The files of a project; only the lines in sight are on the page. */
export function TreeView ({ session, actions }: { session: Session, actions: TreeActions }) {
  const version = useValue(session.version)
  const file = useValue(session.file)
  const loaded = useValue(session.loaded)
  const [query, setQuery] = useState('')
  const [opened, setOpened] = useState<Map<string, boolean>>(new Map())
  const [active, setActive] = useState<string | null>(null)

  const isSmall = session.project.tree.size <= SMALL
  const rows = useMemo(() => {
    const isOpen = (path: string): boolean => opened.get(path) ?? isSmall
    return session.outline.rows(isOpen, query.trim() === '' ? undefined : hasWords(query))
  }, [version, opened, query, isSmall, loaded])

  // The file that is shown is in sight.
  useEffect(() => {
    if (file === null) return
    setActive(file)
    setOpened(now => new Map([...now, ...parentsOf(file).map(parent => [parent, true] as const)]))
  }, [file])

  const toggle = (row: Row, open = !row.isOpen): void => setOpened(now => new Map(now).set(row.node.path, open))
  const use = (row: Row): void => row.isDirectory ? toggle(row) : actions.open(row.node.path)
  return (
    <>
      <label class="filter">
        <Icon name="search" />
        <input type="search" placeholder="Filter files" aria-label="Filter files" value={query} spellcheck={false}
          onInput={event => setQuery(event.currentTarget.value)}
          onKeyDown={event => {
            if (event.key === 'Escape') setQuery('')
            const first = rows.find(row => !row.isDirectory)
            if (event.key === 'Enter' && first !== undefined) actions.open(first.node.path)
          }} />
      </label>
      {!loaded ? <Skeleton label="Loading the files" widths={[70, 45, 60, 52, 80, 40, 66]} /> : rows.length === 0
        ? <p class="empty">{query === '' ? 'No files yet. Drop some here, or make one with +.' : `No file’s path has “${query}”.`}</p>
        : <Rows key={String(query === '')} {...{ session, rows, active, setActive, toggle, use, actions }} selected={file} />}
    </>
  )
}

interface RowsProps {
  session: Session
  rows: Row[]
  selected: string | null
  active: string | null
  setActive: (path: string) => void
  toggle: (row: Row, open?: boolean) => void
  use: (row: Row) => void
  actions: TreeActions
}

function Rows ({ session, rows, selected, active, setActive, toggle, use, actions }: RowsProps) {
  const scroller = useRef<HTMLDivElement>(null)
  const [[top, height], setSight] = useState<[number, number]>([0, 800])
  /** The first line in sight, and how far it is scrolled out of it. */
  const anchor = useRef<{ path: string, offset: number } | null>(null)
  const look = (): void => {
    const element = scroller.current
    if (element === null) return
    const { scrollTop } = element
    const first = rows[Math.floor(scrollTop / LINE)]
    anchor.current = scrollTop === 0 || first === undefined ? null : { path: first.node.path, offset: scrollTop % LINE }
    setSight([scrollTop, element.clientHeight])
  }
  // What comes or goes above does not move what somebody is about to click on.
  useLayoutEffect(() => {
    const at = anchor.current === null ? -1 : rows.findIndex(({ node }) => node.path === anchor.current?.path)
    if (at >= 0 && scroller.current !== null) scroller.current.scrollTop = at * LINE + (anchor.current?.offset ?? 0)
  }, [rows])
  const latest = useRef(look)
  latest.current = look
  useLayoutEffect(() => {
    look()
    const observer = new ResizeObserver(() => latest.current())
    if (scroller.current !== null) observer.observe(scroller.current)
    return () => observer.disconnect()
  }, [])

  const index = rows.findIndex(({ node }) => node.path === active)
  useLayoutEffect(() => {
    const element = scroller.current
    if (index < 0 || element === null) return
    const at = index * LINE
    if (at < element.scrollTop) element.scrollTop = at
    else if (at + LINE > element.scrollTop + element.clientHeight) element.scrollTop = at + LINE - element.clientHeight
  }, [active, index >= 0])

  const step = (to: number): void => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, to))]
    if (row !== undefined) setActive(row.node.path)
  }
  const keys: Record<string, () => void> = {
    ArrowDown: () => step(index + 1),
    ArrowUp: () => step(index - 1),
    PageDown: () => step(index + Math.floor(height / LINE)),
    PageUp: () => step(index - Math.floor(height / LINE)),
    Home: () => step(0),
    End: () => step(rows.length - 1)
  }
  const row = rows[index]
  if (row !== undefined) {
    const above = parentsOf(row.node.path).at(-1)
    Object.assign(keys, {
      Enter: () => use(row),
      ' ': () => use(row),
      F2: () => actions.rename(row.node.path),
      Delete: () => actions.remove(row.node.path),
      ArrowRight: () => row.isDirectory && !row.isOpen ? toggle(row, true) : step(index + 1),
      ArrowLeft: () => row.isOpen ? toggle(row, false) : above !== undefined && setActive(above)
    })
  }

  const first = Math.max(0, Math.floor(top / LINE) - BEYOND)
  const last = Math.min(rows.length, Math.ceil((top + height) / LINE) + BEYOND)
  const drawn = rows.slice(first, last).map((row, at): [Row, number] => [row, first + at])
  // What the keyboard is on stays on the page, so that a screen reader can name it.
  if (row !== undefined && (index < first || index >= last)) drawn.push([row, index])
  return (
    <div class="tree" role="tree" aria-label="Files" tabIndex={0} ref={scroller} onScroll={look}
      aria-activedescendant={row === undefined ? undefined : idOf(row)}
      onKeyDown={event => {
        const run = keys[event.key]
        if (run === undefined || event.ctrlKey || event.metaKey || event.altKey) return
        event.preventDefault()
        run()
      }}
      onFocus={() => { if (index < 0) step(0) }}>
      <div class="tree-space" role="presentation" style={{ height: `${rows.length * LINE}px` }}>
        {drawn.map(([row, at]) => (
          <Line key={row.node.path} {...{ session, row, at }} isSelected={row.node.path === selected} isActive={row.node.path === active}
            onUse={() => { setActive(row.node.path); use(row) }} />
        ))}
      </div>
    </div>
  )
}

function Line ({ session, row, at, isSelected, isActive, onUse }: {
  session: Session, row: Row, at: number, isSelected: boolean, isActive: boolean, onUse: () => void
}) {
  const { node, level, isDirectory, isOpen, position, siblings } = row
  const lit = session.glow(node.path)
  const there = isDirectory ? [] : session.at(node.path)
  const classes = ['line', isSelected && 'selected', isActive && 'active', isDirectory && 'directory'].filter(Boolean).join(' ')
  return (
    <div id={idOf(row)} class={classes} role="treeitem" aria-level={level} aria-setsize={siblings} aria-posinset={position}
      aria-selected={isSelected} {...(isDirectory ? { 'aria-expanded': isOpen } : {})}
      title={node.path} style={{ top: `${at * LINE}px`, paddingLeft: `${8 + (level - 1) * 14}px` }} onClick={onUse}>
      {lit !== undefined && <span class="glow" key={lit} aria-hidden="true" />}
      {isDirectory ? <Icon name="chevron" className={isOpen ? 'turned' : ''} /> : <Icon name={iconOf(row)} className="kind" />}
      <span class="name">{node.name}</span>
      {there.map(({ client, name, hue }) => (
        <span key={client} class={`badge hue-${hue}`} title={`${name} is here`} aria-label={`${name} is here`}>{initials(name)}</span>
      ))}
    </div>
  )
}

function iconOf ({ node }: Row): IconName {
  if (node.entry?.kind === 'link') return 'link'
  if (node.entry?.kind === 'binary') return IMAGE.test(node.name) ? 'image' : 'binary'
  return 'file'
}

function idOf ({ node }: Row): string {
  return `tree-${encodeURIComponent(node.path)}`
}
