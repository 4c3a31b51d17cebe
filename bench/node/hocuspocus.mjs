// A Hocuspocus server as its documentation sets one up, with every document in SQLite: hocuspocus.mjs PORT DATABASE
import { Server } from '@hocuspocus/server'
import { SQLite } from '@hocuspocus/extension-sqlite'

const [port, database] = process.argv.slice(2)
const server = new Server({
  address: '127.0.0.1',
  port: Number(port),
  quiet: true,
  extensions: [new SQLite({ database })]
})
await server.listen()
console.log('listening')
