// The real server, and the real agent beside it: started on free ports and in their own directories, ended with the test.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, mkdir, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import WebSocket from 'ws'
import { openProject, Server, type Access, type Project } from '../src/index.ts'

/** Where `sync-server` and `uspark` are; npm runs a package's tests in its directory. */
const BIN = process.env.USPARK_BIN ?? resolve('../../target/debug')

/** Milliseconds after which what is waited for is taken not to come. */
const PATIENCE = 15_000

/** A server with one project. */
export class TestServer {
  #process: ChildProcess | undefined

  private constructor (readonly url: string, readonly scratch: string) {}

  admin = `uspk_${'a'.repeat(43)}`
  readonly project = 'demo'

  static async start (t: TestContext): Promise<TestServer> {
    const scratch = await mkdtemp(join(tmpdir(), 'uspark-client-'))
    const server = new TestServer(`http://127.0.0.1:${await freePort()}`, scratch)
    t.after(async () => {
      await server.kill()
      await rm(scratch, { recursive: true, force: true })
    })
    await server.start()
    await new Server(server.url, server.admin).createProject({ id: server.project })
    return server
  }

  /** Starts it, again on the same port and data. */
  async start (): Promise<void> {
    const args = ['--listen', this.url.slice('http://'.length), '--data', join(this.scratch, 'data')]
    const env = { ...process.env, USPARK_LOG: 'error' }
    const child = spawn(join(BIN, 'sync-server'), args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
    this.#process = child
    for await (const line of createInterface(child.stdout)) {
      const token = /^admin token: (.*)/.exec(line)?.[1]
      if (token !== undefined) this.admin = token
      if (/^(admin token:|the admin token is in)/.test(line)) break
    }
  }

  /** SIGKILL. */
  async kill (): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  /** Neither reads nor writes until it is resumed: as a network that is gone without a word. */
  freeze (): void { this.#process?.kill('SIGSTOP') }
  resume (): void { this.#process?.kill('SIGCONT') }

  async token (access: Access): Promise<{ id: string, token: string }> {
    return await new Server(this.url, this.admin).mintToken({ project: this.project, access })
  }

  /** The project, opened and ready. */
  async open (t: TestContext, token = this.admin): Promise<Project> {
    const project = openProject(this.url, this.project, token, { WebSocket })
    t.after(() => project.close())
    return await project.ready()
  }

  /** A workspace that a real agent keeps equal to the project; its directory. */
  async watch (t: TestContext): Promise<string> {
    const workspace = await mkdtemp(join(this.scratch, 'workspace-'))
    const home = join(workspace, '..', 'home')
    await mkdir(home, { recursive: true })
    const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: home, USPARK_SERVER: this.url, USPARK_TOKEN: this.admin, USPARK_LOG: 'error' }
    const agent = spawn(join(BIN, 'uspark'), ['watch', '--project-id', this.project], { cwd: workspace, env, stdio: ['ignore', 'ignore', 'ignore'] })
    t.after(async () => {
      if (agent.exitCode !== null) return
      const ended = once(agent, 'exit')
      agent.kill('SIGKILL')
      await ended
    })
    return workspace
  }
}

async function freePort (): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  listener.close()
  await once(listener, 'close')
  return port
}

/** Looks every few milliseconds until `condition` holds; fails with `what` when it does not within 15 s. */
export async function eventually (what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE
  while (!await condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${PATIENCE} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}
