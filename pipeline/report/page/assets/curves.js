// Curves and clouds of points.

const DASHES = { if: null, ell: null, theta: "6 4", nearest: "2 3", other: "8 3 2 3" };

function powersOfTen(from, to) {
  const powers = [];
  for (let power = Math.ceil(from - 1e-9); power <= to + 1e-9; power++) powers.push(power);
  return powers;
}

// Where each curve's name goes: in the margin, beside its end's height, and never on another name.
function spread(places, least) {
  const sorted = places.map((place, number) => [place, number]).sort(([a], [b]) => a - b);
  for (let next = 1; next < sorted.length; next++) {
    sorted[next][0] = Math.max(sorted[next][0], sorted[next - 1][0] + least);
  }
  const spaced = [];
  for (const [place, number] of sorted) spaced[number] = place;
  return spaced;
}

// How many examples it takes to reach which share of the inputs.
function reachCurves({ curves, half }, label) {
  const methods = Object.keys(curves).filter((method) => curves[method].length > 1);
  const ends = methods.map((method) => curves[method].at(-1));
  const most = Math.max(...ends.map(([examples]) => examples), 10);
  const top = Math.min(1, Math.ceil(10 * Math.max(...ends.map(([, part]) => part), 0.5)) / 10);
  return (width) => {
    const height = Math.min(300, Math.max(220, width * 0.5));
    const box = { left: 40, right: width - 92, top: 12, bottom: height - 40 };
    const x = (examples) => box.left + ((box.right - box.left) * Math.log10(Math.max(1, examples))) / Math.log10(most);
    const y = (part) => box.bottom - ((box.bottom - box.top) * part) / top;
    return drawing(
      width,
      height,
      label,
      shareAxis(box, y, top),
      powersOfTen(0, Math.log10(most)).map((power) =>
        written(x(10 ** power), box.bottom + 18, count(10 ** power), { "text-anchor": "middle" }),
      ),
      written((box.left + box.right) / 2, height - 4, nounOf(page.train)[1], { "text-anchor": "middle" }),
      methods.map((method) => curve(method, curves[method], x, y)),
      curveNames(methods, ends, y, box),
      halfMarks(methods, { half: half ?? {}, curves }, x, y),
    );
  };
}

function shareAxis(box, y, top) {
  const shares = [0, 0.2, 0.4, 0.6, 0.8, 1].filter((part) => part <= top + 1e-9);
  return shares.map((part) => [
    line(box.left, y(part), box.right, y(part), { class: "rule" }),
    written(box.left - 8, y(part) + 4, `${Math.round(100 * part)}%`, { "text-anchor": "end" }),
  ]);
}

function curve(method, points, x, y) {
  const path = points.map(([examples, part], place) => `${place ? "L" : "M"}${x(examples).toFixed(1)} ${y(part).toFixed(1)}`);
  const dashes = DASHES[methodNamed.get(method)?.color ?? "other"];
  return svg("path", { class: `curve ${methodColor(method)}`, d: path.join(""), "stroke-dasharray": dashes });
}

function curveNames(methods, ends, y, box) {
  const heights = spread(
    ends.map(([, part]) => Math.max(12, y(part) + 4)),
    15,
  );
  return methods.map((method, number) => {
    const [height, left] = [heights[number], box.right + 8];
    const dashes = DASHES[methodNamed.get(method)?.color ?? "other"];
    const sample = svg("path", { class: "curve", d: `M${left} ${height - 4}H${left + 16}`, "stroke-dasharray": dashes });
    return svg("g", { class: methodColor(method) }, sample, written(left + 21, height, methodTitle(method), { class: "curve-name" }));
  });
}

// The share that a curve, drawn over powers of ten, has reached with so many examples.
function shareOn(points, examples) {
  const after = points.findIndex(([many]) => many >= examples);
  if (after <= 0) return points.at(after)[1];
  const [[from, low], [to, high]] = [points[after - 1], points[after]];
  return low + ((high - low) * Math.log(examples / Math.max(1, from))) / Math.log(to / Math.max(1, from));
}

function halfMarks(methods, { half, curves }, x, y) {
  const marked = methods.filter((method) => half[method]);
  const first = marked[0];
  const last = marked.reduce((best, method) => (half[method] > (half[best] ?? 0) ? method : best), first);
  return [...new Set([first, last])].filter(Boolean).map((method) => {
    const [cx, cy] = [x(half[method]), y(shareOn(curves[method], half[method]))];
    const before = method === first && first !== last;
    const place = { "text-anchor": before ? "end" : "start", class: "strong" };
    return svg(
      "g",
      { class: methodColor(method) },
      svg("circle", { class: "dot", cx, cy, r: 5 }),
      written(before ? cx - 10 : cx + 9, before ? cy - 4 : cy + 14, count(half[method]), place),
    );
  });
}

// Left out one by one: what was predicted against what came. A scale that is linear near 0, logarithmic further out.
function leftOutCloud(points, unit, label) {
  const all = points.flat().filter((value) => !missing(value));
  const most = Math.max(...all.map(Math.abs), 1e-30);
  const near = Math.max(median(all.map(Math.abs)) / 10, most * 1e-6);
  const bent = (value) => Math.asinh(value / near);
  const [low, high] = [Math.min(0, ...all.map(bent)), Math.max(0, ...all.map(bent))];
  return (width) => {
    const height = Math.min(340, Math.max(240, width * 0.62));
    const box = { left: 66, right: width - 12, top: 26, bottom: height - 42 };
    const x = (value) => box.left + ((box.right - box.left) * (bent(value) - low)) / (high - low || 1);
    const y = (value) => box.bottom - ((box.bottom - box.top) * (bent(value) - low)) / (high - low || 1);
    const ends = [Math.sinh(low) * near, Math.sinh(high) * near];
    return drawing(
      width,
      height,
      label,
      cloudAxes(near, ends, unit, { x, y, box }),
      line(x(ends[0]), y(ends[0]), x(ends[1]), y(ends[1]), { class: "axis" }),
      points.map(([first, , came]) => svg("circle", { class: "point first", cx: x(first), cy: y(came), r: 3 })),
      points.map(([, corrected, came]) =>
        missing(corrected) ? null : svg("circle", { class: "point corrected", cx: x(corrected), cy: y(came), r: 3 }),
      ),
      written(box.left - 58, 12, "retrained ↑"),
      written(box.right, height - 4, "predicted →", { "text-anchor": "end" }),
    );
  };
}

function cloudAxes(near, [low, high], unit, { x, y, box }) {
  const powers = powersOfTen(Math.log10(near * 3), Math.log10(Math.max(high, -low, near * 3)));
  const kept = powers.filter((_, place) => (powers.length - 1 - place) % Math.ceil(powers.length / 3) === 0);
  const values = [0, ...kept.flatMap((power) => [10 ** power, -(10 ** power)])].filter((v) => v >= low && v <= high);
  const name = (value) => (value === 0 ? "0" : si(value, unit));
  return values.map((value) => [
    line(box.left, y(value), box.right, y(value), { class: "rule" }),
    line(x(value), box.top, x(value), box.bottom, { class: "rule" }),
    written(box.left - 8, y(value) + 4, name(value), { "text-anchor": "end" }),
    written(x(value), box.bottom + 18, name(value), { "text-anchor": "middle" }),
  ]);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : 0;
}
