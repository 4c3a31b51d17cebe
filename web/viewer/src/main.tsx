import './style.css'
import { render } from 'preact'
import { place, takeToken, token } from './address.ts'
import { ProjectPage } from './project-page.tsx'
import { StartPage, TokenPage } from './start-page.tsx'

takeToken()

function Page () {
  const where = place()
  const secret = token()
  if (secret === null) return <TokenPage words={where.page === 'start' ? 'Show a token, to see what it opens.' : 'This project wants a token.'} />
  return where.page === 'start' ? <StartPage token={secret} /> : <ProjectPage id={where.project} token={secret} />
}

const root = document.querySelector<HTMLElement>('#page')
if (root !== null) {
  root.replaceChildren()
  document.title = ((where) => where.page === 'start' ? 'uspark' : `${where.project} · uspark`)(place())
  render(<Page />, root)
}
