// The whole run: each panel only where its data is there, drawn when it is first about to be seen.

function wholePanels() {
  const whole = page.whole ?? {};
  const table1 = [...new Set((whole.table1 ?? []).map(({ k }) => k))];
  const has = (list) => (Array.isArray(list) ? list.length > 0 : list !== null && list !== undefined);
  return [
    has(whole.reach) ? () => reachPanel(whole) : null,
    has(whole.dominating) ? () => dominatingPanel(whole) : null,
    ...table1.map((k) => () => table1Panel(whole.table1, k)),
    has(whole.confusion) ? () => confusionPanel(whole.confusion) : null,
    has(whole.confused) ? () => confusedPanel(whole.confused) : null,
    has(whole.helpers) ? () => helpersPanel(whole.helpers) : null,
    has(whole.overlap) ? () => overlapPanel(whole.overlap) : null,
    has(whole.influence_by_class) ? () => influencePanel(whole.influence_by_class) : null,
    has(whole.geometry?.clouds) ? () => geometryPanel(whole.geometry.clouds) : null,
    has(whole.both_labels) ? () => bothLabelsPanel(whole.both_labels) : null,
    has(whole.leave_one_out?.points) ? () => leftOutPanel(whole.leave_one_out) : null,
    ...(whole.figures ?? []).map((figure) => Object.assign(() => figurePanel(figure), { kind: isLong(figure) ? "across" : "" })),
  ].filter(Boolean);
}

function wholeSection(section) {
  const panels = wholePanels().map((make) => {
    const holder = el("div", { class: `panel ${make.kind ?? ""}` });
    whenSeen(holder, () => fill(holder, make()));
    return holder;
  });
  fill(section, el("div", { class: "wrap" }, sectionHead("whole", "The whole run"), el("div", { class: "panels" }, panels)));
}

function panelHead(title, about, ...more) {
  return el("header", { class: "panel-head" }, el("h3", null, title), about || more.length ? el("div", { class: "panel-about" }, about ? el("p", { class: "note" }, about) : null, more) : null);
}

// A panel's body for the method that is chosen in its head.
function byMethod(methods, draw, begun = state.method) {
  const first = methods.includes(begun) ? begun : methods[0];
  const body = el("div", { class: `panel-body ${methodColor(first)}` });
  const show = (method) => {
    body.className = `panel-body ${methodColor(method)}`;
    fill(body, draw(method));
  };
  show(first);
  const picker = methods.length > 1 ? choice("Method", methods.map((method) => [method, methodTitle(method)]), first, show) : null;
  return [picker, body];
}

function reachPanel({ reach }) {
  const [one, many] = nounOf(page.train);
  const first = reach.half?.influence;
  const second = Object.keys(reach.half ?? {}).filter((method) => /relatif/.test(method)).at(-1);
  const title =
    first && second
      ? `${plural(first, [`${one} reaches`, `${many} reach`])} half of all inputs by IF. By ${methodTitle(second)} it takes ${count(reach.half[second])}.`
      : `How many ${many} it takes to reach the inputs`;
  const about = `Share of the ${plural(run.m, nounOf(page.test))} with at least one of so many ${many} in their top ${run.k}, chosen greedily.`;
  return [panelHead(title, about), chart(el("div", { class: "chart" }), reachCurves(reach, title))];
}

// The sentence above the grid counts what the grid shows.
function dominatingPanel({ dominating }) {
  const methods = Object.keys(dominating).filter((method) => dominating[method].length);
  const title = `The ${nounOf(page.train)[1]} that stand in most explanations`;
  const [picker, body] = byMethod(methods, (method) => dominatingGrid(method, dominating[method]), methods[0]);
  const about = "The first ones, with the number of inputs that each explains, its label, and what the model says instead.";
  return [panelHead(title, about, picker), body];
}

