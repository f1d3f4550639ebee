// The list of inputs: a search field, chips, and a list that arrow keys walk through.

const browser = { list: null, none: null, count: null, chips: null, search: null, rows: new Map() };

function inputBrowser() {
  browser.search = el("input", {
    type: "search",
    class: "search",
    placeholder: run.kind === "classes" && run.classes ? searchHint() : "Index, id or text",
    "aria-label": "Search the inputs",
    autocomplete: "off",
    on: { input: typed, keydown: searchKeys },
  });
  browser.chips = el("div", { class: "chips", role: "group", "aria-label": "Which inputs are listed" });
  browser.list = listBox("Inputs", (position) => goToInput(position, { scroll: false }));
  browser.none = el("div", { class: "nothing", role: "status" });
  browser.count = el("p", { class: "list-count" });
  onChange("filter", drawBrowser);
  onChange("input", markInput);
  const made = el(
    "div",
    { class: "browser" },
    el("div", { class: "browser-head" }, browser.search, browser.chips, classPicker()),
    browser.list,
    browser.none,
    browser.count,
  );
  drawBrowser();
  return made;
}

function searchHint() {
  const [first, second] = run.classes;
  const pair = `${first}→${second ?? first}`;
  return pair.length > 12 ? "Index, id or text" : `Index, id, text, or ${pair}`;
}

function typed() {
  change("filter", { words: browser.search.value });
  const found = listed();
  const index = Number(browser.search.value);
  const exact = found.find((input) => browser.search.value.trim() && at(page.test.index, input) === index);
  const next = exact ?? (found.includes(state.input) ? state.input : found[0]);
  if (next !== undefined) goToInput(next, { scroll: false });
}

function searchKeys(event) {
  if (event.key === "Escape" || event.key === "Enter") {
    event.preventDefault();
    if (event.key === "Escape" && browser.search.value) {
      browser.search.value = "";
      typed();
    }
    leaveField(browser.search);
  } else if (event.key === "ArrowDown") {
    event.preventDefault();
    browser.list.focus();
  }
}

// Keys are the page's again; the list takes the focus where it is shown.
function leaveField(field) {
  field.blur();
  browser.list?.focus({ preventScroll: true });
}

function classPicker() {
  if (run.kind !== "classes" || !run.classes) return null;
  const present = [...new Set(inputPositions().map((input) => at(page.test.label, input)))].filter((label) => label >= 0);
  if (present.length < 2) return null;
  present.sort((a, b) => a - b);
  if (present.length <= FEW_CLASSES) {
    const chips = present.map((label) => [{ kind: "class", label }, className(label)]);
    const row = el("div", { class: "chips classes", role: "group", "aria-label": "Inputs of one class" });
    const draw = () => fill(row, chips.map(([filter, text]) => chip(filter, text)));
    onChange("filter", draw);
    draw();
    return row;
  }
  return classField("Class, such as " + className(present[0]), present, (label) => filterInputs({ kind: "class", label }));
}

// A field in which a class is typed, with the classes offered.
function classField(hint, labels, choose) {
  const id = `classes-${document.querySelectorAll("datalist").length}-${labels.length}`;
  const field = el("input", { class: "search", list: id, placeholder: hint, "aria-label": hint, autocomplete: "off" });
  field.addEventListener("keydown", ({ key: sign }) => sign === "Escape" && field.blur());
  field.addEventListener("change", () => {
    const label = classNumber(field.value);
    if (label === null) return;
    field.value = "";
    field.blur();
    choose(label);
  });
  const offered = labels.map((label) => el("option", { value: className(label) }));
  return el("div", { class: "class-field" }, field, el("datalist", { id }, offered));
}

function sameFilter(one, other) {
  const keys = ["kind", "label", "predicted", "helper", "method"];
  return keys.every((name) => one[name] === other[name]);
}

function chip(filter, text, many) {
  const pressed = sameFilter(filter, state.filter);
  return el(
    "button",
    {
      type: "button",
      class: "chip",
      "aria-pressed": String(pressed),
      on: { click: () => pickChip(pressed ? { kind: "all" } : filter) },
    },
    text,
    many === undefined ? null : el("span", { class: "many" }, ` ${count(many)}`),
  );
}

