/** A value that changes, and whoever wants to hear of it. */
export interface Observable<T> {
  /** What it is now. */
  readonly value: T
  /** Calls `listener` with each later value; the result ends that. */
  subscribe (listener: (value: T) => void): () => void
}

/** A set of listeners: what it tells is lost on nobody who listens, also when one of them throws. */
export class Listeners<T> {
  readonly #listeners = new Set<(told: T) => void>()

  add (listener: (told: T) => void): () => void {
    // A listener may be added twice, and each is its own.
    const own = (told: T): void => listener(told)
    this.#listeners.add(own)
    return () => { this.#listeners.delete(own) }
  }

  tell (told: T): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(told)
      } catch (error) {
        // One listener's mistake is not the others': it surfaces by itself.
        queueMicrotask(() => { throw error })
      }
    }
  }
}

/** An observable that its owner sets. */
export class Value<T> implements Observable<T> {
  #value: T
  readonly #listeners = new Listeners<T>()

  constructor (value: T) {
    this.#value = value
  }

  get value (): T {
    return this.#value
  }

  /** Sets it; the same value again is no change. */
  set (value: T): void {
    if (Object.is(value, this.#value)) return
    this.#value = value
    this.#listeners.tell(value)
  }

  subscribe (listener: (value: T) => void): () => void {
    return this.#listeners.add(listener)
  }
}

/** Waits until an observable satisfies `condition`; `signal` ends the wait with its reason. */
export function until<T> (observable: Observable<T>, condition: (value: T) => boolean, signal?: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (condition(observable.value)) return resolve(observable.value)
    if (signal?.aborted === true) return reject(signal.reason)
    const abort = (): void => { end(); reject(signal?.reason) }
    const unsubscribe = observable.subscribe(value => {
      if (!condition(value)) return
      end()
      resolve(value)
    })
    const end = (): void => { unsubscribe(); signal?.removeEventListener('abort', abort) }
    signal?.addEventListener('abort', abort)
  })
}
