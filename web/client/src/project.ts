import type { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { SyncedDocument } from './document.ts'
import type { Entry } from './entry.ts'
import { UsparkError, readOnly } from './error.ts'
import { events, type EventsFrom, type ProjectEvent } from './events.ts'
import { Http } from './http.ts'
import { Value, until, type Observable } from './observable.ts'
import { checkPath, isBelow, pathInAddress } from './path.ts'
import { putWithProgress, type Progress } from './put.ts'
import { Socket } from './socket.ts'
import type { OpenText } from './text.ts'
import { Texts } from './texts.ts'
import { Tree } from './tree.ts'

/** Milliseconds for which a path may still be on its way when it is opened, as on the server. */
const RACE = 2000

/** How the project stands with the server. */
export interface ProjectState {
  /** `offline` comes back by itself; `refused` does not. */
  connection: 'connecting' | 'connected' | 'offline' | 'refused'
  /** Why the server will not have this token, or did not take a change. */
  why?: UsparkError
  /** Everything that was done here is on the server's disk: it has said so. */
  saved: boolean
  /** Whether this token may not write. */
  readOnly: boolean
}

/** A file as the server has it after a write. */
export interface Written { path: string, kind: Entry['kind'], hash: string, size: number, mode: number, mtime: number, doc?: string }

/** How a file is written. */
export interface WriteOptions {
  /** Permission bits; else a file keeps its own, and a new one has 0644. */
  mode?: number
  /** The version that the bytes were made from: they are merged with what became of it since. Else they become the content. */
  base?: string
  /** Fails with 412 if the file is there already. */
  onlyNew?: boolean
  signal?: AbortSignal
}

/** What may be given beside the token. */
export interface ProjectOptions {
  /** Where the program has no WebSocket of its own: Node before 22 has not. */
  WebSocket?: unknown
}

/**
 * Opens a project: `server` is its address (`https://sync.example.com`), `id` the project's. Returns at once; `ready` says when
 * the tree is there. Texts are edited in place (`openText`), all else is read and written whole.
 */
export function openProject (server: string, id: string, token: string, options: ProjectOptions = {}): Project {
  return new Project(server.replace(/\/+$/, ''), id, token, options)
}

/** An open project. */
export class Project {
  readonly tree: Tree
  /** Who has the project open, and where they are. What stands in a state is between the programs that set it. */
  readonly awareness: Awareness
  readonly #state = new Value<ProjectState>({ connection: 'connecting', saved: true, readOnly: false })
  readonly #http: Http
  readonly #socket: Socket
  readonly #document: SyncedDocument
  readonly #texts: Texts
  readonly #files: Y.Map<unknown>
  readonly #closing = new AbortController()
  #writing = 0

  constructor (server: string, readonly id: string, token: string, options: ProjectOptions) {
    this.#http = new Http(server, token)
    this.#socket = new Socket(server, (options.WebSocket ?? globalThis.WebSocket) as typeof WebSocket)
    this.#document = new SyncedDocument(this.#socket, id, token)
    this.#files = this.#document.doc.getMap('files')
    this.awareness = this.#document.awareness
    this.tree = new Tree(this.#document.doc)
    this.#texts = new Texts(id, token, this.#socket, this.tree, (path, entry) => this.#restore(path, entry))

    const { provider, state } = this.#document
    provider.on('authenticated', () => {
      // Every text's updates come too: the tree tells of them, and a text that is opened is up to date the sooner.
      provider.sendStateless(JSON.stringify({ follow: 'texts' }))
    })
    this.#socket.ledger.updated.add(name => this.tree.noteEdit(name.slice(id.length + 1)))
    this.#socket.refused.add(why => this.#refused(why))
    state.subscribe(() => this.#look())
    this.#texts.changed.add(() => this.#look())
  }

  /** Connection, and whether all is saved. */
  get state (): Observable<ProjectState> {
    return this.#state
  }

  /** Waits until the tree is there; throws if the server refuses it. */
  async ready (): Promise<this> {
    const loaded = (): boolean => this.#document.state.value.loaded
    const state = await until(this.#state, ({ connection }) => loaded() || connection === 'refused', this.#closing.signal)
    if (!loaded() && state.why !== undefined) throw state.why
    return this
  }

  /** Waits until everything that was done here is on the server's disk; throws if the server will not take it. */
  async saved (signal?: AbortSignal): Promise<void> {
    const state = await until(this.#state, ({ saved, why }) => saved || why !== undefined, signal ?? this.#closing.signal)
    if (!state.saved && state.why !== undefined) throw state.why
  }

  /** Opens the text at a path. It follows the text when that is renamed. Call `close` on it when you are done. */
  async openText (path: string): Promise<OpenText> {
    await this.ready()
    const entry = await this.#entry(path)
    if (entry === undefined) throw new UsparkError(`there is no \`${path}\` here`, 404)
    if (entry.kind !== 'text') throw new UsparkError(`\`${path}\` is no text`, 409, 'readFile reads its bytes')
    const open = this.#texts.open(entry.doc, path)
    try {
      return await open.loaded(this.#closing.signal)
    } catch (error) {
      open.close()
      throw error
    }
  }

  /** The bytes of a file as the server has them. */
  readFile (path: string, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#bytes(`${this.#address()}/files/${pathInAddress(path)}`, signal)
  }

  /** The bytes of a version of a file of this project, by its hash. */
  readVersion (hash: string, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#bytes(`blobs/${hash}`, signal)
  }

  /** The whole tree as a zip. */
  async archive (signal?: AbortSignal): Promise<Blob> {
    const response = await this.#http.call(`${this.#address()}/archive`, { signal })
    return await response.blob()
  }

  /** Writes a file whole. It is durable when this resolves; a text becomes it by the smallest edit. */
  async writeFile (path: string, bytes: Uint8Array | Blob, options: WriteOptions = {}): Promise<Written> {
    return await this.upload(path, bytes, () => {}, options)
  }

  /** As `writeFile`, and says how far it is. */
  async upload (path: string, bytes: Uint8Array | Blob, onProgress: (progress: Progress) => void, options: WriteOptions = {}): Promise<Written> {
    checkPath(path)
    this.#mayWrite()
    const query = options.mode === undefined ? '' : `?mode=${options.mode.toString(8).padStart(4, '0')}`
    const headers: Record<string, string> = { 'content-type': 'application/octet-stream' }
    if (options.base !== undefined) headers['if-match'] = `"${options.base}"`
    if (options.onlyNew === true) headers['if-none-match'] = '*'
    const body = bytes instanceof Blob ? bytes : new Blob([bytes as Uint8Array<ArrayBuffer>])
    this.#writing += 1
    this.#look()
    try {
      return await putWithProgress(this.#http, `${this.#address()}/files/${pathInAddress(path)}${query}`, { body, headers, onProgress, signal: options.signal })
    } finally {
      this.#writing -= 1
      this.#look()
    }
  }

  /** Gives a file, or a directory with all that is in it, another path. Texts that are open stay open. */
  rename (from: string, to: string): void {
    checkPath(to)
    this.#mayWrite()
    const moved = this.#at(from)
    if (isBelow(to, from)) throw new UsparkError(`\`${from}\` cannot be moved into itself`, 400)
    this.#checkFree(to)
    this.#files.doc?.transact(() => {
      for (const path of moved) {
        this.#files.set(to + path.slice(from.length), this.#files.get(path))
        this.#files.delete(path)
      }
    })
  }

  /** Deletes a file, or a directory with all that is in it. */
  remove (path: string): void {
    this.#mayWrite()
    const removed = this.#at(path)
    this.#files.doc?.transact(() => { for (const path of removed) this.#files.delete(path) })
  }

  /** Makes an empty directory. */
  makeDirectory (path: string): void {
    checkPath(path)
    this.#mayWrite()
    this.#checkFree(path)
    this.#files.set(path, { dir: true })
  }

  /** What happens in the project, and has happened. See `EventsFrom` for where it begins. */
  events (from: EventsFrom = {}): AsyncGenerator<ProjectEvent> {
    const signals = [this.#closing.signal, ...(from.signal === undefined ? [] : [from.signal])]
    return events(this.#http, this.id, { ...from, signal: AbortSignal.any(signals) })
  }

  /** Tries to come back now, rather than when it is due. */
  retry (): void {
    this.#socket.retry()
  }

  /** Closes everything. What is not saved by then (see `saved`) may be lost. */
  close (): void {
    this.#closing.abort(new UsparkError('the project was closed'))
    this.#texts.end()
    this.#document.close()
    this.#socket.close()
  }

  #address (): string {
    return `projects/${this.id}`
  }

  async #bytes (address: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const response = await this.#http.call(address, { signal })
    return new Uint8Array(await response.arrayBuffer())
  }

  /** What is at a path, or comes there in a moment. */
  #entry (path: string): Promise<Entry | undefined> {
    return new Promise(resolve => {
      const look = (): void => {
        const entry = this.tree.get(path)
        if (entry !== undefined) end(entry)
      }
      const unsubscribe = this.tree.subscribe(look)
      const timer = setTimeout(() => end(undefined), RACE)
      const end = (entry: Entry | undefined): void => {
        clearTimeout(timer)
        unsubscribe()
        resolve(entry)
      }
      look()
    })
  }

  /** The path, and all that is below it. */
  #at (path: string): string[] {
    const found = [...this.tree].map(([other]) => other).filter(other => other === path || isBelow(other, path))
    if (found.length === 0) throw new UsparkError(`there is no \`${path}\` here`, 404)
    return found
  }

  #restore (path: string, entry: Entry): void {
    this.#mayWrite()
    this.#checkFree(path)
    if (entry.kind !== 'text') return
    const { doc, seed, mode, mtime } = entry
    this.#files.set(path, { doc, seed, mode, mtime })
  }

  /** Throws if a file cannot come to be at a path. */
  #checkFree (path: string): void {
    for (const [other, { kind }] of this.tree) {
      const isInTheWay = other === path || isBelow(other, path) || (isBelow(path, other) && kind !== 'dir')
      if (isInTheWay) throw new UsparkError(`\`${other}\` is there already`, 409, 'rename that first, or take another name')
    }
  }

  #mayWrite (): void {
    if (this.#state.value.readOnly) throw readOnly()
  }

  #refused (why: UsparkError): void {
    if (this.#state.value.connection !== 'refused') this.#state.set({ ...this.#state.value, connection: 'refused', why })
  }

  /** Looks at all documents, and tells what is different. */
  #look (): void {
    const { denied } = this.#document.state.value
    if (denied !== undefined) {
      this.#socket.stop()
      this.#refused(denied)
    }
    const now = this.#state.value
    const documents = [this.#document, ...this.#texts.documents()].map(({ state }) => state.value)
    const next: ProjectState = {
      connection: now.connection === 'refused' ? 'refused' : this.#connection(),
      saved: this.#writing === 0 && documents.every(({ saved }) => saved),
      readOnly: this.#document.isReadOnly
    }
    const why = now.why ?? documents.find(({ rejected }) => rejected !== undefined)?.rejected
    if (why !== undefined) next.why = why
    const keys = ['connection', 'saved', 'readOnly', 'why'] as const
    if (keys.some(key => next[key] !== now[key])) this.#state.set(next)
  }

  #connection (): ProjectState['connection'] {
    const { live, loaded } = this.#document.state.value
    if (live) return 'connected'
    return loaded ? 'offline' : 'connecting'
  }
}