function pickChip(filter) {
  const kept = document.activeElement?.textContent;
  browser.search.value = "";
  filterInputs(filter);
  const chips = browser.list.closest(".browser").querySelectorAll(".chip");
  [...chips].find((made) => made.textContent === kept)?.focus({ preventScroll: true });
}

let offeredChips = null;

function drawBrowser() {
  offeredChips ??= chipsOffered();
  const known = ["class", ...Object.keys(FILTERS).slice(0, 8)].includes(state.filter.kind);
  const many = state.filter.kind === "class" && (run.classes?.length ?? 0) > FEW_CLASSES;
  const own = known && !many ? null : chip(state.filter, `${filterName(state.filter)} ×`);
  fill(browser.chips, offeredChips.map(([filter, text, found]) => chip(filter, text, found)), own);
  if (browser.search.value !== state.words) browser.search.value = state.words;
  const found = listed();
  browser.rows.clear();
  fill(browser.list, found.map(listRow));
  fill(browser.none, found.length ? null : nothingFound());
  const more = run.m > explained ? ` · ${count(run.m)} in the tables` : "";
  fill(browser.count, `${count(found.length)} of ${count(explained)} on this page${more}`);
  markInput();
}

function nothingFound() {
  const index = typedAbsent(state.words);
  const text = index === null ? "No input on this page fits." : `Input ${index} is not on this page.`;
  const show = index === null ? null : button("How to explain it", () => askForInput(index));
  return [el("p", null, text), show];
}

function listRow(input) {
  const sure = confidence(input);
  const off = residual(page.test, input);
  const facts = missing(off) ? (missing(sure) ? `loss ${number(at(page.test.loss, input))}` : percent(sure)) : signed(off);
  const named = run.media === "row" || run.media === "none";
  const row = el(
    "div",
    { class: `list-row ${run.media}`, role: "option", id: `input-${input}`, "aria-selected": "false", "data-position": input },
    glimpse(page.test, input, 28, { "aria-hidden": "true" }),
    run.kind === "numbers" ? tag(number(at(page.test.predicted, input))) : labelPair(page.test, input),
    el("span", { class: "list-facts" }, el("span", null, facts), named ? null : el("span", { class: "mono" }, nameOf(page.test, input))),
  );
  browser.rows.set(input, row);
  return row;
}

function markInput() {
  markRow(browser.list, browser.rows.get(state.input));
}

// A list box of rows that carry data-position: a click or the arrow keys choose.
function listBox(label, choose) {
  const box = el("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": label });
  box.addEventListener("click", (event) => {
    const row = event.target.closest("[data-position]");
    if (row) choose(Number(row.dataset.position));
  });
  return box;
}

function markRow(box, row) {
  for (const old of box.querySelectorAll("[aria-selected=true]")) old.setAttribute("aria-selected", "false");
  if (!row) return box.removeAttribute("aria-activedescendant");
  row.setAttribute("aria-selected", "true");
  box.setAttribute("aria-activedescendant", row.id);
  const [seen, wanted] = [box.getBoundingClientRect(), row.getBoundingClientRect()];
  if (wanted.top < seen.top) box.scrollTop -= seen.top - wanted.top;
  if (wanted.bottom > seen.bottom) box.scrollTop += wanted.bottom - seen.bottom;
  if (wanted.left < seen.left) box.scrollLeft -= seen.left - wanted.left;
  if (wanted.right > seen.right) box.scrollLeft += wanted.right - seen.right;
  return undefined;
}

// Go so many rows on in the list, or to its first where what is shown is not listed.
function stepInput(by) {
  const found = listed();
  const place = found.indexOf(state.input);
  const next = place < 0 ? found[0] : found[Math.min(found.length - 1, Math.max(0, place + by))];
  if (next !== undefined && next !== state.input) goToInput(next, { scroll: false });
}
