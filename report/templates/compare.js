"use strict";
// Comparison of two to four rows: their differences from the first one. Uses functions of site.js.

const sections = [...document.querySelectorAll("section[data-source]")];
const rowsOf = new Map(sections.map((section) => [section, JSON.parse(section.dataset.rows)]));
const allRows = [...new Set([...rowsOf.values()].flat())];
const choices = [1, 2, 3, 4].map((place) => {
  const options = ["", ...allRows].map((name) => make("option", { value: name, textContent: name || "–" }));
  return make("select", { ariaLabel: `Row ${place}`, oninput: compareRows }, ...options);
});
document.getElementById("choice").append(...choices);

const chosenRows = () => [...new Set(choices.map((choice) => choice.value).filter(Boolean))];

/** A value with the decimals that all pages print; a dash without a value. */
function number(value, unit) {
  if (!Number.isFinite(value)) return "–";
  return value.toFixed(unit === "mm" || unit === "%" || Math.abs(value) >= 100 ? 1 : unit === "m" ? 3 : 2);
}

function signed(value, unit) {
  if (!Number.isFinite(value)) return "–";
  const size = number(Math.abs(value), unit);
  const sign = value > 0 ? "+" : value < 0 ? "−" : "±";
  return sign + (value && !Number(size) ? Math.abs(value).toPrecision(2) : size);
}

/** A cell of a value, its interval if it has one, and words. */
function cell(board, print, [value, low, high], words = "", className = "") {
  const interval = make("span", { className: "ci" });
  if (high !== undefined) interval.append(` [${print(low, board.unit)}, ${print(high, board.unit)}]`);
  return make("td", { className: `r ${className}` }, print(value, board.unit), interval, words);
}

const valueCell = (board, row) =>
  cell(board, number, board.values[row] ?? [NaN], board.missing[row] ? ` ${board.missing[row]} missing` : "");

/** The paired difference of a row from the first one. */
function differenceCell(board, first, row) {
  const pair = board.pairs.find(([a, b]) => (a === row && b === first) || (a === first && b === row));
  if (!pair) return make("td", { className: "r none" }, row < 0 ? "–" : "not compared");
  let [a, , mean, low, high, verdict, reason] = pair;
  if (a === first) [mean, low, high, verdict] = [-mean, -high, -low, { better: "worse", worse: "better" }[verdict] ?? verdict];
  return cell(board, signed, [mean, low, high], ` ${verdict}${reason ? `: ${reason}` : ""}`, verdict);
}

/** A table with a column for each row, and one for the difference of each from the first. */
function tableOf(title, first, names, lines) {
  const heads = [first, names[0], ...names.slice(1).flatMap((name) => [name, `${name} − ${names[0]}`])];
  const columns = heads.map((text, k) => make("th", { scope: "col", className: k ? "r" : "" }, text));
  const body = make("tbody", {}, ...lines.map((cells) => make("tr", {}, ...cells)));
  for (const row of body.rows) heads.forEach((text, k) => (row.cells[k].dataset.label = text));
  const head = make("thead", {}, make("tr", {}, ...columns));
  const table = make("table", { className: "full pinned stack compared" }, make("caption", {}, title), head, body);
  return make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: title }, table);
}

/** Values by action or joint, and the differences of two values, which have no interval. */
function breakdown(board, kind, places) {
  return Object.entries(board.breakdowns[kind]).map(([name, values]) => {
    const [first, ...others] = places.map((row) => values[row] ?? NaN);
    const cellsOf = (value) => [cell(board, number, [value]), cell(board, signed, [value - first])];
    return [make("th", { scope: "row" }, name), cell(board, number, [first]), ...others.flatMap(cellsOf)];
  });
}

