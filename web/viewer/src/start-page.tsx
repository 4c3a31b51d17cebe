import { Server, UsparkError, type ProjectInfo, type Token } from '@uspark/client'
import { useEffect, useMemo, useState } from 'preact/hooks'
import { forgetToken, keepToken } from './address.ts'
import { Icon } from './icons.tsx'
import { sentence } from './session.ts'

type Seen = { is: 'loading' } | { is: 'failed', why: UsparkError } | { is: 'there', token: Token, projects: ProjectInfo[] }

/** What a token opens. */
export function StartPage ({ token }: { token: string }) {
  const server = useMemo(() => new Server(location.origin, token), [])
  const [seen, setSeen] = useState<Seen>({ is: 'loading' })
  const load = async (): Promise<void> => {
    const own = await server.token()
    const projects = []
    for await (const project of server.projects()) projects.push(project)
    setSeen({ is: 'there', token: own, projects })
  }
  useEffect(() => { load().catch(why => setSeen({ is: 'failed', why })) }, [])
  return (
    <main class="start">
      <header><Icon name="spark" /><h1>uspark</h1></header>
      {seen.is === 'loading' && <p class="soft" role="status">Loading the projects…</p>}
      {seen.is === 'failed' && (
        <div role="alert">
          <p>{sentence(seen.why.message)}</p>
          <button class="main" onClick={() => { forgetToken(); location.reload() }}>Use another token</button>
        </div>
      )}
      {seen.is === 'there' && <Projects {...{ server, seen, load }} />}
      <p class="soft"><a href="/licenses.md">What this page is made of</a></p>
    </main>
  )
}

function Projects ({ server, seen: { token, projects }, load }: { server: Server, seen: Extract<Seen, { is: 'there' }>, load: () => Promise<void> }) {
  const [id, setId] = useState('')
  const [fault, setFault] = useState<string | null>(null)
  const create = async (): Promise<void> => {
    try {
      const made = await server.createProject({ id })
      location.assign(`/p/${made.id}`)
    } catch (error) {
      setFault((error as Error).message)
      await load()
    }
  }
  return (
    <>
      {projects.length === 0
        ? <p class="empty">There is no project yet{token.project === null ? ': make one below.' : '.'}</p>
        : <ul class="projects">{projects.map(project => <Project key={project.id} {...{ server, project }} mayShare={token.access === 'admin'} />)}</ul>}
      {token.project === null && (
        <form class="new" onSubmit={event => { event.preventDefault(); void create() }}>
          <input aria-label="Id of the new project" placeholder="new-project" required value={id} spellcheck={false}
            pattern="[A-Za-z0-9_\-]{1,64}" title="1 to 64 of A-Z a-z 0-9 _ -"
            onInput={event => { setId(event.currentTarget.value); setFault(null) }} />
          <button class="main">Make a project</button>
        </form>
      )}
      {fault !== null && <p class="fault" role="alert">{sentence(fault)}</p>}
    </>
  )
}

function Project ({ server, project: { id, name, createdAt }, mayShare }: { server: Server, project: ProjectInfo, mayShare: boolean }) {
  const [link, setLink] = useState<string | null>(null)
  const share = async (access: 'read' | 'write'): Promise<void> => {
    try {
      const { token } = await server.mintToken({ project: id, access, name: `a link of the page (${access})` })
      const address = `${location.origin}/p/${id}#token=${token}`
      setLink(address)
      await navigator.clipboard?.writeText(address).catch(() => {})
    } catch (error) {
      setLink((error as Error).message)
    }
  }
  return (
    <li>
      <div class="row">
        <a href={`/p/${id}`}><b>{name ?? id}</b> {name !== null && name !== id && <span class="soft">{id}</span>}</a>
        <time class="soft" dateTime={new Date(createdAt).toISOString()}>{new Date(createdAt).toLocaleDateString()}</time>
        {mayShare && <>
          <button onClick={() => { void share('read') }} aria-label={`A link to ${id} that may read`}>Link to read</button>
          <button onClick={() => { void share('write') }} aria-label={`A link to ${id} that may write`}>Link to write</button>
        </>}
      </div>
      {link !== null && <output class="link"><input readOnly aria-label="The link" value={link} onFocus={event => event.currentTarget.select()} /></output>}
    </li>
  )
}

/** Asks for a token, where the address brought none. */
export function TokenPage ({ words }: { words: string }) {
  const [value, setValue] = useState('')
  return (
    <main class="start">
      <header><Icon name="spark" /><h1>uspark</h1></header>
      <p>{words}</p>
      <form class="new" onSubmit={event => { event.preventDefault(); keepToken(value); location.reload() }}>
        <input type="password" aria-label="Token" placeholder="uspk_…" required autocomplete="off" value={value}
          onInput={event => setValue(event.currentTarget.value)} />
        <button class="main">Open</button>
      </form>
      <p class="soft">A link that you were given has it at its end: <code>#token=uspk_…</code>. It is kept for this tab alone.</p>
    </main>
  )
}
