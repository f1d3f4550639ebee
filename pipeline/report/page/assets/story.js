// The run in one look: what IF names beside what RelatIF names, then what was computed and what was checked.

function storySection(section) {
  const { story } = page;
  const parts = story ? [storyHead(story), storyBody(story)] : single ? null : runHead();
  fill(section, el("div", { class: "wrap" }, parts, runFacts()));
}

function runHead() {
  const what = `${plural(run.m, nounOf(page.test))}, explained by ${plural(run.n, nounOf(page.train))}`;
  return el("h1", { id: "story-title" }, what);
}

function storyHead(story) {
  const [first, second] = story.methods;
  if (story.headline !== "distinct") {
    const titles = story.methods.map(methodTitle).join(" and ");
    return el("h1", { id: "story-title" }, `What ${titles} name for the same six inputs`);
  }
  const colored = (method, text) => el("span", { class: `in-color ${methodColor(method)}` }, text);
  return el(
    "h1",
    { id: "story-title" },
    `${methodTitle(first)} keeps naming `,
    colored(first, "the same few outliers"),
    ". ",
    el("br", { class: "wide" }),
    `${methodTitle(second).replace(/^.-/, "")} names `,
    colored(second, "examples like the input"),
    ".",
  );
}

// The table of pictures takes the room of eleven with what stands between them: their size is a multiple of their own.
function storyBody(story) {
  return el(
    "div",
    { class: "story", style: sheets ? { "--story": `${11 * (sidesFor(56)[0] + 4) + 84}px` } : {} },
    el("div", null, storyTable(story), storyCounts(story)),
    el("div", { class: "story-bars" }, storyBars(story), storyMost(story)),
  );
}

// Examples that a method names more than once among the few inputs of the story.
function repeated(places) {
  const seen = new Map();
  for (const position of places.flat()) seen.set(position, (seen.get(position) ?? 0) + 1);
  return new Set([...seen].filter(([, times]) => times > 1).map(([position]) => position));
}

function storyTable(story) {
  const again = new Map(story.methods.map((method) => [method, repeated(story.rows[method])]));
  const wanted = tight.matches ? 28 : 56;
  return el(
    "table",
    { class: `story-table ${run.media}` },
    el("caption", { class: "unseen" }, `Six inputs, each with the five ${nounOf(page.train)[1]} that explain it most`),
    el(
      "thead",
      null,
      el(
        "tr",
        null,
        el("th", { scope: "col" }, "Input"),
        story.methods.map((method) =>
          el("th", { scope: "col", class: methodColor(method) }, el("b", null, methodTitle(method)), el("span", { class: "top-5" }, " top 5")),
        ),
      ),
    ),
    el(
      "tbody",
      null,
      story.inputs.map((input, place) =>
        el(
          "tr",
          null,
          el("th", { scope: "row" }, storyInput(input, wanted)),
          story.methods.map((method) => storyCell(method, story.rows[method][place], again.get(method), wanted)),
        ),
      ),
    ),
  );
}

function storyInput(input, wanted) {
  return input < explained ? glimpseButton(page.test, input, wanted) : glimpse(page.test, input, wanted);
}

function storyCell(method, positions, again, wanted) {
  return el(
    "td",
    { class: methodColor(method) },
    el(
      "div",
      { class: "strip" },
      positions.map((position) => {
        const more = again.has(position) ? "named more than once here" : null;
        return glimpseButton(page.train, position, wanted, { class: more ? "again" : "", more });
      }),
    ),
  );
}

function storyCounts(story) {
  const places = story.inputs.length * 5;
  return [
    el(
      "p",
      { class: "story-counts" },
      story.methods.map((method) =>
        el("span", null, el("b", null, plural(story.different[method], differentNoun())), ` in the ${places} places of the first five by ${methodTitle(method)}.`),
      ),
    ),
    el("p", { class: "note" }, el("span", { class: "three-shown" }, "The first three of five are shown. "), `Framed: named more than once. The six inputs were chosen to show it; the bars count all ${count(run.m)}.`),
  ];
}

function differentNoun() {
  return nounOf(page.train).map((noun) => `different ${noun}`);
}

function storyBars(story) {
  const title = `Over all ${plural(run.m, nounOf(page.test))}, top ${run.k} of each`;
  return [
    el("h2", { class: "small" }, title),
    story.bars.map(({ title: question, values, text }) =>
      el(
        "div",
        { class: "bar-block" },
        el("h3", null, question),
        methodBars((run.methods ?? []).filter(({ name }) => name in values).map(({ name }) => [name, values[name], text?.[name]])),
      ),
    ),
  ];
}

function storyMost({ most }) {
  if (!most) return null;
  return el("div", { class: "most" }, glimpseButton(page.train, most.train, 28), el("p", { class: "note" }, capital(most.text)));
}

const MARKS = { good: ["✓", "passed"], warning: ["!", "warning"], none: ["–", "not run"] };

function runFacts() {
  const facts = (run.facts ?? []).map(({ title, text }) => el("div", null, el("h2", { class: "small" }, title), el("p", null, text)));
  const checks = (run.checks ?? []).map(({ state: outcome, text }) => {
    const [mark, meaning] = MARKS[outcome] ?? MARKS.none;
    return el("li", { class: outcome }, el("span", { class: "mark", "aria-hidden": "true" }, mark), unseen(`${meaning}: `), text);
  });
  const digests = (run.digests ?? []).map(({ what, digest }) =>
    el("span", { class: "digest" }, `${what} `, el("span", { class: "mono", title: digest }, digest.slice(0, 12))),
  );
  const told = el(
    "div",
    { class: "facts" },
    facts,
    checks.length ? el("div", { class: "of-checks" }, el("h2", { class: "small" }, "Checks"), el("ul", { class: "checks" }, checks)) : null,
  );
  return el("div", { class: "run" }, told, digests.length ? el("p", { class: "digests" }, digests) : null);
}
