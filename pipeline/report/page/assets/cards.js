// A training example beside an input: what it looks like, its label, its effect, its score, how near and how frequent it is.

const FIRST_RANKS = 10;

// The columns of one input: [{name, title, about, list, method, kind}].
function columnsOf(input) {
  const chosen = explanation(input, state.method);
  const near = withNearest ? explanation(input, NEAREST) : null;
  const histogram = chosen?.histogram;
  const offered = [
    { name: "helps", title: "Helps", about: helpsWords(histogram), list: chosen?.helps, method: state.method },
    { name: "harms", title: "Harms", about: harmsWords(histogram), list: chosen?.harms, method: state.method },
    { name: "nearest", title: "Nearest", about: "by distance alone", list: near?.helps, method: NEAREST },
  ];
  const kept = offered.filter(({ list }) => list && list.train.length);
  return kept.filter(({ name, method }) => name === "nearest" || method !== NEAREST);
}

// A loss that is explained gets worse as it rises, an output as it falls.
const LOSS = { name: "loss", better: "lower", worse: "raise" };
const OUTPUT = { name: "output", better: "raise", worse: "lower" };
const measured = run.unit === "nats" ? LOSS : OUTPUT;

// Signs of scores of rounded gradients are counted: near 0 a few may be others.
function aboutSo(histogram, many) {
  return `${histogram.rounded ? "about " : ""}${count(many)}`;
}

// Rows that are only scored were never trained on: there is no leaving out, but training on them, too.
function helpsWords(histogram) {
  const many = histogram?.helping;
  const alone = run.scored ? `training on it ${measured.better}s this ${measured.name}` : `leaving it out ${measured.worse}s this ${measured.name}`;
  return missing(many) ? alone : `${aboutSo(histogram, many)} ${measured.better} this ${measured.name}`;
}

function harmsWords(histogram) {
  const many = histogram?.harming;
  const alone = run.scored ? `training on it ${measured.worse}s this ${measured.name}` : `leaving it out ${measured.better}s this ${measured.name}`;
  return missing(many) ? alone : `${aboutSo(histogram, many)} ${measured.worse} this ${measured.name}`;
}

function cardColumn(input, column) {
  const { name, title, about, list, method } = column;
  const ranks = state.long ? list.train.length : Math.min(FIRST_RANKS, list.train.length);
  const head = name === "nearest" ? "distance" : methodTitle(method);
  const cards = Array.from({ length: ranks }, (_, rank) => card(input, column, rank));
  return el(
    "section",
    { class: `column ${name} ${methodColor(method)}`, "data-column": name, "aria-label": `${title}, ${about}` },
    el(
      "header",
      { class: "column-head" },
      el("h3", null, title, el("span", { class: "about" }, ` ${about}`)),
      el("span", { class: "column-units" }, el("b", null, head)),
    ),
    el("ol", { class: "cards" }, cards),
  );
}

function card(input, column, rank) {
  const { list, name, method } = column;
  const position = list.train[rank];
  const pictured = run.media === "image" && sheets;
  const open = el(
    "button",
    { type: "button", class: "card-open", "aria-label": cardLabel(position), on: { click: () => openTraining(position) } },
    pictured ? glimpse(page.train, position, 56) : el("span", { class: "mono" }, nameOf(page.train, position)),
  );
  return el(
    "li",
    // What has words of its own under the mouse lies above the button that covers the card.
    { class: `card ${run.media}`, on: { click: ({ target }) => target.closest("[title]") && openTraining(position) } },
    pictured ? open : null,
    el(
      "div",
      { class: "card-body" },
      el("div", { class: "card-line" }, cardName(position, pictured ? null : open), cardNumbers(input, list, rank, name)),
      cardWords(input, position, list, rank),
      el("div", { class: "score-room" }, el("span", { class: "bar", style: { "--share": scoreShare(list, rank, name) } })),
      el("div", { class: "card-line small" }, el("span", null, cardPlace(list, rank, name)), frequency(method, name, position)),
      cardLayers(list, rank),
    ),
  );
}

function cardLabel(position) {
  const label = at(page.train.label, position);
  return `${capital(nounOf(page.train)[0])} ${nameOf(page.train, position)}${missing(label) ? "" : `, label ${answer(label)}`}: details`;
}

function cardName(position, open) {
  return el("span", { class: "card-name" }, labelPair(page.train, position), open);
}

function cardNumbers(input, list, rank, name) {
  const score = list.score[rank];
  const shown = name === "nearest" ? number(Math.abs(score)) : signed(name === "harms" ? -Math.abs(score) : score);
  return el("span", { class: "card-numbers" }, effectOf(input, list, rank), el("b", null, shown));
}

const effectPrefixes = new Map();

// What a card tells as its effect: corrected where that is known.
function effectsOf(list) {
  return (list?.train ?? []).map((_, rank) => at(list.corrected, rank) ?? at(list.effect, rank));
}

