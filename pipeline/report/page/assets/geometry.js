// Why the methods choose others: each training example by how far its gradient goes along the input's, and by their angle.

const FIRST_METHODS = ["influence", "l_relatif"];

function geometryPanel(clouds) {
  const [upper, right] = FIRST_METHODS.map(methodTitle);
  const body = el("div", { class: "panel-body geometry" });
  const show = (cloud) => fill(body, geometryBody(cloud));
  const about =
    `Each point is one of the ${nounOf(page.train)[1]}. Up: how far its gradient reaches along the input’s, which is what ${upper} ranks by. ` +
    `To the right: the cosine of the two, which is what ${right} ranks by.`;
  show(clouds[0]);
  const picker = clouds.length > 1 ? cloudChoice(clouds, show) : null;
  return [panelHead(`${upper} takes the highest, ${right} those furthest to the right`, about, picker), body];
}

function cloudChoice(clouds, show) {
  const shown = ({ test }) => (run.media === "image" && sheets ? glimpse(page.test, test, 28) : shortened(at(page.test.text, test) ?? nameOf(page.test, test), 16));
  const named = (cloud) => ({ "aria-label": `${capital(nounOf(page.test)[0])} ${nameOf(page.test, cloud.test)}` });
  const made = choice("Input", clouds.map((cloud) => [cloud, shown(cloud)]), clouds[0], show, named);
  made.classList.add("of-inputs");
  return made;
}

function geometryBody(cloud) {
  const sentence = geometrySentence(cloud);
  const label = `Projection of the gradients of ${cloud.points.length} training examples on that of ${nounOf(page.test)[0]} ${nameOf(page.test, cloud.test)} against their cosine. ${sentence}`;
  return [
    el("p", { class: "geometry-says" }, sentence),
    chart(el("div", { class: "chart" }), geometryCloud(cloud, label)),
    el("div", { class: "geometry-first" }, FIRST_METHODS.map((method) => cloudFirst(method, cloud.first[method].train))),
    el("p", { class: "note" }, geometryNote(cloud)),
  ];
}

function geometryNote(cloud) {
  const all = run.n ?? cloud.points.length;
  const drawn = cloud.points.length < all ? `${count(cloud.points.length)} of ${plural(all, nounOf(page.train))}, drawn at random, and those first named` : `All ${plural(all, nounOf(page.train))}`;
  return `${drawn}. Gradients are measured through the inverse of the curvature. Height by a scale that is linear near 0 and logarithmic further out. The paper’s Fig. 2.`;
}

function cloudFirst(method, positions) {
  return el(
    "div",
    { class: methodColor(method) },
    el("h4", null, cloudSign(method), el("b", { class: "in-color" }, methodTitle(method)), ` names first`),
    el("div", { class: "strip" }, positions.map((position) => glimpseButton(page.train, position, 28))),
  );
}

