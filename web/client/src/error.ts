/** What went wrong, in words for a person, and what to do about it. */
export class UsparkError extends Error {
  override readonly name = 'UsparkError'

  /**
   * `status` is the HTTP status, or the close code of a socket (44xx), or 0 when the server was not reached or not asked.
   * `hint` says what to do next, where there is something.
   */
  constructor (message: string, readonly status: number = 0, readonly hint?: string, options?: ErrorOptions) {
    super(message, options)
  }

  /** Whether trying again, as one is, is of no use. */
  get isFinal (): boolean {
    return (this.status >= 400 && this.status < 500 && this.status !== 408 && this.status !== 429) || (this.status >= 4400 && this.status < 4500)
  }
}

/** For a change that this token does not allow. Says the same whether the server was asked or not. */
export function readOnly (): UsparkError {
  return new UsparkError('this link may only read', 403, 'ask whoever gave it to you for one that may write')
}
