// Functions of the page's scripts for unit tests: the files are plain scripts that share one
// scope, as in the page, with no browser around them.

"use strict";

const fs = require("node:fs");
const path = require("node:path");

const ASSETS = path.join(__dirname, "..", "..", "reports", "assets");

// load(["dom.js", "format.js"], ["compact", "fixed"]) returns { compact, fixed }; `more` is code
// put after the files, e.g. to set STRINGS.
function load(files, names, more = "") {
  const source = files.map((file) => fs.readFileSync(path.join(ASSETS, file), "utf-8"));
  const code = `"use strict";\n${source.join("\n")}\n${more}\nreturn { ${names.join(", ")} };`;
  return new Function(code)();
}

module.exports = { load };
