// Elements. Text only ever becomes text nodes: nothing of the data is read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function el(tag, attributes, ...children) {
  return dressed(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return dressed(document.createElementNS(SVG, tag), attributes, children);
}

function dressed(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) dress(node, name, value);
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function dress(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "on") {
    for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
  } else if (name === "style") {
    for (const [property, wanted] of Object.entries(value)) node.style.setProperty(property, wanted);
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}

function fill(node, ...children) {
  node.replaceChildren();
  return dressed(node, null, children);
}

function button(text, press, attributes) {
  return el("button", { type: "button", class: "button", ...attributes, on: { click: press } }, text);
}

function key(name) {
  return el("kbd", { "aria-hidden": "true" }, name);
}

// A row of buttons of which one is pressed: [[value, text], ...]; `attributes(value)` adds to a button's own.
function choice(label, options, chosen, choose, attributes) {
  const group = el("div", { class: "choice", role: "group", "aria-label": label });
  for (const [value, text] of options) {
    const press = () => {
      for (const other of group.children) other.setAttribute("aria-pressed", other === made);
      choose(value);
    };
    const made = el(
      "button",
      { type: "button", "aria-pressed": String(value === chosen), ...(attributes?.(value) ?? {}), on: { click: press } },
      text,
    );
    group.append(made);
  }
  return group;
}

// Words for screen readers alone.
function unseen(text) {
  return el("span", { class: "unseen" }, text);
}

let announced = null;

// Tell a screen reader what changed.
function announce(text) {
  announced ??= document.body.appendChild(el("div", { class: "unseen", role: "status" }));
  announced.textContent = text;
}

// Draw a part when it is first about to be seen.
function whenSeen(node, draw) {
  const watcher = new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting)) now();
    },
    { rootMargin: "600px" },
  );
  let drawn = false;
  function now() {
    if (drawn) return;
    drawn = true;
    watcher.disconnect();
    draw();
  }
  watcher.observe(node);
  return now;
}

// Keep what the address says after "#"; a frame without an address of its own keeps none.
function keepHash(hash) {
  try {
    history.replaceState(null, "", hash || location.pathname + location.search);
  } catch {
    // Only the link is lost: the page itself works as before.
  }
}

function copyButton(text, label) {
  const made = button(label, async () => {
    const taken = await copied(text());
    made.textContent = taken ? "Copied" : "Copying isn’t allowed here";
    setTimeout(() => (made.textContent = label), 1600);
  });
  return made;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function saveFile(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
