// One input: what the model says, by which training examples, and where these stand among all.

const shownInput = { head: null, methods: null, columns: null, foot: null };

function inputsSection(section) {
  for (const part of Object.keys(shownInput)) shownInput[part] = el("div", { class: `input-${part}` });
  const one = el("div", { class: "input", "data-column": state.column }, Object.values(shownInput));
  shownInput.box = one;
  fill(
    section,
    el(
      "div",
      { class: "wrap" },
      single ? singleHead() : sectionHead("inputs", `Which ${nounOf(page.train)[1]} made it say that?`, run.sample),
      single ? one : el("div", { class: "explorer" }, inputBrowser(), one),
    ),
  );
  onChange("input", drawInput);
  onChange("method", drawInput);
  drawInput();
}

// A page of one input begins with it.
function singleHead() {
  const given = missing(at(page.test.index, 0));
  const what = given ? nameOf(page.test, 0) : `${nounOf(page.test)[0]} ${nameOf(page.test, 0)}`;
  const label = at(page.test.explained, 0);
  const asked = run.kind === "classes" && !missing(label) && label !== at(page.test.predicted, 0);
  // Of another label than the model's answer the page says what speaks for it, and what against it.
  const title = asked ? `What speaks for “${className(label)}”: ${what}` : `Why the model says that about ${what}`;
  return el("header", { class: "section-head" }, el("h1", null, title));
}

function sectionHead(name, title, about) {
  return el("header", { class: "section-head" }, el("h2", { id: `${name}-title` }, title), about ? el("p", { class: "note" }, about) : null);
}

function drawInput() {
  if (state.input === null || state.input >= explained) return drawAbsent();
  fill(shownInput.head, inputHead(state.input));
  drawMethods(state.input);
  drawColumns(state.input);
  return undefined;
}

function drawAbsent() {
  const command = commandFor(state.absent, "test");
  fill(
    shownInput.head,
    el(
      "div",
      { class: "absent" },
      el("h3", { class: "says" }, `${capital(nounOf(page.test)[0])} ${state.absent} is not on this page.`),
      el("p", null, "This command explains it from the run:"),
      el("code", { class: "command" }, command),
      copyButton(() => command, "Copy the command"),
    ),
  );
  for (const part of ["methods", "columns", "foot"]) fill(shownInput[part]);
}

function inputHead(input) {
  const chosen = explanation(input, state.method);
  return [
    run.media === "image" ? el("div", { class: "input-picture" }, glimpse(page.test, input, pixels(140, 84), { role: "img", "aria-label": inputAlt(input) })) : null,
    el("div", { class: "input-words" }, el(single ? "h2" : "h3", { class: "says" }, saying(input)), inputText(input), el("p", { class: "facts-line" }, inputFacts(input)), inputButtons()),
    chosen?.histogram ? inputHistogram(chosen) : null,
  ];
}

function inputAlt(input) {
  return `${capital(nounOf(page.test)[0])} ${nameOf(page.test, input)}`;
}

// The prediction in one line.
function saying(input) {
  const label = at(page.test.label, input);
  const predicted = at(page.test.predicted, input);
  if (run.kind === "numbers") return sayingNumber(input, label, predicted);
  if (run.kind !== "classes" || missing(predicted)) return `${capital(nounOf(page.test)[0])} ${nameOf(page.test, input)}`;
  if (missing(label) || label < 0) return ["The model says ", tag(answer(predicted))];
  if (label === predicted) return ["The model says ", tag(answer(predicted)), ", and so does the label."];
  return ["The model says ", tag(answer(predicted), "differs"), ", the label ", tag(answer(label))];
}

function sayingNumber(input, label, predicted) {
  const off = residual(page.test, input);
  if (missing(off)) return ["The model says ", tag(number(predicted))];
  const side = off > 0 ? "too high" : "too low";
  const words = off === 0 ? ", exactly." : `: ${number(Math.abs(off))} ${side}.`;
  return ["The model says ", tag(number(predicted)), ", the target is ", tag(number(label)), words];
}

function inputText(input) {
  if (run.media === "text") return el("blockquote", { class: "input-text" }, markedText(at(page.test.text, input) ?? "", null, 600));
  return run.media === "row" ? wholeRow(at(page.test.row, input)) : null;
}

function inputFacts(input) {
  const { explained: labels, predicted, probability, loss } = page.test;
  const label = at(labels, input);
  const chance = at(probability, input);
  const of = run.kind === "classes" && !missing(label) ? ` of “${className(label)}”` : "";
  const facts = [];
  if (!missing(chance)) facts.push(label === at(predicted, input) ? `${percent(chance)} sure` : `gives “${className(label)}” ${percent(chance)}`);
  const unit = run.unit === "nats" && run.kind === "classes" ? " nats" : "";
  if (!missing(at(loss, input))) facts.push(`${of ? "explained: the " : ""}loss${of} ${number(at(loss, input))}${unit}`);
  const beside = indexBeside(page.test, input);
  if (!missing(at(page.test.index, input))) facts.push([`${nounOf(page.test)[0]} `, el("span", { class: "mono" }, nameOf(page.test, input))]);
  if (!missing(beside)) facts.push(["index ", el("span", { class: "mono" }, String(beside))]);
  return facts.map((fact, place) => [place ? " · " : null, fact]);
}

