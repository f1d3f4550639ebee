// Matrices, lists and pictures of the whole run. A cell that stands for inputs on the page filters them.

function filtered(filter) {
  const many = inputPositions().filter((input) => passes(input, filter)).length;
  return many ? () => filterInputs(filter) : null;
}

function classNames() {
  return (run.classes ?? []).map((name) => shortened(String(name), 10));
}

function compact(many) {
  return many >= 1000 && (run.classes?.length ?? 0) > 12 ? `${(many / 1000).toFixed(1)}k` : count(many);
}

function confusionPanel(counts) {
  const most = Math.max(1, ...counts.flatMap((row, label) => row.filter((_, predicted) => predicted !== label)));
  const cell = (label, predicted) => {
    const many = counts[label][predicted];
    if (!many) return null;
    const about = `${count(many)} with label ${className(label)}, model says ${className(predicted)}`;
    const right = label === predicted;
    return { share: right ? 0 : many / most, text: compact(many), about, quiet: right, press: filtered({ kind: "cell", label, predicted }) };
  };
  return [
    panelHead("Where the model errs", "Rows: label. Columns: what the model says. A cell lists its inputs on this page."),
    matrix({ rows: classNames(), columns: classNames(), className: "amber", caption: "Label by answer of the model", cell }),
  ];
}

function confusedPanel(pairs) {
  const most = Math.max(1, ...pairs.map(([, , many]) => many));
  return [
    panelHead("Where the model errs most", "Label, what the model says, and how often. A pair lists its inputs on this page."),
    el(
      "ol",
      { class: "confused" },
      pairs.map(([label, predicted, many]) => {
        const press = filtered({ kind: "cell", label, predicted });
        const pair = [tag(className(label)), arrow("the model says"), tag(className(predicted), "differs")];
        return el(
          "li",
          null,
          press ? el("button", { type: "button", class: "bare pair", on: { click: press } }, pair) : el("span", { class: "pair" }, pair),
          el("span", { class: "score-room amber" }, el("span", { class: "bar", style: { "--share": share(many, most) } })),
          el("span", { class: "figure" }, count(many)),
        );
      }),
    ),
  ];
}

function helpersPanel(helpers) {
  const methods = Object.keys(helpers).filter((method) => methodNamed.has(method));
  const [picker, body] = byMethod(methods, (method) => helperMatrix(method, helpers[method]));
  const own = methods.map((method) => [method, ownShare(helpers[method])]);
  const told = own.map(([method, part]) => `${methodTitle(method)} ${finePercent(part)}`).join(", ");
  const about = `Rows: the class explained. Columns: the label of the ${nounOf(page.train)[1]} in its top ${run.k}, in % of the row. On the diagonal: ${told}.`;
  return [panelHead("Which labels the helpers have", about, picker), body];
}

function ownShare(counts) {
  const all = counts.flat().reduce((sum, many) => sum + many, 0);
  return counts.reduce((sum, row, label) => sum + (row[label] ?? 0), 0) / (all || 1);
}

function helperMatrix(method, counts) {
  const cell = (label, helper) => {
    const all = counts[label].reduce((sum, many) => sum + many, 0);
    const part = counts[label][helper] / (all || 1);
    if (!counts[label][helper]) return null;
    const about = `${finePercent(part)} of the helpers of ${className(label)} have the label ${className(helper)}`;
    return { share: part, text: part < 0.005 ? "<1" : String(Math.round(100 * part)), about, press: filtered({ kind: "helper", label, helper, method }) };
  };
  return matrix({ rows: classNames(), columns: classNames(), caption: `Labels of the helpers by ${methodTitle(method)}`, cell });
}

function overlapPanel(rows) {
  const k = Math.max(...rows.map((row) => row.k));
  const shown = rows.filter((row) => row.k === k);
  const methods = (run.methods ?? []).map(({ name }) => name).filter((name) => shown.some(({ a, b }) => a === name || b === name));
  const parts = new Map(shown.flatMap(({ a, b, overlap }) => [[`${a} ${b}`, overlap], [`${b} ${a}`, overlap]]));
  const cell = (row, column) => {
    const part = parts.get(`${methods[row]} ${methods[column]}`);
    if (row === column || missing(part)) return null;
    return { share: part, text: finePercent(part) };
  };
  const names = methods.map(methodTitle);
  return [
    panelHead(overlapTitle(parts, k), `Mean share of the top ${k} that two methods have in common.`),
    matrix({ rows: names, columns: names, className: "neutral", caption: "Overlap of the methods", cell }),
  ];
}

