// Sends events with @segment/analytics-node. Usage: node segment_node.mjs URL WRITE_KEY PREFIX COUNT
import { createRequire } from 'node:module'
const { Analytics } = createRequire(process.cwd() + '/')('@segment/analytics-node')

const [url, writeKey, prefix, count] = process.argv.slice(2)
const errors = []
const client = new Analytics({ writeKey, host: url, flushAt: 7 })
client.on('error', (error) => errors.push(error))
for (let n = 0; n < Number(count); n++) {
  const known = { userId: `user-${n % 5}`, messageId: `${prefix}-${n}` }
  const body = { number: n, text: 'täxt' }
  ;[
    () => client.identify({ ...known, traits: body }),
    () => client.track({ ...known, event: 'Order Completed', properties: body }),
    () => client.page({ ...known, name: 'Start', category: 'Docs', properties: body }),
    () => client.screen({ ...known, name: 'Start', category: 'Docs', properties: body }),
    () => client.group({ ...known, groupId: 'acme', traits: body }),
    () => client.alias({ ...known, previousId: `old-${n}` }),
  ][n % 6]()
}
await client.closeAndFlush()
if (errors.length) throw new Error(JSON.stringify(errors))
