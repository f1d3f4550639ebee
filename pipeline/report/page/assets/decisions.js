// What the reader decided about labels: kept in this browser where it may, as CSV in the user's ids, and read back.

const HEAD = ["train_index", "train_id", "label", "decision", "new_label"];
const DECISIONS = ["keep", "change", "exclude", "later"];

const decisions = {
  made: new Map(), // training index -> {decision, new_label: class's name or ""}
  others: [], // records of a file that are about examples not in this page's queue
  before: [], // [training index, what was decided before], for undo
  unsaved: false,
  kept: true, // whether the browser keeps them across a reload
};

// Decisions belong to the run's data, model and code.
const KEPT_AS = `relatif decisions ${(run.digests ?? []).map(({ digest }) => digest).join(" ")}`;

function keepDecisions() {
  try {
    localStorage.setItem(KEPT_AS, decisionsCsv());
    decisions.kept = true;
  } catch {
    // A browser that keeps nothing of a file: the download is there.
    decisions.kept = false;
  }
  decisions.unsaved = !decisions.kept;
}

// Take up what was decided before. What isn't about this page's examples is left alone.
function takeUpKept() {
  try {
    const text = localStorage.getItem(KEPT_AS);
    if (text) readDecisions(text);
  } catch {
    decisions.kept = storageWorks();
  }
}

function storageWorks() {
  try {
    localStorage.getItem(KEPT_AS);
    return true;
  } catch {
    return false;
  }
}

function decide(index, decision, newLabel) {
  decisions.before.push([index, decisions.made.get(index) ?? null]);
  decisions.made.set(index, { decision, new_label: newLabel ?? "" });
  keepDecisions();
}

// Take the last decision back; returns the training index that it was about, null where there is none.
function undoDecision() {
  const last = decisions.before.pop();
  if (!last) return null;
  const [index, before] = last;
  if (before) decisions.made.set(index, before);
  else decisions.made.delete(index);
  keepDecisions();
  return index;
}

function tally() {
  const counts = Object.fromEntries(DECISIONS.map((decision) => [decision, 0]));
  for (const { decision } of decisions.made.values()) counts[decision] += 1;
  return counts;
}

// The decisions as CSV (RFC 4180), in the order of the queue.
function decisionsCsv() {
  const queue = page.labels.rows.map(({ train }) => train);
  const own = queue
    .filter((position) => decisions.made.has(page.train.index[position]))
    .map((position) => {
      const index = page.train.index[position];
      const { decision, new_label: newLabel } = decisions.made.get(index);
      return [index, at(page.train.id, position) ?? "", labelName(position), decision, newLabel];
    });
  return [HEAD, ...own, ...decisions.others].map((record) => record.map(csvField).join(",") + "\r\n").join("");
}

function labelName(position) {
  const label = at(page.train.label, position);
  if (missing(label)) return "";
  return run.kind === "classes" ? className(label) : String(label);
}

function csvField(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Records of a CSV text: quoted fields may hold commas, quotes (doubled) and ends of lines.
function csvRecords(text) {
  const records = [];
  let [record, field, quoted, begun] = [[], "", false, false];
  const endField = () => {
    record.push(field);
    [field, begun] = ["", false];
  };
  const endRecord = () => {
    if (begun || field || record.length) {
      endField();
      records.push(record);
    }
    record = [];
  };
  const signs = text.replace(/^\uFEFF/, "");
  for (let place = 0; place < signs.length; place++) {
    const sign = signs[place];
    if (quoted && sign === '"' && signs[place + 1] === '"') field += signs[++place];
    else if (sign === '"' && (quoted || !field)) [quoted, begun] = [!quoted, true];
    else if (quoted) field += sign;
    else if (sign === ",") {
      endField();
      begun = true;
    } else if (sign === "\n") endRecord();
    else if (sign !== "\r") field += sign;
  }
  endRecord();
  return records;
}

// Take up decisions from a file's text. Returns what was taken, or throws an Error that says what is wrong with it.
function readDecisions(text) {
  const [head, ...records] = csvRecords(text);
  if (!head || HEAD.some((name, place) => head[place] !== name)) {
    throw new Error(`expected the columns ${HEAD.join(", ")}, found ${head ? head.join(", ") : "an empty file"}`);
  }
  const queue = new Map(page.labels.rows.map(({ train }) => [String(page.train.index[train]), train]));
  records.forEach((record, number) => checkRecord(record, number + 2, queue));
  const others = records.filter(([index]) => !queue.has(index));
  const own = records.filter(([index]) => queue.has(index));
  decisions.others = others;
  decisions.before = [];
  for (const [index, , , decision, newLabel] of own) decisions.made.set(Number(index), { decision, new_label: newLabel });
  keepDecisions();
  return { own: own.length, others: others.length };
}

function checkRecord(record, lineNumber, queue) {
  const [index, id, label, decision, newLabel] = record;
  const wrong = (expected, found) => {
    throw new Error(`line ${lineNumber}: expected ${expected}, found ${found}`);
  };
  if (record.length !== HEAD.length) wrong(`${HEAD.length} fields`, record.length);
  if (!/^\d+$/.test(index)) wrong("a row number as train_index", index || "nothing");
  if (!DECISIONS.includes(decision)) wrong(DECISIONS.join(", "), decision || "nothing");
  if (decision === "change" && !newLabel) wrong("a new_label for a change", "nothing");
  if (decision === "change" && run.kind === "classes" && run.classes && classNumber(newLabel) === null) wrong("a class", newLabel);
  const position = queue.get(index);
  if (position === undefined) return;
  const known = String(at(page.train.id, position) ?? "");
  if (id !== known) wrong(`the id ${known || "(none)"} for row ${index}`, id || "none: it is another data set’s file");
  if (label !== labelName(position)) wrong(`the label ${labelName(position)} for row ${index}`, `${label}: it is another data set’s file`);
}
