//! Who is here: a name of one's own, and the others' as they say it. Names come from strangers, and are only ever text.

import { Value } from '@uspark/client'

const KEY = 'uspark:name'
const NAME_LENGTH = 40
/** The colours of `style.css`: `hue-0` to `hue-7`. */
const HUES = 8

/** Somebody who has the project open. `client` is theirs alone as long as they have. */
export interface Person { client: number, name: string, hue: number, isMe: boolean, doc: string | undefined }

const ANIMALS = ['Badger', 'Curlew', 'Dormouse', 'Egret', 'Finch', 'Gecko', 'Heron', 'Ibex', 'Jackdaw', 'Kestrel', 'Lynx', 'Marten', 'Newt', 'Otter', 'Plover', 'Wren']

/** One's own name, kept in this browser. */
export const myName = new Value(localStorage.getItem(KEY) ?? randomName())
myName.subscribe(name => localStorage.setItem(KEY, name))

/** The people in an awareness' states. */
export function people (states: Map<number, Record<string, unknown>>, me: number): Person[] {
  const found: Person[] = []
  for (const [client, state] of states) {
    const person = personOf(client, state, me)
    if (person !== undefined) found.push(person)
  }
  return found.sort((a, b) => Number(b.isMe) - Number(a.isMe) || a.client - b.client)
}

/** Somebody, from what their program says of them; nothing if it does not say who they are. */
export function personOf (client: number, state: Record<string, unknown>, me: number): Person | undefined {
  const user = state.user as { name?: unknown } | undefined
  if (typeof user !== 'object' || user === null) return undefined
  const name = typeof user.name === 'string' && user.name.trim() !== '' ? user.name.trim().slice(0, NAME_LENGTH) : 'Somebody'
  const doc = typeof state.doc === 'string' ? state.doc : undefined
  return { client, name, hue: hueOf(name), isMe: client === me, doc }
}

/** What one says of oneself. */
export function myself (): { name: string } {
  return { name: myName.value }
}

/** One or two letters for somebody. */
export function initials (name: string): string {
  const words = name.split(/\s+/).filter(word => word !== '')
  return words.slice(0, 2).map(word => [...word][0]!.toUpperCase()).join('')
}

/** A name has one colour everywhere, and for everybody. */
function hueOf (name: string): number {
  let sum = 7
  for (const character of name) sum = (sum * 31 + character.codePointAt(0)!) >>> 0
  return sum % HUES
}

function randomName (): string {
  return `Guest ${ANIMALS[Math.floor(Math.random() * ANIMALS.length)]!}`
}
