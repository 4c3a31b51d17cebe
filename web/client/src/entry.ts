/** What stands at a path. Sizes are bytes, times milliseconds since 1970, modes permission bits, hashes BLAKE3 in hexadecimal. */
export type Entry =
  | {
    kind: 'text'
    /** The text document: a rename keeps it. */
    doc: string
    /** The content the document began with. */
    seed: string
    mode: number
    /** When the content that `hash` names was stored, or the entry was made. */
    mtime: number
    /** The content that the server stored last; a text that is being typed into is ahead of it. */
    hash: string
    /** Bytes of that content; unknown while it is the seed. */
    size?: number
  }
  | { kind: 'binary', hash: string, size: number, mode: number, mtime: number }
  | { kind: 'link', target: string }
  | { kind: 'dir' }

/** A text's settled content, which only the server writes. */
export interface Settled { hash: string, size: number, mtime: number }

/** Reads a value of the map `files`; nothing if it is no entry. Such a value the server puts right, so it is only passed over. */
export function parseEntry (value: unknown, settledOf: (doc: string) => Settled | undefined): Entry | undefined {
  if (!isRecord(value)) return undefined
  const { doc, seed, hash, size, mode, mtime, link, dir } = value
  if (isText(doc)) {
    if (!isText(seed) || !isNumber(mode) || !isNumber(mtime)) return undefined
    const settled = settledOf(doc)
    const now = settled === undefined ? { hash: seed, mtime } : { ...settled, mtime: Math.max(settled.mtime, mtime) }
    return { kind: 'text', doc, seed, mode, ...now }
  }
  if (isText(hash)) return isNumber(size) && isNumber(mode) && isNumber(mtime) ? { kind: 'binary', hash, size, mode, mtime } : undefined
  if (isText(link)) return { kind: 'link', target: link }
  return dir === true ? { kind: 'dir' } : undefined
}

/** Reads a value of the map `texts`. */
export function parseSettled (value: unknown): Settled | undefined {
  if (!isRecord(value)) return undefined
  const { hash, size, mtime } = value
  return isText(hash) && isNumber(size) && isNumber(mtime) ? { hash, size, mtime } : undefined
}

function isRecord (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function isText (value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isNumber (value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}
