// One label of the queue: the example, the decisions, the examples that speak for each label; and the file of decisions.

function labelMain(item) {
  const { train, suggested } = item;
  return el(
    "div",
    { class: "label-main" },
    el(
      "div",
      { class: "label-head" },
      run.media === "image" ? el("button", { type: "button", class: "bare", "aria-label": `Details of ${nameOf(page.train, train)}`, on: { click: () => openTraining(train) } }, glimpse(page.train, train, pixels(168, 84))) : null,
      el("div", { class: "label-words" }, labelSaying(item), labelFacts(train), decisionButtons(item), classKeys()),
    ),
    run.media === "text" && page.train.text ? el("blockquote", { class: "input-text" }, markedText(at(page.train.text, train) ?? "", null, 600)) : null,
    run.media === "row" ? wholeRow(at(page.train.row, train)) : null,
    el(
      "div",
      { class: "both-sides" },
      examplesFor(`For “${answer(at(page.train.label, train))}”, its label`, item.helpers_label),
      missing(suggested) || suggested === at(page.train.label, train) ? null : examplesFor(`For “${answer(suggested)}”`, item.helpers_suggested),
    ),
    examplesFor("Nearest", item.nearest, true),
  );
}

function labelFacts(train) {
  const index = indexBeside(page.train, train);
  return el(
    "p",
    { class: "facts-line" },
    `${capital(nounOf(page.train)[0])} `,
    el("span", { class: "mono" }, nameOf(page.train, train)),
    missing(index) ? null : [" · index ", el("span", { class: "mono" }, String(index))],
  );
}

function labelSaying({ train, suggested }) {
  const label = at(page.train.label, train);
  const predicted = at(page.train.predicted, train);
  const rest = [];
  // A suggestion has the largest support of the model's probabilities and the nearest examples' labels, taken together.
  if (!missing(suggested) && suggested !== label) rest.push("The model and the labels of the nearest together suggest ", tag(answer(suggested), "differs"));
  if (!missing(predicted) && isWrong(page.train, train)) {
    const also = suggested === predicted;
    rest.push(also ? ", the model’s own answer" : [rest.length ? "; the model alone " : "The model says ", tag(answer(predicted), "differs")]);
  }
  return el("h3", { class: "says" }, "The label says ", tag(answer(label)), ".", rest.length ? [" ", rest, "."] : null);
}

function decisionButtons({ train }) {
  const suggested = suggestedNow();
  const made = decisions.made.get(page.train.index[train]);
  const decision = (name, text, sign, press) =>
    button([text, key(sign)], press, {
      "data-decision": name,
      "aria-pressed": String(made?.decision === name),
      "aria-keyshortcuts": sign,
    });
  return el(
    "div",
    { class: "buttons decisions" },
    decision("keep", `Keep ${answer(at(page.train.label, train))}`, "K", () => decideLabel("keep")),
    suggested === null ? null : decision("change", `Change to ${answer(suggested)}`, "C", changeToSuggested),
    decision("exclude", "Exclude", "X", () => decideLabel("exclude")),
    decision("later", "Later", "L", () => decideLabel("later")),
  );
}

// Ten classes have a key each; more are typed.
function classKeys() {
  if (!run.classes) return null;
  if (run.classes.length > 10) {
    const all = run.classes.map((_, label) => label);
    return classField("Another class", all, changeTo);
  }
  const press = (label) => () => changeTo(label);
  return el(
    "div",
    { class: "class-keys", role: "group", "aria-label": "Change to another class" },
    el("span", { class: "note" }, "another class"),
    run.classes.map((name, label) => {
      const named = String(name) !== String(label);
      return button(named ? [key(String(label)), shortened(String(name), 24)] : String(name), press(label), { class: "chip" });
    }),
  );
}