function dominatingWrong(method, positions) {
  if (run.kind !== "classes") return null;
  const missed = positions.filter((position) => isWrong(page.train, position)).length;
  const many = missed === positions.length ? "all" : missed ? count(missed) : "none";
  return el("p", { class: "dominating-wrong" }, `Of the ${count(positions.length)} that ${methodTitle(method)} names for most inputs the model gets ${many} wrong.`);
}

function dominatingGrid(method, positions) {
  return [dominatingWrong(method, positions), dominatingPictures(method, positions)];
}

function dominatingPictures(method, positions) {
  return el(
    "div",
    { class: `dominating ${run.media}`, style: { "--least": sheets ? `${sidesFor(56)[0] + 4}px` : "180px" } },
    positions.map((position) =>
      el(
        "div",
        { class: "dominator" },
        glimpseButton(page.train, position, 56, { more: `explains ${count(fanOf(method, position))} inputs` }),
        el("span", { class: "dominator-words" }, el("b", { class: "in-color" }, count(fanOf(method, position))), " ", shortPair(position)),
      ),
    ),
  );
}

function shortPair(position) {
  const label = at(page.train.label, position);
  if (missing(label)) return null;
  return isWrong(page.train, position) ? `${answer(label)}→${answer(at(page.train.predicted, position))}` : answer(label);
}

function table1Panel(rows, k) {
  const shown = rows.filter((row) => row.k === k);
  const most = Math.max(...shown.map(({ cardinality, paper_cardinality: paper }) => Math.max(cardinality, paper ?? 0)), 1);
  const withPaper = shown.some(({ paper_cardinality: paper, paper_probability: chance }) => !missing(paper) || !missing(chance));
  const withChance = shown.some(({ probability_mean: mean }) => !missing(mean));
  const ofThem = k === 1 ? "first explanations" : `first ${k} explanations`;
  const about = `How many different ${nounOf(page.train)[1]} the ${ofThem} name${withChance ? ", and the probability that the model gives their labels" : ""}.${withPaper ? " Bars and dots: this run. Line: the paper." : ""}`;
  return [
    panelHead(`Table 1, top ${k}`, about),
    el(
      "table",
      { class: "table1" },
      el("caption", { class: "unseen" }, `Table 1 for the top ${k}`),
      el("thead", null, el("tr", null, el("th", { scope: "col" }, "Method"), el("th", { scope: "col" }, "different"), withChance ? el("th", { scope: "col" }, "p of their label") : null)),
      el("tbody", null, shown.map((row) => table1Row(row, most, withChance))),
    ),
  ];
}

function table1Row(row, most, withChance) {
  const { method, cardinality, paper_cardinality: paper, probability_mean: mean, probability_std: deviation, paper_probability: paperMean } = row;
  const paperWords = missing(paper) ? "" : `, the paper ${count(paper)}`;
  const chance = el(
    "td",
    null,
    el(
      "span",
      { class: "dot-room" },
      el("span", { class: "dot-spread", style: { "--from": share(mean - deviation, 1), "--to": share(Math.min(1, mean + deviation), 1) } }),
      missing(paperMean) ? null : el("span", { class: "paper-line", style: { "--share": share(paperMean, 1) } }),
      el("span", { class: "dot-mark", style: { "--share": share(mean, 1) } }),
    ),
    el("span", { class: "figure" }, missing(mean) ? NONE : mean.toFixed(2), missing(paperMean) ? null : unseen(`, the paper ${paperMean.toFixed(2)}`)),
  );
  return el(
    "tr",
    { class: methodColor(method) },
    el("th", { scope: "row" }, methodTitle(method)),
    el(
      "td",
      null,
      el("span", { class: "count-room" }, el("span", { class: "bar", style: { "--share": share(cardinality, most) } }), missing(paper) ? null : el("span", { class: "paper-line", style: { "--share": share(paper, most) } })),
      el("span", { class: "figure", title: `${count(cardinality)}${paperWords}` }, count(cardinality), unseen(paperWords)),
    ),
    withChance ? chance : null,
  );
}