function overlapTitle(parts, k) {
  const relative = ["l_relatif", "theta_relatif"].find((method) => parts.has(`${method} ${NEAREST}`));
  const plain = parts.get(`influence ${NEAREST}`);
  if (!relative || missing(plain)) return "What the methods have in common";
  const near = parts.get(`${relative} ${NEAREST}`);
  return `${finePercent(near)} of ${methodTitle(relative)}’s top ${k} are nearest neighbours; of IF’s, ${finePercent(plain)}`;
}

function influencePanel(data) {
  const { classes, values } = data;
  const names = classes.map((name) => shortened(String(name), 10));
  const most = Math.max(...values.flat().map((value) => Math.abs(value ?? 0)), 1e-30);
  const unit = (value) => si(value, run.unit);
  const cell = (row, column) => {
    const value = values[row][column];
    if (missing(value)) return null;
    const label = classNumber(String(classes[row])) ?? row;
    const about = `${capital(nounOf(page.train)[1])} of ${classes[column]} on inputs explained as ${classes[row]}: ${signed(value, unit)}`;
    const part = Math.abs(value) / most;
    return { share: part, text: shortUnit(value), about, negative: value < 0, press: filtered({ kind: "explained", label }) };
  };
  const over = data.inputs === "page" ? "inputs on this page" : "inputs";
  const about = `Summed influence / n of the ${nounOf(page.train)[1]} of a class (column) on the ${over} explained as a class (row), in ${run.unit}. + helps, − (hatched) harms. Sums are first order only.`;
  return [panelHead("Which classes help which", about), matrix({ rows: names, columns: names, className: "by-if", caption: "Summed influence by class", cell })];
}

function shortUnit(value) {
  const words = signed(value, (size) => si(size, run.unit));
  return words.replace(" nat", "").replace(/ ([mµnp])nat$/, "$1");
}

function leftOutPanel({ points, text }) {
  const corrected = points.some(([, better]) => !missing(better));
  const legend = el(
    "p",
    { class: "legend note" },
    el("span", { class: "point-sign first", "aria-hidden": "true" }),
    "first order ",
    corrected ? [el("span", { class: "point-sign corrected", "aria-hidden": "true" }), "with the example’s own curvature"] : null,
  );
  const label = `Predicted against retrained change of loss for ${points.length} pairs. ${text ?? ""}`;
  return [
    panelHead("What retraining says", text, legend),
    chart(el("div", { class: "chart" }), leftOutCloud(points, run.unit, label)),
  ];
}

function figurePanel({ title, text, png, alt, inputs, lists }) {
  if (inputs) return [panelHead(title, text), besideTable(title, inputs, lists)];
  return [panelHead(title, text), el("img", { class: "figure-picture", src: `data:image/png;base64,${png}`, alt: alt ?? title, loading: "lazy" })];
}

// Several examples beside each input need the width of two panels.
function isLong({ lists }) {
  return Object.values(lists ?? {}).some(([first]) => first?.length > 1);
}

// Inputs below one another, beside each the examples that some methods name first; single examples stand below theirs.
function besideTable(title, inputs, lists) {
  const methods = Object.keys(lists);
  const shown = inputs.map((input) => captioned(page.test, input));
  const strips = methods.map((method) => lists[method].map((list) => el("div", { class: "strip" }, list.map((position) => captioned(page.train, position)))));
  const long = isLong({ lists });
  return el(
    "table",
    { class: `beside ${long ? "long" : ""}` },
    el("caption", { class: "unseen" }, title),
    long ? el("thead", null, el("tr", null, el("th", { scope: "col" }, "Input"), methods.map((method) => besideHead(method, "col")))) : null,
    el(
      "tbody",
      null,
      long
        ? shown.map((input, place) => el("tr", null, el("th", { scope: "row" }, input), strips.map((column) => el("td", null, column[place]))))
        : [
            el("tr", null, el("th", { scope: "row" }, "Input"), shown.map((input) => el("td", null, input))),
            strips.map((row, place) => el("tr", null, besideHead(methods[place], "row"), row.map((strip) => el("td", null, strip)))),
          ],
    ),
  );
}

function besideHead(method, scope) {
  return el("th", { scope, class: methodColor(method) }, el("b", { class: "in-color" }, methodTitle(method)));
}

// A picture with its label, below it what the model says where that differs.
function captioned(table, position) {
  const wanted = tight.matches ? 28 : 56;
  const shown = table === page.train || position < explained ? glimpseButton(table, position, wanted) : glimpse(table, position, wanted);
  const words = [el("span", null, answer(at(table.label, position))), isWrong(table, position) ? el("span", { class: "says-instead" }, `→ ${answer(at(table.predicted, position))}`) : null];
  return el("span", { class: "captioned" }, shown, words);
}
