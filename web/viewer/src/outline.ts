//! The tree as it is shown: pure, so that it can be tested with thousands of files and no page.

import type { Entry } from '@uspark/client'

/** A file or a directory. */
export interface TreeNode {
  name: string
  path: string
  /** What is there; a directory that is only the parent of others has no entry. */
  entry: Entry | undefined
  children: Map<string, TreeNode> | undefined
  sorted: TreeNode[] | undefined
}

/** A line of the tree. */
export interface Row {
  node: TreeNode
  /** From 1. */
  level: number
  isDirectory: boolean
  isOpen: boolean
  /** Its place among its siblings, from 1, and how many they are. */
  position: number
  siblings: number
}

/** The directories of a project, each sorted when somebody looks into it. */
export class Outline {
  readonly #root: TreeNode = directory('', '')

  /** Puts an entry at a path, and the directories above it. */
  set (path: string, entry: Entry): void {
    const names = path.split('/')
    let [parent, node] = [this.#root, this.#root]
    for (const [at, name] of names.entries()) {
      const children = node.children ??= new Map()
      const child = children.get(name) ?? { name, path: names.slice(0, at + 1).join('/'), entry: undefined, children: undefined, sorted: undefined }
      const isNew = children.get(name) === undefined
      if (isNew) {
        children.set(name, child)
        node.sorted = undefined
        // A file that gets something below it is one no more.
        if (children.size === 1) parent.sorted = undefined
      }
      [parent, node] = [node, child]
    }
    if ((node.entry?.kind === 'dir') !== (entry.kind === 'dir')) parent.sorted = undefined
    node.entry = entry
  }

  /** Takes a path away, and the directories that are there for it alone. */
  delete (path: string): void {
    const names = path.split('/')
    const chain = [this.#root]
    for (const name of names) {
      const next = chain.at(-1)?.children?.get(name)
      if (next === undefined) return
      chain.push(next)
    }
    const last = chain.at(-1)
    if (last !== undefined) last.entry = undefined
    for (let at = chain.length - 1; at > 0; at -= 1) {
      const [parent, node] = [chain[at - 1], chain[at]]
      if (parent === undefined || node === undefined || node.entry !== undefined || (node.children?.size ?? 0) > 0) return
      parent.children?.delete(node.name)
      parent.sorted = undefined
    }
  }

  /** The lines to show: what is in open directories, or all that `matches` with the directories above it. */
  rows (isOpen: (path: string) => boolean, matches?: (path: string) => boolean): Row[] {
    const rows: Row[] = []
    if (matches === undefined) this.#open(this.#root, 1, isOpen, rows)
    else this.#matching(this.#root, 1, matches, rows)
    return rows
  }

  /** Every file, in the tree's order. */
  * files (node = this.#root): Iterable<TreeNode> {
    for (const child of childrenOf(node)) {
      if (isDirectory(child)) yield * this.files(child)
      else yield child
    }
  }

  #open (node: TreeNode, level: number, isOpen: (path: string) => boolean, rows: Row[]): void {
    const children = childrenOf(node)
    for (const [at, child] of children.entries()) {
      const row = { node: child, level, isDirectory: isDirectory(child), isOpen: false, position: at + 1, siblings: children.length }
      row.isOpen = row.isDirectory && isOpen(child.path)
      rows.push(row)
      if (row.isOpen) this.#open(child, level + 1, isOpen, rows)
    }
  }

  /** Whether anything below matched. */
  #matching (node: TreeNode, level: number, matches: (path: string) => boolean, rows: Row[]): boolean {
    let any = false
    const children = childrenOf(node)
    for (const [at, child] of children.entries()) {
      const isDir = isDirectory(child)
      const begin = rows.length
      rows.push({ node: child, level, isDirectory: isDir, isOpen: isDir, position: at + 1, siblings: children.length })
      const below = isDir && this.#matching(child, level + 1, matches, rows)
      if (below || matches(child.path)) any = true
      else rows.length = begin
    }
    return any
  }
}

/** The directories above a path, the nearest last. */
export function parentsOf (path: string): string[] {
  const names = path.split('/')
  return names.slice(0, -1).map((_, at) => names.slice(0, at + 1).join('/'))
}

function directory (name: string, path: string): TreeNode {
  return { name, path, entry: undefined, children: new Map(), sorted: undefined }
}

function isDirectory (node: TreeNode): boolean {
  return node.entry?.kind === 'dir' || (node.children?.size ?? 0) > 0
}

/** Directories first, then by name as people count: `a2` before `a10`. */
const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' })

function childrenOf (node: TreeNode): TreeNode[] {
  if (node.children === undefined) return []
  return node.sorted ??= [...node.children.values()].sort((a, b) =>
    Number(isDirectory(b)) - Number(isDirectory(a)) || collator.compare(a.name, b.name) || (a.name < b.name ? -1 : 1))
}
