// Mappings a second in Segment's engine: node mappings.cjs FOLDER_WITH_NODE_MODULES WORK.json; prints a JSON array.
const fs = require("fs");
const path = require("path");

const [, , folder, file] = process.argv;
const { transform } = require(path.resolve(folder, "node_modules/@segment/actions-core/dist/cjs/mapping-kit"));
const { event, mappings, seconds } = JSON.parse(fs.readFileSync(file));

function rate(mapping) {
  const start = process.hrtime.bigint();
  let count = 0;
  let elapsed = 0;
  while (elapsed < seconds) {
    for (let i = 0; i < 200; i++) transform(mapping, event);
    count += 200;
    elapsed = Number(process.hrtime.bigint() - start) / 1e9;
  }
  return count / elapsed;
}

console.log(JSON.stringify(mappings.map((mapping) => Math.max(rate(mapping), rate(mapping), rate(mapping)))));