// The prefix of an input's effects: the same in all its columns and methods, so that they compare at a glance.
function effectPrefix(input) {
  if (!effectPrefixes.has(input)) {
    const lists = Object.values(page.explanations[input].methods).flatMap(({ helps, harms }) => [helps, harms]);
    effectPrefixes.set(input, prefixFor(Math.max(...lists.flatMap(effectsOf).map((value) => Math.abs(value ?? 0)), 0)));
  }
  return effectPrefixes.get(input);
}

const effectDigits = new WeakMap();

// The digits behind the point: the same in a column.
function digitsIn(list, prefix) {
  if (!effectDigits.has(list)) effectDigits.set(list, digitsFor(effectsOf(list), prefix));
  return effectDigits.get(list);
}

// What leaving the example out changes: corrected where that is known, else the effect, which is influence / n.
function effectOf(input, list, rank) {
  const first = at(list.effect, rank);
  const better = at(list.corrected, rank);
  if (missing(first) && missing(better)) return null;
  const [name, shown] = missing(better) ? ["effect", first] : ["corrected", better];
  const prefix = effectPrefix(input);
  const words = signed(shown, (value) => inPrefix(value, run.unit, prefix, digitsIn(list, prefix)));
  return el("span", { class: `effect ${name}`, title: effectWords(first, better) }, el("span", { class: "effect-name" }, `${name} `), words);
}

function effectWords(first, better) {
  const amount = (value) => signed(value, (size) => si(size, run.unit));
  const step = run.scored ? "training on it, too" : "leaving it out";
  const effect = `Effect of ${step} (influence / n): ${amount(first)}`;
  return missing(better) ? effect : `${effect}; corrected by its own curvature and the real ${measured.name}: ${amount(better)}`;
}

function scoreShare(list, rank, name) {
  const sizes = list.score.map(Math.abs);
  const part = name === "nearest" ? Math.min(...sizes) / (sizes[rank] || 1) : sizes[rank] / (Math.max(...sizes) || 1);
  return `${Math.round(1000 * Math.min(1, part || 1)) / 10}%`;
}

function cardPlace(list, rank, name) {
  const place = name === "nearest" ? (at(list.place, rank) ?? rank + 1) : at(list.place, rank);
  return missing(place) ? "" : `${ordinal(place)} nearest`;
}

function frequency(method, name, position) {
  if (name === "harms") return harmFrequency(method, position);
  const many = fanOf(method, position);
  if (missing(many)) return null;
  if (many >= oftenFrom) {
    const about = `20 times as often as the average example, or more, counted over the top ${run.k} of all ${count(run.m)}`;
    return el("span", { class: "often", title: about }, el("span", { class: "often-dot", "aria-hidden": "true" }), `in ${count(many)} inputs`);
  }
  return el("span", null, fewInputs(many) ?? `in ${count(many)} inputs`);
}

// On a page of one input examples are counted over those of the run: what was given, or asked, may be none of these.
function fewInputs(many) {
  if (single || missing(at(page.test.index, state.input ?? 0))) return many ? `in ${plural(many, ["input", "inputs"])} of the run` : "in no input of the run";
  return many <= 1 ? "only this input" : null;
}

function harmFrequency(method, position) {
  const everywhere = method === "influence" ? fanOf("negative_influence", position) : null;
  if (!missing(everywhere)) return el("span", null, fewInputs(everywhere) ?? `harms ${count(everywhere)} inputs`);
  if (single) return null;
  const many = harmsOnPage(method).get(position) ?? 1;
  return el("span", { class: "counted-here", title: "Counted over the inputs on this page" }, `harms ${count(many)} of ${count(explained)}`);
}

function cardWords(input, position, list, rank) {
  if (run.media === "row") return rowDifference(at(page.test.row, input), at(page.train.row, position));
  if (run.media !== "text") return null;
  const tokens = list.tokens?.[rank];
  const rest = list.rest?.[rank];
  const other = missing(rest) ? null : el("p", { class: "note" }, `not by token ${signed(rest)}`);
  if (tokens) return [el("p", { class: "card-text" }, weighedText(tokens)), other];
  const text = at(page.train.text, position) ?? "";
  return [el("p", { class: "card-text" }, markedText(text, at(page.test.text, input) ?? "", 160)), other];
}

// The score's parts by layer, where they were computed: they add up to the score.
function cardLayers(list, rank) {
  const shares = list.by_layer?.shares?.[rank];
  if (!shares) return null;
  if (shares.length === 1) return el("p", { class: "note" }, `one layer: ${list.by_layer.names[0]}`);
  const most = Math.max(...shares.map(Math.abs), 1e-30);
  const rows = list.by_layer.names.map((layer, place) =>
    el(
      "div",
      { class: `layer ${shares[place] < 0 ? "negative" : ""}` },
      el("span", null, layer),
      el("span", { class: "score-room" }, el("span", { class: "bar", style: { "--share": share(Math.abs(shares[place]), most) } })),
      el("span", null, signed(shares[place])),
    ),
  );
  return el("details", { class: "folded" }, el("summary", null, "by layer"), rows);
}
