// Charts are drawn to the width of what holds them, and anew when it changes: their text keeps its size.

function chart(holder, draw) {
  let drawnAt = 0;
  function fit() {
    const width = Math.floor(holder.clientWidth);
    if (width <= 0 || width === drawnAt) return;
    drawnAt = width;
    holder.replaceChildren(draw(width));
  }
  new ResizeObserver(fit).observe(holder);
  return holder;
}

function drawing(width, height, label, ...children) {
  const size = { width, height, viewBox: `0 0 ${width} ${height}` };
  const told = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  return svg("svg", { class: "drawing", ...size, ...told }, ...children);
}

function written(x, y, text, attributes) {
  return svg("text", { x, y, ...attributes }, text);
}

function line(x1, y1, x2, y2, attributes) {
  return svg("line", { x1, y1, x2, y2, ...attributes });
}

// Bars of counts, their heights by the logarithm, so that one example is still seen beside ten thousand.
function countBars({ counts }, width, height) {
  const most = Math.log1p(Math.max(...counts, 1));
  const step = width / counts.length;
  return counts.map((many, place) => {
    if (!many) return null;
    const tall = Math.max(2, (height * Math.log1p(many)) / most);
    const size = { width: Math.max(1, step - 1), height: tall };
    return svg("rect", { class: "column-bar", x: place * step + 0.5, y: height - tall, ...size });
  });
}

// All scores of one input, those that are shown ticked below: {low, high, counts}, ticks [[score, class], ...].
function scoreHistogram(histogram, ticks, label) {
  return (width) => {
    const [height, foot] = [76, 34];
    const { low, high } = histogram;
    const x = (score) => (width * (score - low)) / (high - low || 1);
    const zero = low < 0 && high > 0 ? x(0) : null;
    const clear = zero !== null && zero > 100 && zero < width - 100;
    return drawing(
      width,
      height + foot,
      label,
      countBars(histogram, width, height),
      zero === null ? null : line(zero, 0, zero, height + 10, { class: "axis" }),
      line(0, height + 0.5, width, height + 0.5, { class: "rule" }),
      ticks.map(([score, kind]) => {
        const place = Math.min(width - 1, Math.max(1, x(score)));
        return line(place, height + 3, place, height + 12, { class: `tick ${kind}` });
      }),
      written(0, height + 28, `harms ${number(low)}`),
      clear ? written(zero, height + 28, "0", { "text-anchor": "middle" }) : null,
      written(width, height + 28, `helps ${signed(high)}`, { "text-anchor": "end" }),
    );
  };
}

// Self-influence of all examples, by its logarithm, with the place of one.
function placeHistogram(histogram, value, label) {
  return (width) => {
    const [height, foot] = [60, 34];
    const { low, high } = histogram;
    const place = (Math.log10(Math.max(value, 1e-300)) - low) / (high - low || 1);
    const x = Math.min(width - 2, Math.max(2, width * place));
    return drawing(
      width,
      height + foot,
      label,
      countBars(histogram, width, height),
      line(x, 0, x, height + 4, { class: "pointer" }),
      svg("path", { class: "pointer-head", d: `M${x - 4} ${height + 11}h8l-4 -7z` }),
      written(0, height + 28, `10${raised(Math.round(low))}`),
      written(width, height + 28, `10${raised(Math.round(high))}`, { "text-anchor": "end" }),
    );
  };
}

// Bars beside one another, one for each method: [[method, value, text], ...].
function methodBars(values, { empty } = {}) {
  const most = Math.max(...values.map(([, value]) => value ?? 0), 1e-30);
  return el(
    "div",
    { class: "bars" },
    values.map(([method, value, text]) =>
      el(
        "div",
        { class: `bar-row ${methodColor(method)}` },
        el("span", { class: "bar-name" }, methodTitle(method)),
        el("span", { class: "bar-room" }, value ? el("span", { class: "bar", style: { "--share": share(value, most) } }) : null),
        el("span", { class: "bar-value" }, text ?? (missing(value) ? (empty ?? NONE) : count(value))),
      ),
    ),
  );
}

function share(value, most) {
  return `${missing(value) ? 0 : Math.round((1000 * Math.max(0, value)) / most) / 10}%`;
}
