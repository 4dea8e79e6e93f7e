// Sends events with @rudderstack/rudder-sdk-node. Usage: node rudder_node.mjs URL WRITE_KEY PREFIX COUNT
import { createRequire } from 'node:module'
const Analytics = createRequire(process.cwd() + '/')('@rudderstack/rudder-sdk-node')

const [url, writeKey, prefix, count] = process.argv.slice(2)
const client = new (Analytics.default ?? Analytics)(writeKey, { dataPlaneUrl: url, flushAt: 7 })
for (let n = 0; n < Number(count); n++) {
  const known = { userId: `user-${n % 5}`, messageId: `${prefix}-${n}` }
  const body = { number: n, text: 'täxt' }
  ;[
    () => client.identify({ ...known, traits: body }),
    () => client.track({ ...known, event: 'Order Completed', properties: body }),
    () => client.page({ ...known, name: 'Start', properties: body }),
    () => client.screen({ ...known, name: 'Start', properties: body }),
    () => client.group({ ...known, groupId: 'acme', traits: body }),
    () => client.alias({ ...known, previousId: `old-${n}` }),
  ][n % 6]()
}
await client.flush()
