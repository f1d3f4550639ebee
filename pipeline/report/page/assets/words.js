// Numbers as people read them. A missing number is a dash.

const NONE = "–";
const MINUS = "−";
const PREFIXES = [
  [1, ""],
  [1e-3, "m"],
  [1e-6, "µ"],
  [1e-9, "n"],
  [1e-12, "p"],
];

function missing(value) {
  return value === null || value === undefined || Number.isNaN(value);
}

function count(value) {
  return missing(value) ? NONE : Math.round(value).toLocaleString("en-US").replace("-", MINUS);
}

// Three significant digits: 0.0478, 5.23, 1,200, 3.1 × 10⁻⁷.
function number(value) {
  if (missing(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-4 || size >= 1e7) return power(value);
  if (size >= 1000) return count(value);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toFixed(Math.min(digits, 6)).replace("-", MINUS);
}

function power(value) {
  const [digits, exponent] = value.toExponential(1).split("e");
  return `${digits.replace("-", MINUS)} × 10${raised(Number(exponent))}`;
}

function raised(exponent) {
  const signs = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  return Array.from(String(exponent), (sign) => signs[sign]).join("");
}

// A number with its sign, always.
function signed(value, written = number) {
  if (missing(value)) return NONE;
  return value > 0 ? `+${written(value)}` : written(value);
}

function prefixFor(size) {
  return PREFIXES.find(([least]) => size >= 0.9995 * least) ?? PREFIXES[0];
}

// An effect in its unit: +87 µnat. Other units than nats have no prefix.
function si(value, unit) {
  return inPrefix(value, unit, prefixFor(Math.abs(value ?? 0)));
}

function inPrefix(value, unit, [scale, prefix], digits = digitsFor([value], [scale])) {
  if (missing(value)) return NONE;
  if (unit !== "nat" && unit !== "nats") return `${number(value)} ${unit}`;
  if (value === 0) return `0 ${prefix}nat`;
  const shown = (Math.abs(value) / scale).toFixed(digits);
  // What these digits would show as 0 has a unit of its own.
  if (Number(shown) === 0 && scale > PREFIXES.at(-1)[0]) return si(value, unit);
  return `${value < 0 && Number(shown) ? MINUS : ""}${shown} ${prefix}nat`;
}

// Digits behind the point with which even the smallest of some values is told from 0, by one digit at least.
function digitsFor(values, [scale]) {
  const shown = Math.min(...values.map((value) => Math.abs(value ?? 0) / scale).filter((size) => size >= 0.00005));
  if (shown < 0.0095) return 4;
  return shown < 0.095 ? 2 : shown < 9.95 ? 1 : 0;
}

// A number with so many digits behind the point; what rounds to 0 has no sign.
function fixed(value, digits) {
  const shown = value.toFixed(digits);
  return Number(shown) === 0 ? shown.replace("-", "") : shown.replace("-", MINUS);
}

// A share as people say it: never a false 0% or 100%.
function percent(share) {
  if (missing(share)) return NONE;
  if (share > 0 && share < 0.01) return "< 1%";
  if (share < 1 && share > 0.99) return "> 99%";
  return `${Math.round(100 * share)}%`;
}

function finePercent(share) {
  if (missing(share)) return NONE;
  const shown = 100 * share;
  return shown > 0 && shown < 9.95 ? `${shown.toFixed(1)}%` : `${Math.round(shown)}%`;
}

function ordinal(value) {
  const tens = value % 100;
  const ending = tens > 10 && tens < 14 ? "th" : ({ 1: "st", 2: "nd", 3: "rd" }[value % 10] ?? "th");
  return count(value) + ending;
}

function plural(value, [one, many]) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function shortened(text, length) {
  const signs = Array.from(text);
  return signs.length > length ? signs.slice(0, length - 1).join("").trimEnd() + "…" : text;
}
