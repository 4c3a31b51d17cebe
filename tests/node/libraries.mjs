// The generations of Yjs and of its WebSocket providers, unmodified, behind the few calls in which they differ.

/** A library: `Y`, the text and the maps of a document, and the provider of y-websocket, if it is asked for. */
export async function library (provider = 'y-websocket') {
  return provider.startsWith('@y/') ? await yjs14(provider) : await yjs13(provider)
}

async function yjs13 (provider) {
  const [Y, { WebsocketProvider }] = await Promise.all([import('yjs'), import(provider)])
  return {
    Y,
    WebsocketProvider,
    text: doc => doc.getText('content'),
    map: (doc, name) => doc.getMap(name)
  }
}

// Since 14 there is one shared type; a map's keys are its attributes.
async function yjs14 (provider) {
  const [Y, { WebsocketProvider }] = await Promise.all([import('@y/y'), import(provider)])
  return {
    Y,
    WebsocketProvider,
    text: doc => {
      const type = doc.get('content')
      return {
        insert: (at, text) => type.insert(at, text),
        delete: (at, length) => type.delete(at, length),
        toString: () => type.toArray().join(''),
        observe: () => {},
        get length () { return type.length },
        get doc () { return doc }
      }
    },
    map: (doc, name) => {
      const type = doc.get(name)
      return {
        set: (key, value) => type.setAttr(key, value),
        get: key => type.getAttr(key),
        delete: key => type.deleteAttr(key),
        has: key => type.hasAttr(key),
        keys: () => type.attrKeys(),
        toJSON: () => Object.fromEntries(type.attrEntries()),
        get doc () { return doc }
      }
    }
  }
}
