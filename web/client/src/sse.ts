/** One server-sent event. */
export interface Message { id: string, event: string, data: string }

/** Reads server-sent events off a body as they come; ends where the body does, with what is whole. */
export async function * messages (body: ReadableStream<Uint8Array>): AsyncGenerator<Message> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader()
  let rest = ''
  let id = ''
  let event = ''
  let data: string[] = []
  try {
    while (true) {
      const { done, value } = await reader.read()
      if (done) return
      const lines = (rest + value).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        const [, field, content] = /^([^:\r]*):? ?(.*?)\r?$/s.exec(line) ?? []
        if (field === 'id') id = content ?? ''
        else if (field === 'event') event = content ?? ''
        else if (field === 'data') data.push(content ?? '')
        else if (field === '' && !line.startsWith(':')) {
          // An id alone is told too: it says where the stream begins.
          yield { id, event, data: data.join('\n') }
          event = ''
          data = []
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {})
  }
}
