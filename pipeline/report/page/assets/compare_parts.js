// What a page of a comparison is made of: agreement by method, and inputs with the lists of two runs beside one another.

const compared = page.comparison;
const SETTINGS_SHOWN = 14;

// Names of runs that are addresses: what they share is told once, so that they can be told apart.
function shortNames(names) {
  const parts = names.map((name) => name.replace(/\/+$/, "").split("/"));
  let same = 0;
  while (parts.every((each) => same < each.length - 1 && each[same] === parts[0][same])) same++;
  return parts.map((each) => each.slice(same).join("/"));
}

const shortRuns = shortNames(compared.runs);

function exampleName(table, position) {
  return String(at(table.id, position) ?? at(table.index, position));
}

function pairOf({ a, b }) {
  return `${shortRuns[a]} and ${shortRuns[b]}`;
}

// The two methods that the page is about where both were compared, else the one that agrees most and the one that agrees least.
function toldMethods({ methods }) {
  const named = ["l_relatif", "influence"].map((name) => methods.find((method) => method.name === name));
  if (named.every(Boolean)) return named;
  const sorted = [...methods].sort((first, second) => second.overlap - first.overlap);
  return sorted.length > 1 ? [sorted[0], sorted.at(-1)] : sorted;
}

function headline(pair) {
  const [first, second] = toldMethods(pair);
  const begun = `By ${methodTitle(first.name)} the runs share ${percent(first.overlap)} of an input’s first ${plural(pair.top, ["example", "examples"])}`;
  return second ? `${begun}, by ${methodTitle(second.name)} ${percent(second.overlap)}` : begun;
}