function examplesFor(title, positions, withLabels) {
  if (!positions?.length) return null;
  const labels = positions.map((position) => at(page.train.label, position));
  const most = mostFrequent(labels);
  const summary = withLabels && most ? `${most[1]} of ${labels.length} are labelled ${answer(most[0])}` : null;
  return el(
    "section",
    { class: "evidence-side" },
    el("header", null, el("h4", null, title), summary ? el("span", { class: "note" }, summary) : null),
    run.media === "image"
      ? el("div", { class: "strip" }, positions.map((position) => labelledGlimpse(position)))
      : el("ul", { class: "evidence-list" }, positions.map(evidenceLine)),
  );
}

function labelledGlimpse(position) {
  return el("span", { class: "labelled" }, glimpseButton(page.train, position, 56), tag(answer(at(page.train.label, position))));
}

function evidenceLine(position) {
  const text = run.media === "text" ? at(page.train.text, position) : null;
  const told = text ?? nameOf(page.train, position);
  const open = el("button", { type: "button", class: "link", on: { click: () => openTraining(position) } }, shortened(told, 90));
  return el("li", null, tag(answer(at(page.train.label, position))), open);
}

function mostFrequent(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a)[0] ?? null;
}

function labelEvidence(item) {
  return el(
    "aside",
    { class: "evidence", "aria-label": "Evidence" },
    el("h4", null, `Suspicion ${number(item.suspicion)} of 100`),
    el("details", { class: "folded" }, el("summary", null, "How it is made"), el("p", { class: "note" }, page.labels.how)),
    item.evidence.map(({ what, share: part, text }) =>
      el(
        "div",
        { class: "evidence-row" },
        el("span", null, what),
        el("span", { class: "evidence-text" }, text),
        el("span", { class: "score-room" }, el("span", { class: "bar", style: { "--share": share(part, 1) } })),
      ),
    ),
    touches(item),
    el("h4", null, "decisions.csv"),
    el("p", { class: "note" }, decisions.kept ? "Kept in this browser, for this run. Download it to pass it on; drop a file here to go on from it." : "Kept in this tab until you download it. Drop the file here to go on another day."),
    queue.preview,
  );
}

function touches({ train, touches: counts }) {
  const methods = Object.keys(counts ?? {});
  if (!methods.length) return null;
  const told = methods.map((method, place) => [
    place ? (place === methods.length - 1 ? " and " : ", ") : null,
    el("b", null, count(counts[method])),
    ` by ${methodTitle(method)}`,
  ]);
  const see = el("button", { type: "button", class: "link", on: { click: () => openTraining(train) } }, "See them");
  return [el("h4", null, "What it touches"), el("p", { class: "note" }, `It is in the top ${run.k} of inputs: `, told, ". ", see)];
}

function fileButtons() {
  const field = el("input", { type: "file", accept: ".csv,text/csv", class: "unseen", tabindex: "-1", "aria-label": "A file of decisions" });
  field.addEventListener("change", () => takeFile(field.files[0]).then(() => (field.value = "")));
  return el(
    "div",
    { class: "buttons" },
    button(["Undo", key("U")], undoLabel, { "aria-keyshortcuts": "U" }),
    button("Download decisions.csv", downloadDecisions),
    button("Go on from a file", () => field.click()),
    field,
    el("p", { class: "note", id: "file-notice", role: "status" }),
  );
}

function downloadDecisions() {
  saveFile("decisions.csv", "text/csv", decisionsCsv());
  decisions.unsaved = false;
}

function acceptDrops(section) {
  section.addEventListener("dragover", (event) => {
    event.preventDefault();
    section.classList.add("dropping");
  });
  section.addEventListener("dragleave", () => section.classList.remove("dropping"));
  section.addEventListener("drop", (event) => {
    event.preventDefault();
    section.classList.remove("dropping");
    takeFile(event.dataTransfer.files[0]);
  });
}

async function takeFile(file) {
  if (!file) return;
  const notice = document.getElementById("file-notice");
  try {
    const { own, others } = readDecisions(await file.text());
    notice.textContent = `${count(own)} decisions taken up${others ? `, ${count(others)} about other examples kept for the download` : ""}.`;
    showLabel(nextOpen());
  } catch (error) {
    notice.textContent = `${file.name}: ${error.message}.`;
  }
}