/** The boards that the first row and another one have in common, each a line; then folded, their actions and joints. */
function boardsTable(title, shared, names) {
  const lines = shared.map(({ board, places: [first, ...others] }) => [
    make("th", { scope: "row" }, `${board.name}, ${board.unit} `, make("small", {}, board.details)),
    valueCell(board, first),
    ...others.flatMap((row) => [valueCell(board, row), differenceCell(board, first, row)]),
  ]);
  const parts = shared.flatMap(({ board, places }) => Object.keys(board.breakdowns).map((kind) => {
    const label = `${board.name}, ${board.unit}, ${board.details}, by ${kind}`;
    return fold(label, tableOf(label, kind, names, breakdown(board, kind, places)));
  }));
  return [tableOf(title, "Table", names, lines), ...parts];
}

const fold = (label, ...content) => make("details", {}, make("summary", {}, label), ...content);

/** Frames with images on which the rows differ most: an image for each row. */
async function showFrames(section) {
  const [box, all] = [section.querySelector(".frames"), section.querySelector(".frames a")];
  all.hash = rowsInAddress(chosenRows());
  const data = await load(box.dataset.source);
  const rows = chosenRows().map((name) => data.rows.indexOf(name)).filter((row) => row >= 0);
  const errors = (frame) => rows.map((row) => data.errors[row][frame]);
  const spread = (frame) => Math.max(...errors(frame)) - Math.min(...errors(frame));
  const frames = data.pictured.filter((frame) => !errors(frame).includes(null));
  const shown = frames.sort((a, b) => spread(b) - spread(a)).slice(0, 3).map(async (frame) => {
    const sequence = data.sequences.findIndex((each) => each.frames.includes(frame));
    const [truth, ...poses] = (await load(`${data.folder}/${sequence}.js`)).pixels[frame];
    const images = rows.map((row, k) => {
      const drawn = [[poses[row][0], COLOURS[k + 1]], [truth[0], COLOURS[0]]];
      return crop(data, frame, 0, drawn, make("strong", {}, data.rows[row]), `${number(data.errors[row][frame], "mm")} mm`);
    });
    const link = make("a", { href: `${all.href}&frame=${encodeURIComponent(data.keys[frame])}` }, data.keys[frame]);
    return make("div", {}, make("h4", {}, link), make("div", { className: "views" }, ...images));
  });
  box.hidden = rows.length < 2;
  box.lastElementChild.replaceChildren(...(await Promise.all(shown)));
}

function fill(section, boards) {
  const names = chosenRows(); // those now, which may be others than when the file was asked for
  const shared = boards
    .map((board) => ({ board, places: names.map((name) => board.rows.indexOf(name)) }))
    .filter(({ places }) => places[0] >= 0 && Math.max(...places.slice(1)) >= 0);
  const [usual, special] = [true, false].map((kind) => shared.filter(({ board }) => board.usual === kind));
  const title = section.querySelector("h2").textContent.trim();
  const label = `${title}: true inputs given, perturbed inputs, or weights of other data (${special.length} tables)`;
  section.querySelector(".tables").replaceChildren(
    ...(usual.length ? boardsTable(`Differences on ${title}`, usual, names) : []),
    ...(special.length ? [Object.assign(fold(label, ...boardsTable(label, special, names)), { open: !usual.length })] : []),
  );
}

function compareRows() {
  const names = chosenRows();
  history.replaceState(null, "", `#${rowsInAddress(names)}`);
  for (const section of sections) {
    const rows = rowsOf.get(section);
    section.hidden = !rows.includes(names[0]) || !names.slice(1).some((name) => rows.includes(name));
    if (section.hidden) continue;
    load(section.dataset.source).then((boards) => fill(section, boards));
    if (section.querySelector(".frames")) showFrames(section);
  }
  document.getElementById("none").hidden = names.length < 2 || sections.some((section) => !section.hidden);
}

function restoreRows() {
  const names = new URLSearchParams(location.hash.slice(1)).getAll("row").filter((name) => allRows.includes(name));
  choices.forEach((choice, k) => (choice.value = (names.length ? names : allRows.slice(0, 2))[k] ?? ""));
  compareRows();
}
addEventListener("hashchange", restoreRows);
restoreRows();
