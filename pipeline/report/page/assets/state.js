// What the reader chose. Whoever draws it asks to be told of changes.

const state = {
  input: 0, // position of the input that is shown; null where an index was asked for that is not on the page
  absent: null, // that index
  method: switched.find(({ color }) => color === "ell")?.name ?? switched[0]?.name ?? NEAREST,
  filter: { kind: "all" },
  words: "",
  column: "helps",
  long: false, // whether all ranks are shown or the first ten
  section: null, // name of the section on screen
};

const told = { input: [], method: [], filter: [] };

function onChange(what, listener) {
  told[what].push(listener);
}

function change(what, values) {
  Object.assign(state, values);
  for (const listener of told[what]) listener();
}

function goToInput(position, { scroll = true, keep = true } = {}) {
  closeDrawer();
  change("input", { input: position, absent: null });
  if (keep) keepHash(inputLink(position));
  if (scroll) showSection("inputs");
}

function askForInput(index) {
  const position = testAt.get(index);
  if (position !== undefined && position < explained) goToInput(position, { keep: false });
  else {
    change("input", { input: null, absent: index });
    showSection("inputs");
  }
}

function filterInputs(filter) {
  change("filter", { filter, words: "" });
  const first = listed()[0];
  if (first !== undefined) goToInput(first);
}

function chooseMethod(name) {
  change("method", { method: name });
  announce(`Sorted by ${methodTitle(name)}`);
}