function inputButtons() {
  if (single) return null;
  const link = () => location.href.replace(/#.*$/, "") + inputLink(state.input);
  return el(
    "div",
    { class: "buttons" },
    button("←", () => stepInput(-1), { "aria-label": "Previous input", title: "Previous input" }),
    button("→", () => stepInput(1), { "aria-label": "Next input", title: "Next input" }),
    copyButton(link, "Copy link"),
  );
}

function inputHistogram({ histogram, helps, harms }) {
  const title = methodTitle(state.method);
  const ticks = [
    ...(harms?.score ?? []).map((score) => [-Math.abs(score), "harming"]),
    ...helps.score.map((score) => [score, "helping"]),
  ];
  const told = `Scores of all ${plural(run.n, nounOf(page.train))} by ${title}: from ${number(histogram.low)} to ${number(histogram.high)}`;
  return el(
    "figure",
    { class: `histogram ${methodColor(state.method)}` },
    el("figcaption", null, el("span", null, `All ${count(run.n)} by ${title}, log count`), el("span", null, "ticks: those listed")),
    chart(el("div", { class: "chart" }), scoreHistogram(histogram, ticks, told)),
  );
}

function drawMethods(input) {
  const offered = switched.filter(({ name }) => explanation(input, name));
  if (offered.length < 2) return fill(shownInput.methods);
  const press = (name) => () => {
    chooseMethod(name);
    shownInput.methods.querySelector("[aria-pressed=true]")?.focus({ preventScroll: true });
  };
  const made = offered.map((method, place) => methodButton(input, method, place, press(method.name)));
  return fill(shownInput.methods, el("div", { class: "methods", role: "group", "aria-label": "Method" }, made));
}

function methodButton(input, { name, about, typical }, place, press) {
  const told = missing(typical) ? null : `each explains ${plural(typical, ["input", "inputs"])}, typically`;
  return el(
    "button",
    { type: "button", class: `method ${methodColor(name)}`, "aria-pressed": String(name === state.method), on: { click: press } },
    el("span", { class: "method-title" }, el("b", null, methodTitle(name)), key(String(place + 1))),
    about ? el("span", { class: "method-about" }, about) : null,
    el("span", { class: "strip", "aria-hidden": "true" }, preview(input, name)),
    told ? el("span", { class: "method-typical", title: `The median over all places of the lists, top ${run.k} of each of ${count(run.m)} inputs` }, told) : null,
  );
}

function preview(input, name) {
  const positions = explanation(input, name).helps.train;
  const shown = positions.slice(0, run.media === "image" ? 8 : 3);
  return shown.map((position) => {
    const often = (fanOf(name, position) ?? 0) >= oftenFrom;
    return glimpse(page.train, position, 28, { class: often ? "again" : "" });
  });
}

function drawColumns(input) {
  const columns = columnsOf(input);
  if (!columns.some(({ name }) => name === state.column)) state.column = columns[0]?.name ?? "helps";
  shownInput.box.dataset.column = state.column;
  const pick = (name) => {
    state.column = name;
    shownInput.box.dataset.column = name;
  };
  const narrow = choice("Which examples", columns.map(({ name, title }) => [name, title]), state.column, pick);
  narrow.classList.add("column-choice");
  fill(shownInput.columns, columns.length > 1 ? narrow : null, el("div", { class: `columns of-${columns.length}` }, columns.map((column) => cardColumn(input, column))));
  fill(shownInput.foot, longButton(columns), effectNote(columns));
}

function longButton(columns) {
  const most = Math.max(0, ...columns.map(({ list }) => list.train.length));
  if (most <= FIRST_RANKS) return null;
  return button(state.long ? `Show the first ${FIRST_RANKS}` : `Show all ${most}`, () => change("method", { long: !state.long }));
}

function effectNote(columns) {
  if (!columns.some(({ list }) => list.effect?.some((value) => !missing(value)))) return null;
  const better = columns.some(({ list }) => list.corrected?.some((value) => !missing(value)));
  const more = better ? ` Corrected: the same with the example’s own curvature and the real ${measured.name}.` : "";
  const [up, down] = ["rise (+) or fall (−)", "fall (+) or rise (−)"];
  const ways = (measured === LOSS) === Boolean(run.scored) ? down : up;
  const step = run.scored ? "on the example, too" : "without the example";
  const words = `Effect: influence / n, about by how much this ${measured.name} would ${ways} if the model were trained ${step}, to first order.${more}`;
  return el("p", { class: "note" }, words);
}
