//! Finding by a few letters: pure.

/** What was found, the best first; `at` are the indices in the candidate that the letters are. */
export interface Found { candidate: string, at: number[], score: number }

/** The candidates that have the letters of `query` in this order, the best `limit` of them; without letters the first. */
export function find (query: string, candidates: Iterable<string>, limit: number): Found[] {
  const letters = query.toLowerCase().replaceAll(' ', '')
  if (letters === '') return [...candidates].slice(0, limit).map(candidate => ({ candidate, at: [], score: 0 }))
  const found: Found[] = []
  for (const candidate of candidates) {
    const match = matched(letters, candidate)
    if (match !== undefined) found.push(match)
  }
  return found.sort((a, b) => b.score - a.score || a.candidate.length - b.candidate.length || (a.candidate < b.candidate ? -1 : 1)).slice(0, limit)
}

/** Whether all words of a query are in a path, each as it is. */
export function hasWords (query: string): (path: string) => boolean {
  const words = query.toLowerCase().split(/\s+/).filter(word => word !== '')
  return path => {
    const lower = path.toLowerCase()
    return words.every(word => lower.includes(word))
  }
}

/** Letters that stand together, begin a word, or are in the file's own name count for more. */
function matched (letters: string, candidate: string): Found | undefined {
  const lower = candidate.toLowerCase()
  const name = lower.lastIndexOf('/') + 1
  // Begun in the name where it is all there, else anywhere.
  return from(letters, candidate, lower, name, name) ?? from(letters, candidate, lower, name, 0)
}

function from (letters: string, candidate: string, lower: string, name: number, start: number): Found | undefined {
  const at: number[] = []
  let score = 0
  let next = start
  for (const letter of letters) {
    const index = lower.indexOf(letter, next)
    if (index < 0) return undefined
    if (index === at.at(-1)! + 1) score += 5
    if (index === 0 || /[/._\- ]/.test(candidate[index - 1]!)) score += 4
    if (index >= name) score += 2
    at.push(index)
    next = index + 1
  }
  return { candidate, at, score: score - (at.at(-1)! - at[0]!) / 10 }
}
