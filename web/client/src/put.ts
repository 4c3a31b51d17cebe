import { problem, unreachable, type Http } from './http.ts'

/** How far an upload is, in bytes. */
export interface Progress { sent: number, total: number }

/** Bytes that are handed to the network at once, where the program does so. */
const CHUNK = 64 << 10

/** One PUT whose progress is told. */
export interface Put {
  body: Blob
  headers: Record<string, string>
  onProgress: (progress: Progress) => void
  signal?: AbortSignal | undefined
}

/** Sends bytes and says how far it is; a browser tells that only of an XMLHttpRequest, Node has only `fetch`. */
export function putWithProgress<T> (http: Http, path: string, put: Put): Promise<T> {
  return typeof XMLHttpRequest === 'undefined' ? byFetch(http, path, put) : byRequest(http, path, put)
}

function byRequest<T> (http: Http, path: string, { body, headers, onProgress, signal }: Put): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open('PUT', http.address(path))
    for (const [name, value] of Object.entries(http.headers(headers))) request.setRequestHeader(name, value)
    request.upload.addEventListener('progress', ({ loaded }) => onProgress({ sent: loaded, total: body.size }))
    request.addEventListener('load', () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText) as T)
      else reject(problem(request.status, request.responseText))
    })
    request.addEventListener('error', () => reject(unreachable(undefined)))
    request.addEventListener('abort', () => reject(signal?.reason))
    signal?.addEventListener('abort', () => request.abort())
    if (signal?.aborted === true) return reject(signal.reason)
    request.send(body)
  })
}

async function byFetch<T> (http: Http, path: string, { body, headers, onProgress, signal }: Put): Promise<T> {
  let sent = 0
  const stream = new ReadableStream<Uint8Array>({
    async pull (controller) {
      const chunk = new Uint8Array(await body.slice(sent, sent + CHUNK).arrayBuffer())
      if (chunk.length === 0) return controller.close()
      sent += chunk.length
      controller.enqueue(chunk)
      onProgress({ sent, total: body.size })
    }
  })
  const asked = { method: 'PUT', headers, body: stream as BodyInit, signal, duplex: 'half' }
  const response = await http.call(path, asked)
  return await response.json() as T
}
