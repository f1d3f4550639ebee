// Keys, and the dialog that tells about them.

const HELP = [
  ["Inputs", [["← →", "previous, next input"], ["1 2 3", "method"], ["/", "search"], ["E", "errors only, or all"]]],
  ["Labels", [["K", "keep the label"], ["C", "change to the suggested one"], ["X", "exclude"], ["L", "later"], ["0 – 9", "change to this class"], ["U", "undo"], ["← →", "previous, next"]]],
  ["Everywhere", [["?", "this help"], ["Esc", "close; the focus goes back"]]],
];

const help = { dialog: null };

function makeHelp() {
  const shown = HELP.filter(([title]) => (title === "Labels" ? page.labels : title !== "Inputs" || explained));
  help.dialog = el(
    "dialog",
    { class: "help", "aria-labelledby": "help-title", on: { click: (event) => event.target === help.dialog && help.dialog.close() } },
    button("✕", () => help.dialog.close(), { class: "close", "aria-label": "Close" }),
    el("h2", { id: "help-title" }, "Keys and signs"),
    shown.map(([title, keys]) => [
      el("h3", null, title),
      el("dl", { class: "keys" }, keys.map(([sign, meaning]) => el("div", null, el("dt", null, el("kbd", null, sign)), el("dd", null, meaning)))),
    ]),
    el("h3", null, "Signs"),
    el("ul", { class: "signs" }, signWords().map((words) => el("li", null, words))),
  );
  document.body.append(help.dialog);
}

function signWords() {
  return [
    `Helps: without the example the ${measured.name} that is explained would be ${measured === LOSS ? "higher" : "lower"}. Harm is hatched and has a minus.`,
    "Colour means method: orange IF, pink θ-RelatIF, blue ℓ-RelatIF, green nearest. Amber: the model’s answer differs from the label.",
    `A dot before “in … inputs”: the example explains ${count(Math.ceil(oftenFrom))} inputs or more, 20 times what an average one would.`,
  ];
}

const INPUT_KEYS = {
  ArrowLeft: () => stepInput(-1),
  ArrowRight: () => stepInput(1),
  ArrowUp: () => stepInput(-1),
  ArrowDown: () => stepInput(1),
  e: () => pickChip(state.filter.kind === "wrong" ? { kind: "all" } : { kind: "wrong" }),
};

const LABEL_KEYS = {
  ArrowLeft: () => stepLabel(-1),
  ArrowRight: () => stepLabel(1),
  ArrowUp: () => stepLabel(-1),
  ArrowDown: () => stepLabel(1),
  k: () => decideLabel("keep"),
  c: changeToSuggested,
  x: () => decideLabel("exclude"),
  l: () => decideLabel("later"),
  u: undoLabel,
};

const UPRIGHT = new Set(["ArrowUp", "ArrowDown"]);

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest("input, textarea, select, [contenteditable]") || document.querySelector("dialog[open]")) return;
  const sign = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // Up and down scroll the page, but for a list that has the focus.
  if (UPRIGHT.has(sign) && !event.target.closest("[role=listbox]")) return;
  const act = keyAction(sign, event.target);
  if (!act) return;
  event.preventDefault();
  act();
}

function keyAction(sign, target) {
  if (sign === "?") return () => help.dialog.showModal();
  const labels = page.labels && (queue.section?.contains(target) || (state.section === "labels" && !target.closest("#inputs")));
  if (sign === "/" && browser.search) return focusSearch;
  if (labels) return LABEL_KEYS[sign] ?? labelDigit(sign);
  if (!explained) return null;
  if (/^[1-9]$/.test(sign)) return methodDigit(Number(sign));
  return single ? null : INPUT_KEYS[sign];
}

function labelDigit(sign) {
  const label = /^\d$/.test(sign) ? Number(sign) : null;
  return label !== null && label < (run.classes?.length ?? 0) && run.classes.length <= 10 ? () => changeTo(label) : null;
}

function methodDigit(place) {
  const offered = switched.filter(({ name }) => state.input !== null && explanation(state.input, name));
  const method = offered[place - 1];
  return method ? () => chooseMethod(method.name) : null;
}

function focusSearch() {
  showSection("inputs");
  browser.search.focus();
  browser.search.select();
}
