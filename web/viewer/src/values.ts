import type { Observable } from '@uspark/client'
import { useEffect, useReducer } from 'preact/hooks'

/** What an observable is now; the component is drawn again when that changes. */
export function useValue<T> (observable: Observable<T>): T {
  const [, draw] = useReducer((count: number) => count + 1, 0)
  const seen = observable.value
  useEffect(() => {
    // It may have changed between the drawing and now.
    if (!Object.is(seen, observable.value)) draw(undefined)
    return observable.subscribe(() => draw(undefined))
  }, [observable])
  return seen
}

/** Does something once before the next picture is drawn, however often it is asked. */
export function onceAFrame (work: () => void): () => void {
  let asked = false
  return () => {
    if (asked) return
    asked = true
    requestAnimationFrame(() => { asked = false; work() })
  }
}
