// One tab stop for many buttons that stand in rows and columns: arrow keys move between them.

// `rows` is a list of lists of buttons, null where a place has none.
function startGrid(root, rows) {
  const buttons = rows.flat().filter(Boolean);
  for (const button of buttons) button.tabIndex = -1;
  if (!buttons.length) return;
  let stop = buttons[0];
  stop.tabIndex = 0;
  root.addEventListener("focusin", (event) => {
    const button = event.target.closest("button");
    if (!buttons.includes(button)) return;
    stop.tabIndex = -1;
    stop = button;
    stop.tabIndex = 0;
  });
  root.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || !buttons.includes(event.target)) return;
    const next = neighbour(rows, event.target, event.key, event.ctrlKey);
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

// The button that a key leads to; null where there is none, or the key means nothing here.
function neighbour(rows, from, key, far) {
  const row = rows.findIndex((line) => line.includes(from));
  const column = rows[row].indexOf(from);
  const inRow = rows[row].filter(Boolean);
  const all = rows.flat().filter(Boolean);
  const above = rows.slice(0, row).reverse();
  const found = {
    ArrowRight: () => rows[row].slice(column + 1).find(Boolean),
    ArrowLeft: () => rows[row].slice(0, column).findLast(Boolean),
    ArrowDown: () => rows.slice(row + 1).find((line) => line[column])?.[column],
    ArrowUp: () => above.find((line) => line[column])?.[column],
    Home: () => (far ? all[0] : inRow[0]),
    End: () => (far ? all.at(-1) : inRow.at(-1)),
  };
  return Object.hasOwn(found, key) ? found[key]() ?? null : null;
}

// The buttons of a table: a cell has one, or none.
function startTableGrid(table) {
  startGrid(table, [...table.rows].map((row) => [...row.cells].map((cell) => cell.querySelector("button"))));
}
