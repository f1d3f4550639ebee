// Matrices are tables: a screen reader reads their heads, a cell that leads somewhere is a button.

// `cell(row, column)` gives {share 0..1, text, press, about, negative, quiet} or null.
function matrix({ rows, columns, corner, className: kind, caption, cell }) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      { class: `matrix ${kind ?? ""}${rows.every((name) => name.length < 4) ? " digits" : columns.length > 8 ? " many" : ""}` },
      el("caption", { class: "unseen" }, caption),
      el(
        "thead",
        null,
        el(
          "tr",
          null,
          el("td", { class: "corner" }, corner ?? ""),
          columns.map((name) => el("th", { scope: "col" }, el("span", null, name))),
        ),
      ),
      el(
        "tbody",
        null,
        rows.map((name, row) =>
          el("tr", null, el("th", { scope: "row" }, name), columns.map((_, column) => matrixCell(cell(row, column)))),
        ),
      ),
    ),
  );
}

function matrixCell(made) {
  if (!made) return el("td", null, el("span", { class: "cell none" }));
  const attributes = {
    class: `cell${made.negative ? " negative" : ""}${made.quiet ? " quiet" : ""}`,
    style: { "--share": `${Math.round(100 * Math.max(0, Math.min(1, made.share)))}%` },
  };
  if (!made.press) return el("td", null, el("span", attributes, made.text));
  const named = { type: "button", "aria-label": made.about, title: made.about, on: { click: made.press } };
  return el("td", null, el("button", { ...attributes, ...named }, made.text));
}
