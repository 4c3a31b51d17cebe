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

/** Milliseconds between two pictures of what changes by itself: nobody reads faster. */
const PACE = 100

/** Does something with the next picture, however often it is asked, and again at the soonest after a tenth of a second. */
export function paced (work: () => void): () => void {
  let isAsked = false
  let last = -PACE
  const run = (): void => {
    isAsked = false
    last = performance.now()
    work()
  }
  return () => {
    if (isAsked) return
    isAsked = true
    setTimeout(() => requestAnimationFrame(run), Math.max(0, last + PACE - performance.now()))
  }
}
