// Which of the inputs on the page are listed: by a chip, and by words in the search field.

const UNSURE = 0.6;
const SURE = 0.9;
const FEW_CLASSES = 12;

const FILTERS = {
  all: () => true,
  wrong: (input) => isWrong(page.test, input),
  right: (input) => run.kind === "classes" && !missing(at(page.test.label, input)) && !isWrong(page.test, input),
  unsure: (input) => !missing(confidence(input)) && confidence(input) < UNSURE,
  sure: (input) => isWrong(page.test, input) && confidence(input) > SURE,
  high: (input) => residual(page.test, input) > 0,
  low: (input) => !missing(residual(page.test, input)) && residual(page.test, input) < 0,
  far: (input) => Math.abs(residual(page.test, input) ?? 0) >= farFrom(),
  class: (input, { label }) => at(page.test.label, input) === label,
  cell: (input, { label, predicted }) => at(page.test.label, input) === label && at(page.test.predicted, input) === predicted,
  explained: (input, { label }) => at(page.test.explained, input) === label,
  helper: (input, { label, method, helper }) =>
    at(page.test.explained, input) === label &&
    (explanation(input, method)?.helps.train ?? []).some((position) => at(page.train.label, position) === helper),
};

let far = null;

// The tenth of the inputs with the largest residuals begins here.
function farFrom() {
  if (far === null) {
    const sizes = inputPositions().map((input) => Math.abs(residual(page.test, input) ?? 0));
    far = sizes.sort((a, b) => b - a)[Math.floor((sizes.length - 1) / 10)] ?? 0;
  }
  return far;
}

function inputPositions() {
  return Array.from({ length: explained }, (_, position) => position);
}

function passes(input, filter = state.filter) {
  return FILTERS[filter.kind](input, filter);
}

// Positions of the inputs that are listed, in the page's order.
function listed() {
  const says = searched(state.words);
  return inputPositions().filter((input) => passes(input) && says(input));
}

// What the words ask for: a number is an index, "4→9" a label and an answer, else a class, an id or a part of the text.
function searched(words) {
  const wanted = words.trim().toLowerCase();
  if (!wanted) return () => true;
  const pair = wanted.match(/^(.+?)\s*(?:→|->|>)\s*(.+)$/);
  const cell = pair && run.classes ? { label: classNumber(pair[1]), predicted: classNumber(pair[2]) } : null;
  if (cell && cell.label !== null && cell.predicted !== null) return (input) => FILTERS.cell(input, cell);
  if (/^\d+$/.test(wanted)) return (input) => numbered(input, wanted);
  const label = run.classes ? classNumber(wanted) : null;
  return (input) => label === at(page.test.label, input) || textHas(input, wanted);
}

function numbered(input, wanted) {
  return String(at(page.test.index, input)).startsWith(wanted) || textHas(input, wanted);
}

function textHas(input, wanted) {
  const { id, text, row } = page.test;
  const parts = [at(id, input), at(text, input), ...(at(row, input) ?? []).filter((cell) => typeof cell === "string")];
  return parts.some((part) => part !== null && String(part).toLowerCase().includes(wanted));
}

// An index that was typed and that the run explains, but that is not on the page.
function typedAbsent(words) {
  const wanted = words.trim();
  if (!/^\d+$/.test(wanted)) return null;
  const index = Number(wanted);
  const position = testAt.get(index);
  const here = position !== undefined && position < explained;
  return !here && index < run.m ? index : null;
}

function filterName(filter) {
  if (filter.kind === "cell") return `label ${className(filter.label)}, model says ${className(filter.predicted)}`;
  if (filter.kind === "explained") return `explained as ${className(filter.label)}`;
  if (filter.kind === "class") return `label ${className(filter.label)}`;
  const { label, helper, method } = filter;
  return `explained as ${className(label)}, helped by a ${className(helper)} by ${methodTitle(method)}`;
}

// Chips for what there is: [[filter, text, how many]].
function chipsOffered() {
  const offered = [
    ["all", "All"],
    ["wrong", "Wrong"],
    ["right", "Right"],
    ["unsure", `Unsure < ${100 * UNSURE}%`],
    ["sure", `Wrong but sure > ${100 * SURE}%`],
    ["high", "Too high"],
    ["low", "Too low"],
    ["far", "Furthest off"],
  ];
  const numbersOnly = new Set(["high", "low", "far"]);
  return offered
    .filter(([kind]) => kind === "all" || numbersOnly.has(kind) === (run.kind === "numbers"))
    .map(([kind, text]) => [{ kind }, text, inputPositions().filter((input) => passes(input, { kind })).length])
    .filter(([{ kind }, , many]) => kind === "all" || many > 0);
}