// Means over inputs, a row for each method.
function agreementTable(pair) {
  const heads = ["Method", "Examples in common", "Rank correlation", "Same first"];
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Agreement by method" },
    el(
      "table",
      { class: "agreement" },
      el("caption", { class: "unseen" }, `Agreement of ${pairOf(pair)}, means over inputs`),
      el("thead", null, el("tr", null, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", null, pair.methods.map((method) => agreementRow(method))),
    ),
  );
}

function agreementRow({ name, overlap, rank, same, inputs }) {
  return el(
    "tr",
    { class: methodColor(name) },
    el("th", { scope: "row" }, methodTitle(name), el("span", { class: "note" }, ` ${count(inputs)} inputs`)),
    el(
      "td",
      null,
      el("span", { class: "agreement-bar bar-room" }, el("span", { class: "bar", style: { "--share": share(overlap, 1) } })),
      el("span", { class: "agreement-share" }, finePercent(overlap)),
    ),
    el("td", null, missing(rank) ? NONE : fixed(rank, 3)),
    el("td", null, finePercent(same)),
  );
}

// How many inputs have so many examples in common: one column for each number.
function commonColumns({ common, name }, top) {
  const label = `Inputs by the number of examples in common, ${methodTitle(name)}`;
  return (width) => columns(width, common, label, [
    [0, "none"],
    [1, `all ${top}`],
  ]);
}

function rankColumns({ ranks, name }) {
  const label = `Inputs by rank correlation, ${methodTitle(name)}`;
  return (width) => columns(width, ranks, label, [
    [0, `${MINUS}1`],
    [0.5, "0"],
    [1, "1"],
  ]);
}

function columns(width, counts, label, marks) {
  const [height, top, foot] = [110, 18, 24];
  const most = Math.max(...counts, 1);
  const step = width / counts.length;
  const tallest = counts.indexOf(Math.max(...counts));
  const told = counts.map((many, place) => (many ? `${place}: ${many}` : null)).filter(Boolean).join(", ");
  const bars = counts.map((many, place) => {
    if (!many) return null;
    const tall = Math.max(1.5, ((height - top) * many) / most);
    return svg("rect", { class: "bar-of-method", x: place * step + 1, y: height - tall, width: Math.max(1, step - 2), height: tall });
  });
  const middle = Math.min(width - 26, Math.max(26, (tallest + 0.5) * step));
  return drawing(
    width,
    height + foot,
    `${label}: ${told}`,
    bars,
    line(0, height + 0.5, width, height + 0.5, { class: "rule" }),
    written(middle, top - 5, count(most), { "text-anchor": "middle" }),
    marks.map(([place, text]) =>
      written(place * width, height + 17, text, { "text-anchor": place === 0 ? "start" : place === 1 ? "end" : "middle" }),
    ),
  );
}

function methodPanel(pair, method) {
  const head = el("header", { class: "panel-head" }, el("h3", { class: "in-color" }, methodTitle(method.name)));
  if (method.overlap === 1 && (missing(method.rank) || method.rank === 1)) {
    return el("div", { class: `panel compared-method ${methodColor(method.name)}` }, head, el("p", { class: "note" }, "The same for every input."));
  }
  const common = chart(el("div", { class: "chart" }), commonColumns(method, pair.top));
  const ranks = chart(el("div", { class: "chart" }), rankColumns(method));
  return el(
    "div",
    { class: `panel compared-method ${methodColor(method.name)}` },
    head,
    el(
      "div",
      { class: "two-charts" },
      el("figure", null, el("figcaption", { class: "note" }, `Inputs by examples in common, of ${pair.top}`), common),
      el("figure", null, el("figcaption", { class: "note" }, "Inputs by rank correlation"), ranks),
    ),
  );
}

// What a run's model says of an example; amber where that is not the label.
function answerOf(table, position, runNumber) {
  return at(table.answers?.[runNumber], position);
}

function labelTag(table, position, runNumber) {
  const label = at(table.label, position);
  const says = answerOf(table, position, runNumber);
  if (missing(label)) return null;
  const differs = !missing(says) && says !== label;
  const told = differs ? unseen(`, the model says ${className(says)}`) : null;
  return el("span", { class: `tag ${differs ? "differs" : ""}`, title: differs ? `the model says ${className(says)}` : null }, className(label), told);
}

function foundExample(position, other, runNumber) {
  const both = other.includes(position);
  const look = run.media === "text" ? foundText(position) : glimpse(page.train, position, 48, { class: both ? "again" : "" });
  return el(
    "li",
    { class: `found ${run.media}${both ? " both" : ""}`, title: `${nounOf(page.train)[0]} ${exampleName(page.train, position)}` },
    look,
    labelTag(page.train, position, runNumber),
    both ? unseen(", in both") : null,
    run.media === "row" ? el("details", { class: "folded" }, el("summary", null, "row"), wholeRow(at(page.train.row, position))) : null,
  );
}

function foundText(position) {
  return el("span", { class: "words" }, shortened(at(page.train.text, position) ?? "", 160));
}

function foundList(one, pair, side) {
  const [mine, other] = side ? [one.lists[1], one.lists[0]] : one.lists;
  const runNumber = side ? pair.b : pair.a;
  const answer = answerOf(page.test, one.test[side], runNumber);
  return el(
    "div",
    { class: "found-list" },
    el(
      "p",
      { class: "found-head" },
      el("b", null, shortRuns[runNumber]),
      missing(answer) ? null : el("span", { class: "note" }, ` says ${className(answer)}`),
    ),
    el("ol", { class: `found-examples ${run.media}` }, mine.map((position) => foundExample(position, other, runNumber))),
  );
}

function caseInput(one) {
  const [position] = one.test;
  const label = at(page.test.label, position);
  const name = el("span", { class: "mono" }, exampleName(page.test, position));
  const look = { image: () => glimpse(page.test, position, 84), text: () => el("p", { class: "input-text words" }, shortened(at(page.test.text, position) ?? "", 400)) }[run.media]?.();
  return el(
    "div",
    { class: "case-input" },
    look,
    el("p", null, `${capital(nounOf(page.test)[0])} `, name),
    missing(label) ? null : el("p", { class: "note" }, `label ${className(label)}`),
    el("p", { class: "note" }, `${Math.round(one.overlap * one.top)} of ${one.top} in common`),
    run.media === "row" ? wholeRow(at(page.test.row, position)) : null,
  );
}

function caseOf(one, pair) {
  const shown = { ...one, top: pair.top };
  return el(
    "article",
    { class: `case ${run.media}`, "aria-label": `Input ${one.name}` },
    caseInput(shown),
    el("div", { class: "both-lists" }, foundList(shown, pair, 0), foundList(shown, pair, 1)),
  );
}

// The settings in which the runs differ, a column for each run.
function settingsTable() {
  const rows = compared.settings;
  if (!rows.length) return el("p", { class: "note" }, "The runs have the same settings.");
  const table = el(
    "table",
    { class: "plain-table" },
    el("caption", { class: "unseen" }, "Settings in which the runs differ"),
    el("thead", null, el("tr", null, el("th", { scope: "col" }, "Setting"), shortRuns.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", null, rows.slice(0, SETTINGS_SHOWN).map(([name, ...values]) => el("tr", null, el("th", { scope: "row", class: "mono" }, name), values.map((value) => el("td", { class: "mono" }, value))))),
  );
  const more = rows.length - SETTINGS_SHOWN;
  return [
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings in which the runs differ" }, table),
    more > 0 ? el("p", { class: "note" }, `and ${plural(more, ["other setting", "other settings"])}`) : null,
  ];
}
