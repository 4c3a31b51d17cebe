import { gzipSync } from 'node:zlib'

/** Beside each file that shrinks, what it shrinks to: the server sends that to whoever takes it. */
const compressed = {
  name: 'compressed',
  apply: 'build',
  generateBundle: {
    order: 'post',
    handler (_, bundle) {
      for (const { fileName, type, code, source } of Object.values(bundle)) {
        // The page itself is filled in for each answer.
        if (fileName.endsWith('.html')) continue
        const packed = gzipSync(type === 'chunk' ? code : source, { level: 9 })
        this.emitFile({ type: 'asset', fileName: `${fileName}.gz`, source: packed })
      }
    }
  }
}

export default {
  // The server puts a number that is used once here: what makes CodeMirror's styles allowed.
  html: { cspNonce: '{{nonce}}' },
  plugins: [compressed],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // What the page is made of goes with it, with its terms.
    license: { fileName: 'licenses.md' },
    chunkSizeWarningLimit: 900
  },
  server: {
    proxy: {
      '/api': 'http://127.0.0.1:4400',
      '/collab': { target: 'ws://127.0.0.1:4400', ws: true }
    }
  }
}
