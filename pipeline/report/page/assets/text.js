// Texts beside one another: what two share is marked. Single words, such as names, share runs of letters.

const WORD = /[\p{L}\p{N}]+/gu;
const COMMON = new Set(
  ("a an and are as at be but by for from had has have he her his i in is it its of on or she so that the their " +
    "them there they this to was we were which with you").split(" "),
);

function wordsOf(text) {
  return new Set((text.toLowerCase().match(WORD) ?? []).filter((word) => !COMMON.has(word)));
}

// Pieces of a text, [[piece, whether the other has it too], ...].
function shared(text, other) {
  const words = text.match(WORD) ?? [];
  return words.length <= 2 ? sharedRuns(text, other) : sharedWords(text, other);
}

function sharedWords(text, other) {
  const known = wordsOf(other);
  const pieces = [];
  let end = 0;
  for (const found of text.matchAll(WORD)) {
    pieces.push([text.slice(end, found.index), false]);
    pieces.push([found[0], known.has(found[0].toLowerCase())]);
    end = found.index + found[0].length;
  }
  pieces.push([text.slice(end), false]);
  return joined(pieces);
}

// Letters that stand in a run of three or more that the other text has too.
function sharedRuns(text, other) {
  const signs = Array.from(text);
  const low = signs.map((sign) => sign.toLowerCase());
  const within = other.toLowerCase();
  const marked = signs.map(() => false);
  for (let start = 0; start + 3 <= signs.length; start++) {
    if (within.includes(low.slice(start, start + 3).join(""))) marked.fill(true, start, start + 3);
  }
  return joined(signs.map((sign, place) => [sign, marked[place]]));
}

function joined(pieces) {
  const merged = [];
  for (const [piece, marked] of pieces) {
    if (!piece) continue;
    if (merged.length && merged.at(-1)[1] === marked) merged.at(-1)[0] += piece;
    else merged.push([piece, marked]);
  }
  return merged;
}

function markedText(text, other, length) {
  const shown = length ? shortened(text, length) : text;
  const pieces = other ? shared(shown, other) : [[shown, false]];
  return el("span", { class: "words" }, pieces.map(([piece, same]) => (same ? el("mark", null, piece) : piece)));
}

// A text by the part that each of its tokens has in a score: [[token, part], ...]; the parts carry the score's sign.
function weighedText(tokens) {
  const largest = Math.max(...tokens.map(([, part]) => Math.abs(part)), 1e-30);
  return el(
    "span",
    { class: "words weighed" },
    tokens.map(([token, part]) => weighed(token, part, Math.abs(part) / largest)),
  );
}

function weighed(token, part, share) {
  if (share < 0.05) return token;
  const side = part > 0 ? "helping" : "harming";
  return el("span", { class: side, title: signed(part), style: { "--share": `${Math.round(100 * share)}%` } }, token);
}
