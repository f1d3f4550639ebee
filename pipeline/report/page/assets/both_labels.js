// One wrong answer, explained for the label that the model gives and for the true one.

function bothLabelsPanel({ test, method, sides }) {
  const [given, own] = sides;
  const title = `The model says ${className(given.label)}, the label ${className(own.label)}: what speaks for either`;
  const about =
    `What ${methodTitle(method)} names first for the label that the model gives, and for the true one. ` +
    "The input is the wrong answer whose true label the model finds most probable. The paper’s Fig. 7.";
  return [
    panelHead(title, about),
    el(
      "div",
      { class: `both-labels ${methodColor(method)}` },
      bothLabelsInput(test, given, own),
      el("div", { class: "both-sides" }, sides.map((side, place) => labelSide(side, place ? "the true label" : "what it says"))),
    ),
  ];
}

function bothLabelsInput(test, given, own) {
  const name = `${nounOf(page.test)[0]} ${nameOf(page.test, test)}`;
  const pictured = run.media === "image" && sheets;
  const wanted = pictured ? 84 : 56;
  const shown = test < explained ? glimpseButton(page.test, test, wanted) : glimpse(page.test, test, wanted, pictured ? { role: "img", "aria-label": capital(name) } : {});
  const words = [`${capital(name)}: the model gives “${className(given.label)}” ${percent(given.probability)} and “${className(own.label)}” ${percent(own.probability)}. `, "Compare it with the examples of either label."];
  return el("div", { class: "both-labels-input" }, shown, el("p", null, words));
}

function labelSide({ label, probability, train }, what) {
  return el(
    "section",
    { class: "evidence-side" },
    el("header", null, el("h4", null, tag(className(label)), ` ${what}`), el("span", { class: "note" }, percent(probability))),
    run.media === "image" ? el("div", { class: "strip" }, train.map(labelledGlimpse)) : el("ul", { class: "evidence-list" }, train.map(evidenceLine)),
  );
}
