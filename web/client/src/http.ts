import { UsparkError } from './error.ts'

/** What a request may bring. */
export interface Asked {
  method?: string
  headers?: Record<string, string>
  body?: BodyInit
  signal?: AbortSignal | undefined
}

/** The server's HTTP calls, with a token. `server` has no slash at its end. */
export class Http {
  constructor (readonly server: string, private readonly token: string) {}

  /** The whole address of a call below `/api`. */
  address (path: string): string {
    return `${this.server}/api/${path}`
  }

  /** The headers of every call. */
  headers (more: Record<string, string> = {}): Record<string, string> {
    return { ...more, authorization: `Bearer ${this.token}` }
  }

  /** Calls; an answer that is a failure is thrown, in the server's words. */
  async call (path: string, { headers, ...asked }: Asked = {}): Promise<Response> {
    let response
    try {
      // `Request` options of the same meaning, where undefined is the same as absent.
      response = await fetch(this.address(path), { ...asked, headers: this.headers(headers) } as RequestInit)
    } catch (error) {
      asked.signal?.throwIfAborted()
      throw unreachable(error)
    }
    if (!response.ok) throw problem(response.status, await response.text())
    return response
  }

  /** Calls for JSON, with JSON if there is a `body`. */
  async json<T> (path: string, method = 'GET', body?: unknown): Promise<T> {
    const asked: Asked = body === undefined ? { method } : { method, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    const response = await this.call(path, asked)
    return await response.json() as T
  }
}

/** The server could not be asked. */
export function unreachable (cause: unknown): UsparkError {
  return new UsparkError('the server cannot be reached', 0, 'check the connection; nothing was changed, or try again', { cause })
}

/** A failure that the server explained (RFC 9457), or could not explain. */
export function problem (status: number, body: string): UsparkError {
  try {
    const { detail, title, hint } = JSON.parse(body) as { detail?: string, title?: string, hint?: string }
    return new UsparkError(detail || title || `the server answered ${status}`, status, hint)
  } catch {
    return new UsparkError(`the server answered ${status}`, status)
  }
}
