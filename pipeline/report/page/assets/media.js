// What an example looks like: its picture, its text, its row, or its number.

const sheets = page.sheets;
const INKED = sheets?.gray ? " ink" : "";

// One rule of style for each sheet, so that a picture names its sheet instead of carrying it.
function layOutSheets() {
  if (!sheets) return;
  const rules = new CSSStyleSheet();
  const [height, width] = sheets.tile;
  const across = `calc(var(--w) * ${sheets.columns}) calc(var(--h) * ${sheets.rows})`;
  rules.insertRule(`.tile { background-size: ${across}; aspect-ratio: ${width} / ${height}; }`);
  sheets.images.forEach((image, number) => {
    rules.insertRule(`.sheet-${number} { background-image: url("data:${sheets.type ?? "image/png"};base64,${image}"); }`);
  });
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, rules];
}

// Sides of a picture that is about `wanted` pixels: whole multiples of its own where it is small.
function sidesFor(wanted) {
  const [height, width] = sheets.tile;
  const longest = Math.max(height, width);
  const scale = longest <= wanted ? Math.max(1, Math.round(wanted / longest)) : wanted / longest;
  return [Math.round(width * scale), Math.round(height * scale)];
}

const narrow = matchMedia("(max-width: 600px)");

// Pixels wanted on a wide screen and on a narrow one.
function pixels(wide, slim) {
  return narrow.matches ? slim : wide;
}

const tight = matchMedia("(max-width: 900px)");

function thumb(tile, wanted) {
  const [width, height] = sidesFor(wanted);
  const perSheet = sheets.columns * sheets.rows;
  const number = Math.floor(tile / perSheet);
  const x = tile % sheets.columns;
  const y = Math.floor((tile % perSheet) / sheets.columns);
  const coarse = Math.max(...sheets.tile) <= 64 ? " coarse" : "";
  return el("span", {
    class: `tile sheet-${number}${INKED}${coarse}`,
    style: { "--w": `${width}px`, "--h": `${height}px`, "--x": x, "--y": y },
  });
}

function tileOf(table, position) {
  return table === page.train ? position : page.train.index.length + position;
}

// An example as a small thing to recognise it by: a framed picture, or the first words of its text, or its number.
function glimpse(table, position, wanted, attributes) {
  const frame = { ...attributes, class: `glimpse ${attributes?.class ?? ""}` };
  if (run.media === "image" && sheets) return el("span", frame, thumb(tileOf(table, position), wanted));
  frame.class += " worded";
  if (run.media === "text" && table.text) return el("span", frame, shortened(at(table.text, position) ?? "", 60));
  return el("span", frame, nameOf(table, position));
}

// The same as a button that opens a training example or goes to an input.
function glimpseButton(table, position, wanted, attributes) {
  const [one] = nounOf(table);
  const told = isWrong(table, position)
    ? `, label ${answer(at(table.label, position))}, model says ${answer(at(table.predicted, position))}`
    : missing(at(table.label, position))
      ? ""
      : `, label ${answer(at(table.label, position))}`;
  const more = attributes?.more ? `, ${attributes.more}` : "";
  const inner = glimpse(table, position, wanted, { class: attributes?.class });
  const press = () => (table === page.train ? openTraining(position) : goToInput(position));
  return el(
    "button",
    {
      type: "button",
      class: "bare",
      "aria-label": `${capital(one)} ${nameOf(table, position)}${told}${more}`,
      on: { click: press },
    },
    inner,
  );
}

// Label, and the model's answer where it differs: 4 → 9.
function labelPair(table, position) {
  const label = at(table.label, position);
  const predicted = at(table.predicted, position);
  if (missing(label) && missing(predicted)) return null;
  if (missing(label)) return el("span", { class: "pair" }, tag(answer(predicted)));
  if (run.kind === "numbers" && !missing(predicted)) {
    return el("span", { class: "pair" }, tag(answer(label)), arrow("the model says"), tag(answer(predicted)));
  }
  if (!isWrong(table, position)) return el("span", { class: "pair" }, tag(answer(label)));
  return el("span", { class: "pair" }, tag(answer(label)), arrow("the model says"), tag(answer(predicted), "differs"));
}

function tag(text, kind) {
  return el("span", { class: `tag ${kind ?? ""}` }, text);
}

function arrow(meaning) {
  return el("span", { class: "arrow" }, el("span", { "aria-hidden": "true" }, "→"), unseen(` ${meaning} `));
}
