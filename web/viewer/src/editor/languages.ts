//! The language of a file, by its name. Each is fetched when the first file of its kind is opened.

import { StreamLanguage, type LanguageSupport, type StreamParser } from '@codemirror/language'
import type { Extension } from '@codemirror/state'

type Load = () => Promise<LanguageSupport | Extension>

const legacy = (load: () => Promise<StreamParser<unknown>>): Load => async () => StreamLanguage.define(await load())

const javascript = (options: { jsx?: boolean, typescript?: boolean }): Load => async () => (await import('@codemirror/lang-javascript')).javascript(options)
const json: Load = async () => (await import('@codemirror/lang-json')).json()
const css: Load = async () => (await import('@codemirror/lang-css')).css()
const html: Load = async () => (await import('@codemirror/lang-html')).html()
const markdown: Load = async () => (await import('@codemirror/lang-markdown')).markdown()
const python: Load = async () => (await import('@codemirror/lang-python')).python()
const rust: Load = async () => (await import('@codemirror/lang-rust')).rust()
const go: Load = async () => (await import('@codemirror/lang-go')).go()
const cpp: Load = async () => (await import('@codemirror/lang-cpp')).cpp()
const java: Load = async () => (await import('@codemirror/lang-java')).java()
const yaml: Load = async () => (await import('@codemirror/lang-yaml')).yaml()
const xml: Load = async () => (await import('@codemirror/lang-xml')).xml()
const sql: Load = async () => (await import('@codemirror/lang-sql')).sql()
const shell = legacy(async () => (await import('@codemirror/legacy-modes/mode/shell')).shell)
const toml = legacy(async () => (await import('@codemirror/legacy-modes/mode/toml')).toml)
const ruby = legacy(async () => (await import('@codemirror/legacy-modes/mode/ruby')).ruby)
const docker = legacy(async () => (await import('@codemirror/legacy-modes/mode/dockerfile')).dockerFile)
const ini = legacy(async () => (await import('@codemirror/legacy-modes/mode/properties')).properties)

interface Language { name: string, load: Load }

const byEnding: Record<string, Language> = {}
const put = (name: string, load: Load, ...endings: string[]): void => { for (const ending of endings) byEnding[ending] = { name, load } }
put('JavaScript', javascript({ jsx: true }), 'js', 'mjs', 'cjs', 'jsx')
put('TypeScript', javascript({ typescript: true }), 'ts', 'mts', 'cts')
put('TSX', javascript({ jsx: true, typescript: true }), 'tsx')
put('JSON', json, 'json', 'jsonl', 'map', 'webmanifest')
put('CSS', css, 'css', 'scss', 'less')
put('HTML', html, 'html', 'htm', 'vue', 'svelte')
put('Markdown', markdown, 'md', 'markdown', 'mdx')
put('Python', python, 'py', 'pyi')
put('Rust', rust, 'rs')
put('Go', go, 'go')
put('C', cpp, 'c', 'h')
put('C++', cpp, 'cc', 'cpp', 'cxx', 'hh', 'hpp', 'ino')
put('Java', java, 'java', 'kt', 'cs', 'scala')
put('YAML', yaml, 'yaml', 'yml')
put('XML', xml, 'xml', 'svg', 'xhtml', 'plist')
put('SQL', sql, 'sql')
put('Shell', shell, 'sh', 'bash', 'zsh', 'bashrc', 'profile')
put('TOML', toml, 'toml', 'lock')
put('Ruby', ruby, 'rb', 'gemfile', 'rakefile')
put('Dockerfile', docker, 'dockerfile')
put('Settings', ini, 'ini', 'conf', 'cfg', 'properties', 'env', 'editorconfig', 'gitignore', 'npmrc')

/** The language of a file, if it is one of the usual. */
export function languageOf (path: string): Language | undefined {
  const name = path.slice(path.lastIndexOf('/') + 1).toLowerCase()
  const ending = name.slice(name.lastIndexOf('.') + 1)
  // A table of strangers' names: only its own are meant.
  return Object.hasOwn(byEnding, ending) ? byEnding[ending] : undefined
}
