// The commands of a steered Yjs client, the same over every provider. A client script brings `connect`, which attaches
// an unmodified provider to a Y.Doc; everything here is plain Yjs, as an editor would use it.

import { until } from './lines.mjs'

const TIMEOUT = 30_000

/**
 * One open document.
 *   provider     { synced(), saved(), closed(), disconnect(), reconnect(), destroy() }; it calls `changed` when any answer may differ
 *   made         the updates that were made here
 *   echoes       the Update messages received, where the provider lets them be seen
 *   updates      sizes of the Update messages received since the last `forget`
 *   deltas       what others did to the text, as Yjs deltas
 *   closes       how often the connection was lost
 *   stateless    Hocuspocus' stateless messages received, parsed
 *   cursors      places in the text that move with it
 */
class OpenDocument {
  constructor (name, connect, { Y, text }) {
    this.name = name
    this.doc = new Y.Doc()
    this.text = text(this.doc)
    this.made = []
    this.echoes = []
    this.updates = []
    this.deltas = []
    this.closes = 0
    this.stateless = []
    this.cursors = []
    this.waiting = new Set()
    this.provider = connect(this)
    this.doc.on('update', (update, origin, doc, transaction) => {
      if (transaction.local) this.made.push(update)
      this.changed()
    })
    this.text.observe(event => {
      if (!event.transaction.local) this.deltas.push(event.delta)
    })
  }

  /** Tells everyone who waits to look again. */
  changed () {
    for (const look of [...this.waiting]) look()
  }

  /** Waits for `condition`, looking again at every change of the document or of the connection. */
  until (condition, timeout, what) {
    const subscribe = look => {
      this.waiting.add(look)
      return () => this.waiting.delete(look)
    }
    return until(condition, subscribe, timeout ?? TIMEOUT, () => `${this.name}: ${what()}`)
  }

  /** The index in the text that a command names: `at`, or just before or behind a marker. */
  index ({ at, before, after }) {
    if (at !== undefined) return at
    const marker = before ?? after
    const found = this.text.toString().indexOf(marker)
    if (found < 0) throw new Error(`${this.name} does not contain ${JSON.stringify(marker)}`)
    return before !== undefined ? found : found + marker.length
  }

  close () {
    this.provider.destroy()
    this.doc.destroy()
  }
}

