//! What the address says. A token is taken out of it before anything else happens, and kept for this tab alone.

const KEY = 'uspark:token'

/** Where the address leads. */
export type Place = { page: 'start' } | { page: 'project', project: string }

/** Takes the token out of the address bar, and remembers it for as long as the tab is open. */
export function takeToken (): void {
  const parts = new URLSearchParams(location.hash.slice(1))
  const token = parts.get('token')
  if (token === null) return
  parts.delete('token')
  const rest = parts.toString()
  history.replaceState(null, '', location.pathname + location.search + (rest === '' ? '' : `#${rest}`))
  keepToken(token)
}

/** Remembers a token for what the address leads to. */
export function keepToken (token: string): void {
  sessionStorage.setItem(keyOf(place()), token.trim())
}

/** The token for what the address leads to; the start page's own opens projects too. */
export function token (): string | null {
  return sessionStorage.getItem(keyOf(place())) ?? sessionStorage.getItem(KEY)
}

/** Forgets the token that does not work. */
export function forgetToken (): void {
  sessionStorage.removeItem(keyOf(place()))
}

/** Where the address leads. */
export function place (): Place {
  const project = /^\/p\/([A-Za-z0-9_-]{1,64})$/.exec(location.pathname)?.[1]
  return project === undefined ? { page: 'start' } : { page: 'project', project }
}

/** The file that the address names. */
export function file (): string | null {
  return new URLSearchParams(location.hash.slice(1)).get('file')
}

/** Puts a file into the address, so that going back goes back to the one before. */
export function goTo (path: string | null, replace = false): void {
  const hash = path === null ? '' : `#${new URLSearchParams({ file: path })}`
  if (path === file()) return
  const address = location.pathname + location.search + hash
  if (replace) history.replaceState(null, '', address)
  else history.pushState(null, '', address)
  dispatchEvent(new HashChangeEvent('hashchange'))
}

function keyOf (where: Place): string {
  return where.page === 'start' ? KEY : `${KEY}:${where.project}`
}
