// One training example, in a drawer over the page: a modal dialog, so that focus stays inside and returns when it closes.

const drawer = { dialog: null, body: null, opener: null };

function makeDrawer() {
  drawer.body = el("div", { class: "drawer-body", tabindex: "0", role: "region", "aria-label": "Details" });
  drawer.dialog = el(
    "dialog",
    {
      class: "drawer",
      "aria-labelledby": "drawer-title",
      on: { close: drawerClosed, click: (event) => event.target === drawer.dialog && drawer.dialog.close() },
    },
    button("✕", () => drawer.dialog.close(), { class: "close", "aria-label": "Close" }),
    drawer.body,
  );
  document.body.append(drawer.dialog);
}

function openTraining(position) {
  showInDrawer(trainingParts(position));
  keepHash(`#t=${page.train.index[position]}`);
}

function askForTraining(index) {
  const position = trainAt.get(index);
  if (position !== undefined) return openTraining(position);
  const command = commandFor(index, "train");
  return showInDrawer([
    el("h2", { id: "drawer-title" }, `${capital(nounOf(page.train)[0])} ${index} is not on this page.`),
    command ? el("p", null, "This command tells about it from the run:") : null,
    command ? el("code", { class: "command" }, command) : null,
    command ? copyButton(() => command, "Copy the command") : null,
  ]);
}

function showInDrawer(parts) {
  fill(drawer.body, parts);
  drawer.body.scrollTop = 0;
  if (!drawer.dialog.open) {
    drawer.opener = document.activeElement;
    drawer.dialog.showModal();
  }
}

function closeDrawer() {
  if (drawer.dialog?.open) drawer.dialog.close();
}

function drawerClosed() {
  drawer.opener?.focus?.({ preventScroll: true });
  drawer.opener = null;
  keepHash(state.input === null ? "" : inputLink(state.input));
}

function trainingParts(position) {
  return [
    trainingHead(position),
    run.media === "text" && page.train.text ? el("blockquote", { class: "input-text" }, markedText(at(page.train.text, position) ?? "")) : null,
    run.media === "row" ? wholeRow(at(page.train.row, position)) : null,
    onShownInput(position),
    selfInfluence(position),
    fanOut(position),
    explainedInputs(position),
  ];
}

function trainingHead(position) {
  const queued = labelPlaceOf(position);
  const index = indexBeside(page.train, position);
  return el(
    "div",
    { class: "drawer-head" },
    run.media === "image" ? glimpse(page.train, position, pixels(112, 84), { role: "img", "aria-label": `${nounOf(page.train)[0]} ${nameOf(page.train, position)}` }) : null,
    el(
      "div",
      null,
      el("h2", { id: "drawer-title" }, `${capital(nounOf(page.train)[0])} `, el("span", { class: "mono" }, nameOf(page.train, position))),
      missing(index) ? null : el("p", { class: "note" }, "index ", el("span", { class: "mono" }, String(index))),
      el("p", null, trainingSaying(position)),
      queued === null ? null : button("Look at this label", () => goToLabel(queued)),
    ),
  );
}

function trainingSaying(position) {
  const { label, predicted, probability, loss } = page.train;
  if (missing(at(label, position))) return missing(at(loss, position)) ? "" : `Loss ${number(at(loss, position))}`;
  const differs = isWrong(page.train, position) || run.kind === "numbers";
  const says = missing(at(predicted, position))
    ? null
    : differs
      ? [", model says ", tag(answer(at(predicted, position)), run.kind === "classes" ? "differs" : "")]
      : ", and so says the model";
  const chance = at(probability, position);
  return ["Label ", tag(answer(at(label, position))), says, missing(chance) ? "." : `, which gives the label ${percent(chance)}.`];
}

// What leaving it out changes of the input that is shown, where a list of the input has it.
function onShownInput(position) {
  const lists = Object.values(page.explanations[state.input]?.methods ?? {}).flatMap(({ helps, harms }) => [helps, harms]);
  for (const list of lists) {
    const rank = list ? list.train.indexOf(position) : -1;
    const first = rank < 0 ? null : at(list.effect, rank);
    if (!missing(first)) {
      return el("section", null, el("h3", null, "On the input that is shown"), el("p", null, `${effectWords(first, at(list.corrected, rank))}.`));
    }
  }
  return null;
}

function selfInfluence(position) {
  const value = at(page.train.self_influence, position);
  if (missing(value)) return null;
  const place = at(page.train.self_place, position);
  const standing = missing(place) ? "" : `, no. ${count(place)} of ${count(run.n)}`;
  const title = `Self-influence ${number(value)}${standing}`;
  return el(
    "section",
    null,
    el("h3", null, title),
    el("p", { class: "note" }, "How much it matters to its own prediction. High: an outlier, or a wrong label."),
    page.self_histogram ? chart(el("div", { class: "chart" }), placeHistogram(page.self_histogram, value, `${title}, among all`)) : null,
  );
}

function fanOut(position) {
  const methods = (run.methods ?? []).filter(({ name }) => !missing(fanOf(name, position)));
  if (!methods.length) return null;
  return el(
    "section",
    null,
    el("h3", null, `In how many explanations (top ${run.k} of ${count(run.m)})`),
    methodBars(methods.map(({ name }) => [name, fanOf(name, position)])),
    methods.map(({ name }) => servedClass(name, position)),
  );
}

// Whom a frequent example explains: mostly inputs of one class, and how large a share of that class.
function servedClass(method, position) {
  const [label, many] = page.served?.by?.[method]?.[position] ?? [];
  const all = page.served?.inputs?.[label];
  if (missing(label) || !all) return null;
  const inputs = run.kind === "classes" ? `inputs explained as “${className(label)}”` : "inputs";
  const fan = fanOf(method, position);
  const these = many === fan ? `all ${count(fan)}` : `${count(many)} of these ${count(fan)}`;
  return el("p", { class: "note" }, `By ${methodTitle(method)} ${these} are ${inputs}: it explains ${finePercent(many / all)} of all ${count(all)} such inputs.`);
}

function explainedInputs(position) {
  const parts = (run.methods ?? []).map(({ name }) => [name, page.reverse?.[name]?.[position] ?? []]);
  return parts
    .filter(([name, inputs]) => inputs.length || (name !== NEAREST && fanOf(name, position) > 0))
    .map(([name, inputs]) => {
      const all = fanOf(name, position);
      const many = missing(all) || all <= inputs.length ? count(inputs.length) : `${count(inputs.length)} of ${count(all)}`;
      return el(
        "section",
        { class: methodColor(name) },
        el("h3", null, `Inputs it explains by ${methodTitle(name)}`, el("span", { class: "about" }, ` ${many}, errors first`)),
        inputs.length
          ? el("div", { class: "strip wide" }, inputs.map(reverseInput))
          : el("p", { class: "note" }, "None of them is on this page."),
        missing(all) || all <= inputs.length || missing(at(page.train.index, position))
          ? null
          : el("p", { class: "note" }, `All ${count(all)} are in the run’s table top_k, at train_index ${at(page.train.index, position)}.`),
      );
    });
}

// An input that the page explains is a button; one that it only shows is a picture.
function reverseInput(input) {
  if (input < explained) return glimpseButton(page.test, input, 28);
  const label = `${capital(nounOf(page.test)[0])} ${nameOf(page.test, input)}, not explained on this page`;
  return glimpse(page.test, input, 28, { role: "img", "aria-label": label, title: label });
}