function cloudSign(method) {
  return svg("svg", { class: "cloud-sign", width: 14, height: 14, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, cloudMark(method, 0, 0));
}

// Triangles point up for the highest, diamonds for the nearest in angle: told apart without colour, and on one another.
function cloudMark(method, x, y) {
  const path = method === "influence" ? "M0 -4.6L4.2 3.2H-4.2Z" : "M0 -7.2L7.2 0L0 7.2L-7.2 0Z";
  return svg("path", { class: `cloud-mark ${methodColor(method)}`, d: path, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` });
}

// What one sees, in numbers: cosines of either method's first, and how long IF's gradients are.
function geometrySentence({ points, first }) {
  const [upper, right] = FIRST_METHODS.map((method) => first[method].points);
  const usual = median(points.map(gradientLength));
  const times = median(upper.map(gradientLength)) / (usual || 1);
  const longer = times >= 2 ? `, but gradients ${rough(times)} times as long as the typical one` : "";
  const reach = median(upper.map(projected)) / (median(right.map(projected)) || 1);
  const farther = reach >= 1.5 ? `, though they reach ${rough(reach)} times less far` : "";
  return `${methodTitle("influence")}’s first have cosines ${cosineRange(upper)}${longer}. ${methodTitle("l_relatif")}’s have cosines ${cosineRange(right)}${farther}.`;
}

// Two digits: how many times as much is no finer question.
function rough(value) {
  return value >= 10 ? count(Number(value.toPrecision(2))) : value.toPrecision(2);
}

function projected([, projection]) {
  return projection;
}

function gradientLength([cosine, projection]) {
  return cosine ? Math.abs(projection / cosine) : 0;
}

function cosineRange(points) {
  const cosines = points.map(([cosine]) => cosine);
  const [low, high] = [Math.min(...cosines), Math.max(...cosines)].map((value) => value.toFixed(2).replace("-", MINUS));
  return low === high ? `of ${low}` : `from ${low} to ${high}`;
}

function geometryCloud({ points, first }, label) {
  const marked = FIRST_METHODS.flatMap((method) => first[method].points);
  const all = [...points, ...marked];
  const heights = all.map(projected);
  const near = Math.max(median(heights.map(Math.abs)), Math.max(...heights.map(Math.abs)) * 1e-6, 1e-30);
  const bent = (value) => Math.asinh(value / near);
  const reach = 1.06 * Math.max(...heights.map((value) => Math.abs(bent(value))));
  const [low, high] = [Math.min(-0.1 * reach, ...heights.map((value) => 1.06 * bent(value))), reach];
  return (width) => {
    const height = Math.min(360, Math.max(260, width * 0.62));
    const box = { left: 62, right: width - 14, top: 30, bottom: height - 44 };
    const x = (cosine) => box.left + ((box.right - box.left) * (cosine + 1)) / 2;
    const y = (value) => box.bottom - ((box.bottom - box.top) * (bent(value) - low)) / (high - low || 1);
    const ends = [Math.sinh(low) * near, Math.sinh(high) * near];
    return drawing(
      width,
      height,
      label,
      geometryAxes(near, ends, { x, y, box }),
      points.map(([cosine, value]) => svg("circle", { class: "cloud-point", cx: x(cosine).toFixed(1), cy: y(value).toFixed(1), r: 2 })),
      // The smaller marks last, so that both are seen where two methods name one example.
      [...FIRST_METHODS].reverse().map((method) => first[method].points.map(([cosine, value]) => cloudMark(method, x(cosine), y(value)))),
    );
  };
}

// A power of ten or a half without the zeros behind it.
function tickWords(value) {
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e5) ? power(value) : size.toLocaleString("en-US").replace(/^/, value < 0 ? MINUS : "");
}

function geometryAxes(near, [low, high], { x, y, box }) {
  const most = Math.max(high, -low);
  const powers = powersOfTen(Math.log10(near * 3), Math.log10(Math.max(most, near * 3)));
  const kept = powers.filter((_, place) => (powers.length - 1 - place) % Math.ceil(powers.length / 3) === 0);
  // Within one power of ten a single round number tells the scale.
  const sizes = kept.length ? kept.map((power) => 10 ** power) : [Number((most / 2).toPrecision(1))];
  const values = [0, ...sizes.flatMap((size) => [size, -size])].filter((value) => value >= low && value <= high);
  return [
    values.map((value) => [
      line(box.left, y(value), box.right, y(value), { class: value ? "rule" : "axis" }),
      written(box.left - 8, y(value) + 4, tickWords(value), { "text-anchor": "end" }),
    ]),
    [-1, -0.5, 0, 0.5, 1].map((cosine) => [
      line(x(cosine), box.top, x(cosine), box.bottom, { class: cosine ? "rule" : "axis" }),
      written(x(cosine), box.bottom + 18, tickWords(cosine), { "text-anchor": "middle" }),
    ]),
    written(box.left - 54, 12, "projection ↑"),
    written(box.right, box.bottom + 36, "cosine →", { "text-anchor": "end" }),
  ];
}
