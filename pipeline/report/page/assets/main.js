// The page put together: its sections, the way between them, what the address says after "#".

const SECTIONS = [
  ["story", page.story ? "Story" : "Run", storySection, true],
  ["inputs", single ? "Explanation" : "Inputs", inputsSection, explained > 0],
  ["labels", "Labels", labelsSection, (page.labels?.rows ?? []).length > 0],
  ["whole", "The whole", wholeSection, wholePanels().length > 0],
].filter(([, , , wanted]) => wanted);

// The answer comes first on a page of one input.
if (single) SECTIONS.reverse();

const drawNow = new Map();
const links = new Map();

function showSection(name) {
  const node = document.getElementById(name);
  if (!node) return;
  // What stands above takes its room first, or it would push the section away when it is drawn.
  for (const [section] of SECTIONS) {
    drawNow.get(section)();
    if (section === name) break;
  }
  const seen = node.getBoundingClientRect();
  const within = seen.top < 120 && seen.bottom > 200;
  if (!(within && state.section === name)) node.scrollIntoView({ block: "start" });
  markSection(name);
}

function markSection(name) {
  state.section = name;
  for (const [section, link] of links) {
    if (section === name) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function topBar() {
  const go = (name) => (event) => {
    event.preventDefault();
    keepHash(`#${name}`);
    const node = document.getElementById(name);
    showSection(name);
    node.scrollIntoView({ block: "start" });
    node.focus({ preventScroll: true });
  };
  for (const [name, title] of SECTIONS) links.set(name, el("a", { href: `#${name}`, on: { click: go(name) } }, title));
  return el(
    "header",
    { class: "top" },
    el(
      "div",
      { class: "wrap" },
      el("span", { class: "brand" }, el("b", null, "relatif"), el("span", { class: "task" }, run.title ?? "")),
      el("nav", { "aria-label": "Parts of the page" }, [...links.values()]),
      el("span", { class: "room" }),
      button(["Keys", key("?")], () => help.dialog.showModal(), { class: "plain keys-button", "aria-label": "Keys and signs" }),
      themeButton(),
    ),
  );
}

// The section whose part of the screen is uppermost is the one that keys are for.
function watchSections() {
  let asked = false;
  const look = () => {
    asked = false;
    const line = 140;
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const tops = SECTIONS.map(([name]) => [name, document.getElementById(name).getBoundingClientRect().top]);
    const above = tops.filter(([, top]) => top <= (atEnd ? innerHeight * 0.6 : line));
    markSection((above.at(-1) ?? tops[0])[0]);
  };
  addEventListener("scroll", () => {
    if (!asked) requestAnimationFrame(look);
    asked = true;
  }, { passive: true });
  look();
}

function followHash() {
  const [, name, index] = location.hash.match(/^#(q|t)=(\d+)$/) ?? [];
  if (name === "q") return askForInput(Number(index));
  if (name === "t") return askForTraining(Number(index));
  return showSection(location.hash.slice(1));
}

function start() {
  followTheme();
  layOutSheets();
  const body = el("main", { id: "content" });
  document.body.append(el("a", { class: "skip", href: "#content" }, "To the content"), topBar(), body);
  for (const [name, title, draw] of SECTIONS) {
    const node = el("section", { id: name, class: `part ${name} waiting`, tabindex: "-1", "aria-label": title });
    body.append(node);
    drawNow.set(name, whenSeen(node, () => {
      node.classList.remove("waiting");
      draw(node);
    }));
  }
  makeDrawer();
  makeHelp();
  watchSections();
  addEventListener("keydown", pressed);
  addEventListener("hashchange", followHash);
  addEventListener("beforeprint", () => {
    for (const draw of drawNow.values()) draw();
  });
  addEventListener("beforeunload", (event) => decisions.unsaved && event.preventDefault());
  drawNow.get(SECTIONS[0][0])();
  if (location.hash) followHash();
}

start();
