// Labels to look at: one training example after the other, one key each.

const queue = { place: 0, list: null, rows: [], one: null, progress: null, preview: null, section: null };

function labelPlaceOf(position) {
  const place = (page.labels?.rows ?? []).findIndex(({ train }) => train === position);
  return place >= 0 ? place : null;
}

function labelsSection(section) {
  const { rows } = page.labels;
  queue.section = section;
  queue.list = listBox("Labels to look at", showLabel);
  queue.one = el("div", { class: "label-one" });
  queue.progress = el("div", { class: "progress" });
  queue.preview = el("pre", { class: "decisions-preview", tabindex: "0", role: "region", "aria-label": "Decisions so far" });
  queue.rows = rows.map(queueRow);
  queue.list.append(...queue.rows);
  const about = `${plural(rows.length, nounOf(page.train))} of ${count(page.labels.total)}, most suspicious first. Odd isn’t wrong: many are right as they stand.`;
  fill(
    section,
    el(
      "div",
      { class: "wrap" },
      sectionHead("labels", "Labels to look at", about),
      el("div", { class: "queue-bar" }, queue.progress, fileButtons()),
      el("div", { class: "queue" }, el("div", { class: "browser" }, queue.list), queue.one),
    ),
  );
  acceptDrops(section);
  takeUpKept();
  if (decisions.made.size) queue.place = nextOpen();
  showLabel(queue.place);
}

function queueRow({ train, suspicion, suggested }, place) {
  return el(
    "div",
    { class: `list-row ${run.media}`, role: "option", id: `label-${place}`, "aria-selected": "false", "data-position": place },
    glimpse(page.train, train, 28, { "aria-hidden": "true" }),
    suggestion(train, suggested),
    el("span", { class: "list-facts" }, el("span", { class: "decided" }, number(suspicion)), el("span", { class: "mono" }, nameOf(page.train, train))),
  );
}

function suggestion(train, suggested) {
  const label = at(page.train.label, train);
  const differs = !missing(suggested) && suggested !== label;
  return el("span", { class: "pair" }, tag(answer(label)), differs ? [arrow("suggested"), tag(answer(suggested), "differs")] : null);
}

const DONE = { keep: "kept", exclude: "excluded", later: "later" };

function decidedWords(index) {
  const made = decisions.made.get(index);
  if (!made) return null;
  return made.decision === "change" ? `to ${shortened(made.new_label, 10)}` : DONE[made.decision];
}

function indexAt(place) {
  return page.train.index[page.labels.rows[place].train];
}

function showLabel(place) {
  queue.place = place;
  markRow(queue.list, queue.rows[place]);
  drawLabel();
}

function drawLabel() {
  const item = page.labels.rows[queue.place];
  fill(queue.one, labelMain(item), labelEvidence(item));
  drawProgress();
}

function drawProgress() {
  const { rows } = page.labels;
  const counts = tally();
  const done = decisions.made.size;
  rows.forEach((item, place) => {
    const words = decidedWords(indexAt(place));
    queue.rows[place].classList.toggle("done", words !== null);
    queue.rows[place].querySelector(".decided").textContent = words ?? number(item.suspicion);
  });
  fill(
    queue.progress,
    el("p", null, el("b", null, `${count(done)} of ${count(rows.length)}`), " decided"),
    el("div", { class: "progress-room", "aria-hidden": "true" }, el("span", { style: { "--share": share(done, rows.length) } })),
    el("p", { class: "note" }, DECISIONS.map((decision) => `${counts[decision]} ${decision}`).join(" · ")),
  );
  queue.preview.textContent = shortenedLines(decisionsCsv(), 6);
}

function shortenedLines(text, most) {
  const lines = text.trimEnd().split("\r\n");
  const last = lines.slice(1).slice(-(most - 1));
  return [lines[0], ...(lines.length - 1 > last.length ? ["…"] : []), ...last].join("\n");
}

// Decide about the label that is shown and go on to the next one that is still open.
function decideLabel(decision, newLabel) {
  const index = indexAt(queue.place);
  decide(index, decision, newLabel);
  announce(`${nameOf(page.train, page.labels.rows[queue.place].train)}: ${decidedWords(index)}`);
  const held = queue.one.contains(document.activeElement) ? document.activeElement.dataset.decision : null;
  showLabel(nextOpen());
  if (held) queue.one.querySelector(`[data-decision="${held}"]`)?.focus({ preventScroll: true });
}

function nextOpen() {
  const { rows } = page.labels;
  for (let step = 1; step <= rows.length; step++) {
    const place = (queue.place + step) % rows.length;
    if (!decisions.made.has(indexAt(place))) return place;
  }
  return queue.place;
}

function suggestedNow() {
  const { suggested, train } = page.labels.rows[queue.place];
  return missing(suggested) || suggested === at(page.train.label, train) ? null : suggested;
}

function changeToSuggested() {
  const suggested = suggestedNow();
  if (suggested !== null) decideLabel("change", className(suggested));
  else announce("No other label is suggested: type a class");
}

// Another class than the label; choosing the label itself keeps it.
function changeTo(label) {
  const { train } = page.labels.rows[queue.place];
  if (label === at(page.train.label, train)) decideLabel("keep");
  else decideLabel("change", className(label));
}

function undoLabel() {
  const index = undoDecision();
  if (index === null) return announce("Nothing to undo");
  const place = page.labels.rows.findIndex(({ train }) => page.train.index[train] === index);
  announce(`Undone: ${index}`);
  return showLabel(place);
}

function stepLabel(by) {
  const next = Math.min(page.labels.rows.length - 1, Math.max(0, queue.place + by));
  if (next !== queue.place) showLabel(next);
}

function goToLabel(place) {
  closeDrawer();
  showSection("labels");
  showLabel(place);
}
