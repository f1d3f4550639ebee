// Rows beside one another: the cells that differ most first, the rest folded away.

const SHOWN_CELLS = 8;

let columnSpread = null;

// Standard deviation of each column over the training rows on the page; null for a column of words.
function spreads() {
  columnSpread ??= (page.columns ?? []).map((_, column) => {
    const values = (page.train.row ?? []).map((row) => row?.[column]).filter((value) => typeof value === "number");
    if (!values.length) return null;
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length) || 1;
  });
  return columnSpread;
}

// How far two cells are apart: in standard deviations for numbers, 0 or 2 for words.
function apart(mine, other, column) {
  if (mine === other) return 0;
  const spread = spreads()[column];
  if (typeof mine !== "number" || typeof other !== "number" || !spread) return 2;
  return Math.abs(mine - other) / spread;
}

function cellWords(value) {
  if (missing(value)) return NONE;
  return typeof value === "number" ? number(value) : shortened(String(value), 40);
}

function rowDifference(mine, other) {
  if (!mine || !other) return null;
  const order = other.map((value, column) => [apart(mine[column], value, column), column]);
  order.sort(([a, first], [b, second]) => b - a || first - second);
  const cells = order.map(([distance, column]) => cellPair(column, mine[column], other[column], distance));
  const rest = cells.slice(SHOWN_CELLS);
  return el(
    "div",
    { class: "cells" },
    el("dl", null, cells.slice(0, SHOWN_CELLS)),
    rest.length
      ? el("details", { class: "folded" }, el("summary", null, `${rest.length} more columns, closer`), el("dl", null, rest))
      : null,
  );
}

function cellPair(column, mine, other, distance) {
  const differs = distance >= 0.5;
  return el(
    "div",
    { class: `cell-pair ${differs ? "differs" : ""}` },
    el("dt", null, page.columns?.[column] ?? `column ${column}`),
    el("dd", null, el("b", null, cellWords(other)), differs ? el("span", null, ` vs ${cellWords(mine)}`) : null),
  );
}

// A whole row, as it is.
function wholeRow(row) {
  if (!row) return null;
  const cell = (value, column) =>
    el("div", { class: "cell-pair" }, el("dt", null, page.columns?.[column] ?? `column ${column}`), el("dd", null, cellWords(value)));
  const first = row.slice(0, 12).map(cell);
  const rest = row.slice(12).map((value, column) => cell(value, column + 12));
  return el(
    "div",
    { class: "cells whole" },
    el("dl", null, first),
    rest.length ? el("details", { class: "folded" }, el("summary", null, `${rest.length} more columns`), el("dl", null, rest)) : null,
    unnamedColumns() ? el("p", { class: "note" }, "x1, x2, …: the numbers that the model reads, in their order. The data don’t name them.") : null,
  );
}

// Whether the columns have no names but their places.
function unnamedColumns() {
  return (page.columns ?? []).length > 0 && page.columns.every((name, place) => name === `x${place + 1}`);
}
