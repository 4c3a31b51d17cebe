import { useEffect, useRef, useState } from 'preact/hooks'
import { Icon } from './icons.tsx'
import { sentence, type Difference, type Session } from './session.ts'

/** What a change made of a text. */
export function DifferenceView ({ session, difference, onOpen }: { session: Session, difference: Difference, onOpen: (path: string) => void }) {
  const { path, before, after, words } = difference
  const place = useRef<HTMLDivElement>(null)
  const [fault, setFault] = useState<string | null>(null)
  const [isHere, setHere] = useState(false)
  useEffect(() => {
    const stop = new AbortController()
    let end: (() => void) | undefined
    const show = async (): Promise<void> => {
      const version = async (hash: string): Promise<string> => {
        const bytes = await session.project.readVersion(hash, stop.signal)
        return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
      }
      const [editor, old, now] = await Promise.all([import('./editor/difference.ts'), version(before), version(after)])
      if (place.current === null || stop.signal.aborted) return
      setHere(true)
      end = await editor.showDifference(place.current, path, old, now)
      if (stop.signal.aborted) end()
    }
    show().catch((error: Error) => { if (!stop.signal.aborted) setFault(error.message) })
    return () => {
      stop.abort()
      end?.()
    }
  }, [difference])
  const close = (): void => session.difference.set(null)
  return (
    <section class="file" aria-label={`What changed in ${path}`} onKeyDown={event => { if (event.key === 'Escape') close() }}>
      <p class="banner quiet">
        <span><button class="plain" onClick={() => onOpen(path)}>{path}</button> {words}</span>
        <button class="icon-button" aria-label="Close the difference" title="Close" onClick={close}><Icon name="close" /></button>
      </p>
      {fault !== null && <p class="empty" role="alert">{sentence(fault)} An old version is kept for a time only.</p>}
      <div class="code difference" ref={place}>{!isHere && fault === null && <p class="empty" role="status">Loading both versions…</p>}</div>
    </section>
  )
}
