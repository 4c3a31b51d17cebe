// Debian's Chromium, driven from outside, against the real server and the page that was built into it.

import { existsSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core'
import type { Access } from '@uspark/client'
import type { TestServer } from '../../client/test/binaries.ts'

const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome'].map(name => `/usr/bin/${name}`)

let browser: Promise<Browser> | undefined

/** The one browser of a file of tests; `closeBrowser` ends it. */
function theBrowser (): Promise<Browser> {
  const executablePath = process.env.USPARK_CHROMIUM ?? CHROMIUM.find(existsSync)
  if (executablePath === undefined) throw new Error('there is no Chromium here: apt-get install chromium')
  // A container's root has no sandbox.
  return browser ??= chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] })
}

export async function closeBrowser (): Promise<void> {
  await (await browser)?.close()
}

/** Somebody at the page. */
export interface Visitor {
  page: Page
  /** What the page should not have done: errors, and what its Content-Security-Policy forbade. */
  faults: string[]
}

export interface Visit extends BrowserContextOptions {
  access?: Access
  token?: string
  file?: string
  name?: string
}

/** A new person with a link to the project; they see the tree when this is through. The test fails if the page did anything it should not. */
export async function visit (t: TestContext, server: TestServer, { access = 'write', token, file, name, ...options }: Visit = {}): Promise<Visitor> {
  const secret = token ?? (await server.token(access)).token
  const context = await (await theBrowser()).newContext({ viewport: { width: 1200, height: 700 }, acceptDownloads: true, ...options })
  const faults: string[] = []
  t.after(async () => {
    await context.close()
    if (faults.length > 0) throw new Error(faults.join('\n'))
  })
  if (name !== undefined) await context.addInitScript(own => localStorage.setItem('uspark:name', own), name)
  const page = await context.newPage()
  page.setDefaultTimeout(15_000)
  page.on('pageerror', error => faults.push(error.message))
  page.on('console', message => {
    // That a server is away, or refuses, is said on the page; the browser says so besides.
    if (message.type() === 'error' && !/Failed to load resource|WebSocket connection|ERR_/.test(message.text())) faults.push(message.text())
  })
  const hash = new URLSearchParams({ token: secret, ...(file === undefined ? {} : { file }) })
  await page.goto(`${server.url}/p/${server.project}#${hash}`)
  return { page, faults }
}

/** A file of the tree, as people find it. */
export function line (page: Page, path: string): ReturnType<Page['locator']> {
  return page.locator(`.tree [role=treeitem][title=${JSON.stringify(path)}]`)
}
