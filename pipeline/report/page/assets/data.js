// The page's data, and what follows from it. A position is a place in the columns of `train` or `test`.

const page = JSON.parse(document.getElementById("page-data").textContent);
const run = page.run ?? {};
const NEAREST = "nearest_neighbour";

function placesOf(column) {
  return new Map((column ?? []).map((index, position) => [index, position]));
}

const trainAt = placesOf(page.train?.index);
const testAt = placesOf(page.test?.index);
const explained = page.explanations?.length ?? 0;
const single = explained === 1 && !page.labels && !page.story;

const methodNamed = new Map((run.methods ?? []).map((method) => [method.name, method]));

// What the reader switches between: what was scored, but for the neighbours and for influence with its sign turned.
const switched = (run.methods ?? []).filter(({ name }) => name !== NEAREST && name !== "negative_influence");
const withNearest = methodNamed.has(NEAREST);

// Short names, with the letters of the paper.
const TITLES = { theta_relatif: "θ-RelatIF", l_relatif: "ℓ-RelatIF", nearest_neighbour: "nearest", negative_influence: "harms by IF" };

function methodTitle(name) {
  return TITLES[name] ?? methodNamed.get(name)?.title ?? name.replaceAll("_", " ");
}

// A class of the style sheet that sets --method and --method-text.
function methodColor(name) {
  return `by-${methodNamed.get(name)?.color ?? "other"}`;
}

function className(number) {
  return missing(number) ? NONE : String(run.classes?.[number] ?? number);
}

function classNumber(name) {
  const wanted = name.trim().toLowerCase();
  const found = (run.classes ?? []).findIndex((known) => String(known).toLowerCase() === wanted);
  return found >= 0 ? found : null;
}

// A label or answer in words: a class's name, or a number.
function answer(value) {
  return run.kind === "classes" ? className(value) : number(value);
}

function at(column, position) {
  return column ? (column[position] ?? null) : null;
}

function isWrong(table, position) {
  const label = at(table.label, position);
  const predicted = at(table.predicted, position);
  return run.kind === "classes" && !missing(label) && !missing(predicted) && label >= 0 && label !== predicted;
}

// How sure the model is of its answer; known where the answer is what was explained.
function confidence(position) {
  const { predicted, explained: label, probability } = page.test;
  return at(predicted, position) === at(label, position) ? at(probability, position) : null;
}

function residual(table, position) {
  const label = at(table.label, position);
  const predicted = at(table.predicted, position);
  return run.kind !== "numbers" || missing(label) || missing(predicted) ? null : predicted - label;
}

// The page holds so many letters of a text.
const LONGEST_TEXT = 500;
const LONGEST_NAME = 48;

// The user's own identifier of an example, but where it is the text that is shown anyway, perhaps without its accents.
function idOf(table, position) {
  const id = at(table.id, position);
  const text = at(table.text, position);
  if (missing(id)) return null;
  return !missing(text) && unaccented(String(id)).slice(0, LONGEST_TEXT) === unaccented(text) ? null : String(id);
}

function unaccented(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "");
}

// What an example is called: by its identifier, else by its index.
function nameOf(table, position) {
  const index = at(table.index, position);
  if (missing(index)) return String(at(table.id, position) ?? "given input");
  return shortened(idOf(table, position) ?? String(index), LONGEST_NAME);
}

// The index of an example that is called otherwise: commands and tables ask for it.
function indexBeside(table, position) {
  const index = at(table.index, position);
  return missing(index) || nameOf(table, position) === String(index) ? null : index;
}

function inputLink(position) {
  const index = at(page.test.index, position);
  return missing(index) ? "" : `#q=${index}`;
}

function nounOf(table) {
  const nouns = run.noun ?? { train: ["training example", "training examples"], test: ["input", "inputs"] };
  return table === page.train ? nouns.train : nouns.test;
}

// How often a training example would stand in a top k if all examples did so equally often, times 20.
const oftenFrom = Math.max(2, (20 * (run.k ?? 0) * (run.m ?? 0)) / Math.max(1, run.n ?? 1));

function fanOf(method, position) {
  return at(page.train.fan?.[method], position);
}

function explanation(position, method) {
  return page.explanations[position]?.methods?.[method] ?? null;
}

const harmedBy = new Map();

// In how many of the page's own inputs each training example is listed as harmful.
function harmsOnPage(method) {
  if (harmedBy.has(method)) return harmedBy.get(method);
  const counts = new Map();
  for (const { methods } of page.explanations) {
    for (const position of methods[method]?.harms?.train ?? []) counts.set(position, (counts.get(position) ?? 0) + 1);
  }
  harmedBy.set(method, counts);
  return counts;
}

// The command that explains what is not on the page.
function commandFor(index, part) {
  const command = (run.explain ?? "").replace("{index}", String(index));
  return part === "train" ? command.replace("--test-index", "--train-index") : command;
}
