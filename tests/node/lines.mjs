// JSON lines over stdio: one request per line in, one answer per line out, in any order.
//   -> {"id": 1, "do": "insert", ...}      <- {"id": 1, "value": ...} or {"id": 1, "error": "..."}
// Owns stdin and stdout; everything else a script has to say goes to stderr.

import { createInterface } from 'node:readline'

/** Serves `commands` until stdin ends, then calls `end` and leaves. */
export async function serve (commands, end = () => {}) {
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line)
    answer(request, commands)
  }
  await end()
  process.exit(0)
}

async function answer (request, commands) {
  const reply = { id: request.id }
  try {
    const command = commands[request.do]
    if (command === undefined) throw new Error(`there is no command ${request.do}`)
    reply.value = (await command(request)) ?? null
  } catch (error) {
    reply.error = error.message
  }
  process.stdout.write(JSON.stringify(reply) + '\n')
}

/** Waits for `condition` to hold, checking again whenever `subscribe`'s callback is called. */
export function until (condition, subscribe, timeout, what) {
  return new Promise((resolve, reject) => {
    let unsubscribe = () => {}
    const end = settle => value => { clearTimeout(timer); unsubscribe(); settle(value) }
    const timer = setTimeout(() => end(reject)(new Error(`not within ${timeout} ms: ${what()}`)), timeout)
    const check = () => { if (condition()) end(resolve)() }
    unsubscribe = subscribe(check)
    check()
  })
}

/** Numbers from 0 to 1 that only the seed decides (mulberry32, public domain). */
export function numbers (seed) {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
