import { UsparkError } from './error.ts'

const COMPONENT_BYTES = 255
const PATH_BYTES = 1024
const RESERVED = new Set(['.git', '.uspark'])

/** Why a string is no path of a project, or nothing if it is one. */
export function faultOfPath (path: string): string | undefined {
  if (path === '') return 'a file needs a name'
  if (bytes(path) > PATH_BYTES) return `a path has at most ${PATH_BYTES} bytes`
  if (!path.isWellFormed()) return 'a path is well-formed Unicode'
  for (const component of path.split('/')) {
    if (component === '') return 'a path is relative and has no empty component'
    if (component === '.' || component === '..') return `\`${component}\` is no name`
    if (component.includes('\0')) return 'a name has no NUL'
    if (bytes(component) > COMPONENT_BYTES) return `a name has at most ${COMPONENT_BYTES} bytes`
    if (RESERVED.has(component.toLowerCase())) return `\`${component}\` is never part of a project`
  }
  return undefined
}

/** Throws if a string is no path of a project. */
export function checkPath (path: string): void {
  const fault = faultOfPath(path)
  if (fault !== undefined) throw new UsparkError(`\`${path}\` cannot be a path: ${fault}`, 400)
}

/** A path in an address: each component encoded, the slashes kept. */
export function pathInAddress (path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}

/** Whether `path` lies below the directory `parent`. */
export function isBelow (path: string, parent: string): boolean {
  return path.startsWith(parent + '/')
}

function bytes (text: string): number {
  return new TextEncoder().encode(text).length
}
