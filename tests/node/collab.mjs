// An unmodified @hocuspocus/provider client, steered by JSON lines. Arguments: the server's URL, a token.
// All documents of the process share one socket to /collab.

import WebSocket from 'ws'
import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { serve } from './lines.mjs'
import { documentCommands } from './document.mjs'
import { library } from './libraries.mjs'

const [, , url, token] = process.argv

const socket = new HocuspocusProviderWebsocket({
  url: url.replace('http', 'ws') + '/collab',
  WebSocketPolyfill: WebSocket,
  // Come back quickly: tests kill servers.
  delay: 100,
  minDelay: 100,
  maxDelay: 1000
})

function connect (opened) {
  let closed = null
  const provider = new HocuspocusProvider({
    websocketProvider: socket,
    name: opened.name,
    document: opened.doc,
    token: token ?? null,
    onAuthenticationFailed: ({ reason }) => { closed = { reason } },
    onStateless: ({ payload }) => opened.stateless.push(JSON.parse(payload))
  })
  for (const event of ['synced', 'status', 'unsyncedChanges', 'authenticationFailed', 'stateless']) {
    provider.on(event, () => opened.changed())
  }
  provider.on('close', () => { opened.closes += 1 })
  provider.attach()
  return {
    awareness: provider.awareness,
    synced: () => provider.synced,
    saved: () => !provider.hasUnsyncedChanges,
    unsaved: () => `${provider.unsyncedChanges} changes, ${provider.synced ? '' : 'not '}synced, ${provider.isAuthenticated ? '' : 'not '}authenticated`,
    closed: () => closed,
    send: payload => provider.sendStateless(JSON.stringify(payload)),
    // Asked to connect while it is closing, the provider would stay away for good.
    disconnect: () => new Promise(resolve => {
      socket.on('disconnect', resolve)
      if (socket.status === 'disconnected') resolve()
      socket.disconnect()
    }),
    reconnect: () => socket.connect(),
    destroy: () => provider.destroy()
  }
}

const { commands, end } = documentCommands(connect, await library())
await serve(commands, async () => { await end(); socket.destroy() })
