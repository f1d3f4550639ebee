// The page of a comparison: which runs agree how far, and on which inputs they differ most.

const chosen = { pair: 0, method: compared.pairs[0].methods[0].name };
const bodies = { agreement: el("div", { class: "agreement-body" }), panels: el("div", { class: "panels" }), cases: el("div", { class: "cases-body" }) };

function header() {
  return el(
    "header",
    { class: "top" },
    el(
      "div",
      { class: "wrap" },
      el("span", { class: "brand" }, el("b", null, "relatif"), el("span", { class: "task" }, "runs compared")),
      el("span", { class: "room" }),
      themeButton(),
    ),
  );
}

function pairPicker() {
  if (compared.pairs.length < 2) return null;
  const options = compared.pairs.map((pair, place) => [place, pairOf(pair)]);
  return el("div", { class: "pair-picker" }, choice("Runs", options, chosen.pair, (place) => drawPair(place)));
}

function drawPair(place) {
  chosen.pair = place;
  const pair = compared.pairs[place];
  const matched = pair.by === "test_id" ? "Inputs are matched by identifier." : "Inputs are matched by their row.";
  fill(
    bodies.agreement,
    el("h1", null, headline(pair)),
    el("p", { class: "lead" }, `${compared.runs[pair.a]} beside ${compared.runs[pair.b]}. Means over the inputs that both explain, of the first ${pair.top} examples of each. ${matched} The rank correlation is that of all examples which either has; one that a list lacks stands at rank ${pair.top + 1}.`),
    agreementTable(pair),
  );
  fill(bodies.panels, pair.methods.map((method) => methodPanel(pair, method)));
  const methods = pair.methods.map(({ name }) => name);
  drawCases(methods.includes(chosen.method) ? chosen.method : methods[0]);
}

function drawCases(method) {
  chosen.method = method;
  const pair = compared.pairs[chosen.pair];
  const options = pair.methods.map(({ name }) => [name, methodTitle(name)]);
  const cases = pair.cases.filter((one) => one.method === method);
  const said = cases.length
    ? `The ${plural(cases.length, ["input", "inputs"])} with the least in common first. A ${run.media === "text" ? "bar at the left" : "frame"} marks an example that both runs list, amber a label that the run’s model does not give.`
    : "The lists of both runs are the same for every input.";
  const body = el("div", { class: methodColor(method) }, cases.map((one) => caseOf(one, pair)));
  fill(
    bodies.cases,
    el("div", { class: "cases-head" }, el("h2", null, "Where they differ most"), choice("Method", options, method, (name) => drawCases(name))),
    el("p", { class: "note" }, said),
    body,
  );
}

function part(name, title, ...children) {
  return el("section", { class: `part ${name}`, "aria-label": title }, el("div", { class: "wrap" }, children));
}

function startComparison() {
  followTheme();
  layOutSheets();
  const unread = compared.unread.map((text) => el("p", { class: "unread" }, text));
  document.body.append(
    el("a", { class: "skip", href: "#content" }, "To the content"),
    header(),
    el(
      "main",
      { id: "content" },
      part("story compared", "Agreement", pairPicker(), bodies.agreement, unread),
      part("settings", "Settings", el("h2", null, "How the runs were made"), settingsTable()),
      part("methods-part", "Inputs by agreement", el("h2", null, "Input by input"), bodies.panels),
      part("cases-part", "Where the runs differ", bodies.cases),
    ),
  );
  drawPair(0);
}

startComparison();