/** The commands, over documents opened with `connect(openDocument) -> provider`. */
export function documentCommands (connect, library) {
  const { Y, map } = library
  const open = new Map()
  const document = ({ document }) => {
    const found = open.get(document)
    if (found === undefined) throw new Error(`${document} is not open`)
    return found
  }
  const files = request => map(document(request).doc, 'files')

  const commands = {
    open: async request => {
      const opened = new OpenDocument(request.document, connect, library)
      open.set(request.document, opened)
      if (request.synced === false) return
      await commands.waitSynced(request)
    },
    waitSynced: request => {
      const opened = document(request)
      return opened.until(() => opened.provider.synced(), request.timeout, () => `not synced, closed: ${JSON.stringify(opened.provider.closed())}`)
    },
    waitSaved: request => {
      const opened = document(request)
      return opened.until(() => opened.provider.saved(), request.timeout, () => `not saved: ${opened.provider.unsaved()}`)
    },
    waitClosed: async request => {
      const opened = document(request)
      await opened.until(() => opened.provider.closed() !== null, request.timeout, () => 'not closed')
      return opened.provider.closed()
    },

    files: request => files(request).toJSON(),
    texts: request => map(document(request).doc, 'texts').toJSON(),
    setFile: request => { files(request).set(request.path, request.value) },
    removeFile: request => { files(request).delete(request.path) },
    // One transaction: the document never has two paths, nor none.
    renameFile: request => {
      const paths = files(request)
      paths.doc.transact(() => {
        paths.set(request.to, paths.get(request.from))
        paths.delete(request.from)
      })
    },
    waitFile: async request => {
      const paths = files(request)
      const gone = request.gone === true
      await document(request).until(() => paths.has(request.path) !== gone, request.timeout,
        () => `${request.path} is ${gone ? 'still' : 'not'} among ${JSON.stringify([...paths.keys()])}`)
      return paths.get(request.path) ?? null
    },

    text: request => document(request).text.toString(),
    insert: request => {
      const opened = document(request)
      opened.text.insert(opened.index(request), request.text)
    },
    // Deletes `length` UTF-16 units at an index, or the given text wherever it is.
    delete: request => {
      const opened = document(request)
      const at = request.text !== undefined ? opened.index({ before: request.text }) : opened.index(request)
      opened.text.delete(at, request.text?.length ?? request.length)
    },
    // Types word after word behind a marker, a transaction each, a breath between them.
    type: async request => {
      const opened = document(request)
      let place = Y.createRelativePositionFromTypeIndex(opened.text, opened.index(request), request.after ? -1 : 0)
      for (const word of request.words) {
        const { index } = Y.createAbsolutePositionFromRelativePosition(place, opened.doc)
        opened.text.insert(index, word)
        place = Y.createRelativePositionFromTypeIndex(opened.text, index + word.length, -1)
        await new Promise(resolve => setTimeout(resolve, request.pause ?? 5))
      }
    },
    // Puts line after line somewhere between the lines, a transaction each, a breath between some of them.
    scatter: async request => {
      const opened = document(request)
      const random = numbers(request.seed)
      for (const line of request.lines) {
        const content = opened.text.toString()
        const found = content.indexOf('\n', Math.floor(random() * content.length))
        opened.text.insert(found + 1, line + '\n')
        if (random() < 0.3) await new Promise(resolve => setTimeout(resolve, random() * request.pause))
      }
    },
    // Puts a cursor at each index, to the right of what is before it, as editors do.
    setCursors: request => {
      const opened = document(request)
      opened.cursors = request.at.map(index => Y.createRelativePositionFromTypeIndex(opened.text, index))
    },
    // -> where the cursors are now, in the order in which they were put
    cursors: request => {
      const opened = document(request)
      return opened.cursors.map(cursor => Y.createAbsolutePositionFromRelativePosition(cursor, opened.doc).index)
    },
    // Deletes every line that the pattern matches.
    deleteLines: request => {
      const { doc, text } = document(request)
      const lines = text.toString().split(/(?<=\n)/)
      doc.transact(() => {
        for (let at = 0; lines.length > 0;) {
          const line = lines.shift()
          if (new RegExp(request.pattern).test(line)) text.delete(at, line.length)
          else at += line.length
        }
      })
    },
    waitText: async request => {
      const opened = document(request)
      const missing = () => [request.contains ?? []].flat().filter(part => !opened.text.toString().includes(part))
      const wanted = () => missing().length === 0 && (request.equals === undefined || opened.text.toString() === request.equals)
      await opened.until(wanted, request.timeout,
        () => `${JSON.stringify(shortened(opened.text.toString()))} does not have ${JSON.stringify(missing().slice(0, 5))}`)
      return opened.text.toString()
    },

    closes: request => document(request).closes,
    // -> the updates made here, and those of them that came back, byte for byte; in hex
    made: request => {
      const { made, echoes } = document(request)
      const hex = updates => updates.map(update => Buffer.from(update).toString('hex'))
      const back = new Set(hex(echoes))
      return { made: hex(made), echoed: hex(made).filter(update => back.has(update)) }
    },
    // Says nothing any more of who is here.
    hide: request => document(request).provider.awareness?.destroy(),
    updates: request => document(request).updates,
    deltas: request => document(request).deltas,
    forget: request => {
      const opened = document(request)
      opened.updates.length = 0
      opened.deltas.length = 0
    },

    sendStateless: request => document(request).provider.send(request.payload),
    // The first stateless message that has the given key.
    waitStateless: async request => {
      const opened = document(request)
      const wanted = () => opened.stateless.find(message => request.key in message)
      await opened.until(() => wanted() !== undefined, request.timeout,
        () => `no stateless message has ${request.key}: ${JSON.stringify(opened.stateless)}`)
      return wanted()
    },
    disconnect: request => document(request).provider.disconnect(),
    reconnect: request => document(request).provider.reconnect(),
    close: request => {
      document(request).close()
      open.delete(request.document)
    }
  }
  const end = () => { for (const opened of open.values()) opened.close() }
  return { commands, end }
}

/** Numbers from 0 to 1 that only the seed decides (mulberry32, public domain). */
function numbers (seed) {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function shortened (text) {
  return text.length <= 400 ? text : `${text.slice(0, 200)} ... ${text.slice(-200)}`
}
