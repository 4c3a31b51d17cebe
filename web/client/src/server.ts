import { Http } from './http.ts'

/** What a token may do; each includes the one before. */
export type Access = 'read' | 'write' | 'admin'

/** What a token is. Times are milliseconds since 1970; `project` is null for the server's own, which spans all. */
export interface Token { id: string, project: string | null, access: Access, name: string | null, expiresAt: number | null }

/** A project in a list. */
export interface ProjectInfo { id: string, name: string | null, createdAt: number }

/** A token as it is made, with its secret, which is never shown again. */
export interface NewToken extends Token { token: string, project: string }

/** What a token may do beside the projects themselves. */
export class Server {
  readonly #http: Http

  constructor (server: string, token: string) {
    this.#http = new Http(server.replace(/\/+$/, ''), token)
  }

  /** What this token is. */
  token (): Promise<Token> {
    return this.#http.json('tokens/self')
  }

  /** The projects that this token sees, page by page. */
  async * projects (): AsyncGenerator<ProjectInfo> {
    let after: string | null = ''
    while (after !== null) {
      const query: string = after === '' ? '' : `?after=${encodeURIComponent(after)}`
      const page: { projects: ProjectInfo[], next: string | null } = await this.#http.json(`projects${query}`)
      yield * page.projects
      after = page.next
    }
  }

  /** Makes a project; only the server's own token may. */
  createProject (project: { id?: string, name?: string }): Promise<ProjectInfo> {
    return this.#http.json('projects', 'POST', project)
  }

  /** Makes a token for a project. `expiresIn` is in seconds. */
  mintToken (token: { project: string, access: Access, expiresIn?: number, name?: string }): Promise<NewToken> {
    return this.#http.json('tokens', 'POST', token)
  }

  /** Ends a token: its sockets close within a second. */
  async revokeToken (id: string): Promise<void> {
    await this.#http.call(`tokens/${encodeURIComponent(id)}`, { method: 'DELETE' })
  }
}
