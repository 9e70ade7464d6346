// Who was made from whom. Pure functions over rows { id, aliases, parents, file, rule }.

// A row with more ancestors than this is shown with some of them.
const MOST_ANCESTORS = 200;

// Rows by every name that others know them by, and by what they were made from.
function lineageIndex(rows) {
  const index = { rows, named: new Map(), made: new Map() };
  const add = (map, name, row) => {
    if (map.has(name)) map.get(name).push(row);
    else map.set(name, [row]);
  };
  for (const row of rows) {
    for (const name of [row.id, ...(row.aliases ?? [])]) add(index.named, name, row);
    for (const name of new Set(row.parents)) add(index.made, name, row);
  }
  return index;
}

// The row of this name, or null: one that has it as its id first, one that was kept before a reject.
function rowNamed(index, name) {
  const found = index.named.get(name) ?? [];
  const rank = (row) => (row.id === name ? 0 : 2) + (row.rule === undefined ? 0 : 1);
  return found.reduce((best, row) => (best === null || rank(row) < rank(best) ? row : best), null);
}

// What was made from this row, but not itself.
function madeFrom(index, row) {
  const names = [row.id, ...(row.aliases ?? [])];
  const found = new Set(names.flatMap((name) => index.made.get(name) ?? []));
  found.delete(row);
  return [...found];
}

// Everything behind a row, as generations: [[{ name, row }], …], the oldest first, the row itself
// last. `row` is null where no file has it. A row stands right of all that it was made from.
function generations(index, row) {
  const steps = new Map();
  const open = new Set();
  const self = { name: row.id, row };
  let count = 0;
  const age = (item) => {
    if (open.has(item.name)) return -1;
    if (steps.has(item.name)) return steps.get(item.name).age;
    open.add(item.name);
    let oldest = -1;
    for (const name of item.row?.parents ?? []) {
      if (name === item.name || item.row.aliases?.includes(name)) continue;
      if (!steps.has(name) && count >= MOST_ANCESTORS) continue;
      if (!steps.has(name)) count += 1;
      oldest = Math.max(oldest, age({ name, row: rowNamed(index, name) }));
    }
    open.delete(item.name);
    steps.set(item.name, { ...item, age: oldest + 1 });
    return oldest + 1;
  };
  const last = age(self);
  const found = Array.from({ length: last + 1 }, () => []);
  for (const { name, row: one, age: at } of steps.values()) found[at].push({ name, row: one });
  return found;
}

// What a name is: a seed, a row of some file, or nothing that is known here.
function originOf(row) {
  if (row === null) return "unknown";
  if (row.file.startsWith("seeds: ")) return "seed";
  return row.rule === undefined ? "row" : "reject";
}
