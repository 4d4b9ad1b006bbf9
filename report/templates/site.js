"use strict";
// Tables that are sorted, searched, filtered, copied and linked to. Without JavaScript they are whole.

const ROOT = new URL(".", document.currentScript.src);
const MOST_COMPARED = 4;
const MOST_SHOWN = 50; // rows, until the reader asks for all: a browser needs seconds to lay out a thousand
const loaded = new Map();

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The data of a file of the site. It is a script, because pages opened from a disk may request nothing else. */
function load(path) {
  if (!loaded.has(path)) loaded.set(path, new Promise((resolve, reject) => {
    const onerror = () => reject(new Error(`${path} cannot be loaded`));
    const script = make("script", { src: new URL(path, ROOT), onload: () => resolve(script.data), onerror });
    document.head.append(script);
  }));
  return loaded.get(path);
}

const rowsInAddress = (names) => String(new URLSearchParams(names.map((name) => ["row", name])));

const COLOURS = ["#c2478f", "#2f7fd6", "#e0731d", "#2a9d6f", "#8a6fd1"]; // ground truth, rows

/** An image of a recorded frame with poses: a list of points and colours, the last one on top. */
function crop(data, frame, view, poses, ...caption) {
  const image = make("img", { src: new URL(`${data.folder}/${frame}-${view}.jpg`, ROOT), alt: `Camera ${data.views[view]}` });
  const create = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return element;
  };
  const drawing = create("svg", { viewBox: `0 0 ${data.side} ${data.side}` });
  for (const [points, colour] of poses) {
    const lines = data.edges.filter(([a, b]) => points[a] && points[b]);
    const d = lines.map(([a, b]) => `M${points[a].join(" ")}L${points[b].join(" ")}`).join("");
    drawing.append(create("path", { class: "halo", d }), create("path", { class: "limb", d, style: `stroke: ${colour}` }));
  }
  return make("figure", { className: "crop" }, image, drawing, make("figcaption", {}, ...caption));
}

class SortableTable {
  constructor(table) {
    this.table = table;
    this.rows = this.sorted = [...table.querySelectorAll("tbody > tr:not(.heading)")];
    this.heads = [...table.querySelectorAll("th[data-column]")];
    this.heads.forEach((head) => this.addSortButton(head));
    this.names = this.rows.map(({ cells: [head] }) => head.dataset.value);
    this.limit = MOST_SHOWN;
    this.selected = new Set();
    this.boxes = new Map();
    [this.style, this.status] = [make("style"), make("output")];
    this.link = make("a", {}, "Link to this view");
    this.compare = make("a", { className: "compare" });
    this.all = make("button", { type: "button", onclick: () => this.update(Infinity) }, `Show all ${this.rows.length} rows`);
    const controls = [...this.filters(), this.choiceOfColumns(), ...this.copyButtons()];
    this.tools = make("div", { className: "tools" }, ...controls, this.link, this.compare, this.status);
    this.tools.role = "group";
    this.tools.ariaLabel = `Tools: ${table.caption.textContent.trim()}`;
    table.closest(".scroll").before(this.tools, this.style);
    table.closest(".scroll").after(this.all);
    table.classList.add("ready");
    this.show();
  }

  addSortButton(head) {
    const onclick = () => {
      // Best first, which for most columns is the smallest; the next click turns it round.
      const [first, turned] = head.dataset.first ? ["descending", "ascending"] : ["ascending", "descending"];
      this.sort(head, head.ariaSort === first ? turned : first);
      this.update();
    };
    head.append(make("button", { type: "button", onclick }, ...head.childNodes));
  }

  /** Sort by the column of a head; without a head, in the order of the page. Bounds stay below the other rows. */
  sort(head, order) {
    this.heads.forEach((other) => (other.ariaSort = other === head ? order : null));
    this.sorted = this.rows;
    if (head) {
      const values = new Map(this.rows.map((row) => [row, row.cells[head.cellIndex].dataset.value ?? ""]));
      this.sorted = [...this.rows].sort((a, b) => {
        const [x, y] = [values.get(a), values.get(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // rows without a value stay last
        const difference = Number.isNaN(x - y) ? x.localeCompare(y) : x - y;
        return order === "ascending" ? difference : -difference;
      });
    }
    const bodies = [...this.table.tBodies];
    this.sorted = bodies.flatMap((body) => this.sorted.filter((row) => row.parentElement === body));
    for (const row of this.sorted) row.parentElement.append(row);
  }

  /** A search box or a choice of rows; it finds few, so no more than the first ones are shown again. */
  filter(tag, properties, ...children) {
    return make(tag, { ...properties, oninput: () => this.update(MOST_SHOWN) }, ...children);
  }

  /** Show the box that selects a row for the comparison. It is made when its row is first shown: most never are. */
  showBox({ cells: [head] }) {
    const name = head.dataset.value;
    if (!name) return; // not a row of a method
    if (!this.boxes.has(name)) {
      const oninput = ({ target }) => {
        this.selected[target.checked ? "add" : "delete"](name);
        this.update();
      };
      this.boxes.set(name, make("input", { type: "checkbox", ariaLabel: `Select ${name}`, oninput }));
      head.prepend(this.boxes.get(name));
    }
    const [box, checked] = [this.boxes.get(name), this.selected.has(name)];
    Object.assign(box, { checked, disabled: !checked && this.selected.size >= MOST_COMPARED });
  }

  /** A search box, and a choice for each trait in which rows differ, such as data-is-inputs="calibrated; crops". */
  filters() {
    this.search = this.filter("input", { type: "search", size: 12 });
    this.choices = new Map();
    const labels = [make("label", {}, "Search ", this.search)];
    for (const trait of Object.keys(this.rows[0]?.dataset ?? {}).filter((key) => key.startsWith("is"))) {
      const words = [...new Set(this.rows.flatMap((row) => (row.dataset[trait] ?? "").split("; ")))].sort();
      if (words.length < 2) continue;
      const options = ["", ...words].map((value) => make("option", { value }, value || "any"));
      this.choices.set(trait, this.filter("select", {}, ...options));
      labels.push(make("label", {}, `${trait.slice(2)} `, this.choices.get(trait)));
    }
    return labels;
  }

  /** Columns to show; those under one head of the first line belong together. data-optional: hidden at first. */
  choiceOfColumns() {
    let end = 0;
    this.columns = [...this.table.tHead.rows[0].cells].map((head) => {
      const start = end;
      end += head.colSpan;
      const usual = !("optional" in head.dataset);
      const box = make("input", { type: "checkbox", checked: usual, oninput: () => this.update() });
      return { head, start, end, id: head.dataset.group ?? head.dataset.column, usual, box };
    }).slice(1);
    const labels = this.columns.map(({ head, box }) => make("label", {}, box, head.dataset.label ?? head.textContent));
    return make("details", {}, make("summary", {}, "Columns"), make("div", {}, ...labels));
  }

  copyButtons() {
    const buttons = ["CSV", "LaTeX", "Markdown", "BibTeX"].map((format) => {
      const onclick = () => this.copy(format).catch((error) => (this.status.value = error.message));
      return make("button", { type: "button", ariaLabel: `Copy as ${format}`, onclick }, format);
    });
    return [make("span", {}, "Copy as ", ...buttons)];
  }

  /** Copy the whole table as `poseboard export` prints it; without a clipboard, show the text selected. */
  async copy(format) {
    const text = (await load(this.table.dataset.texts))[format];
    try {
      await navigator.clipboard.writeText(text);
      this.status.value = `${format} of all rows copied`;
    } catch {
      const area = make("textarea", { readOnly: true, rows: 10, ariaLabel: "Text to copy", value: text });
      this.status.replaceChildren("Copy the selected text", area);
      area.select();
    }
  }

  /** Show the rows and columns that the controls ask for. */
  show() {
    const words = this.search.value.toLowerCase().split(/\s+/);
    const traits = [...this.choices].filter(([, choice]) => choice.value);
    let count = 0;
    for (const row of this.sorted) {
      const found = words.every((word) => !word || row.cells[0].textContent.toLowerCase().includes(word)) &&
        traits.every(([trait, choice]) => row.dataset[trait]?.split("; ").includes(choice.value));
      count += found;
      const hidden = !found || count > this.limit;
      if (row.hidden !== hidden) row.hidden = hidden;
      if (!hidden) this.showBox(row);
    }
    this.all.hidden = count <= this.limit;
    this.status.value = count < this.rows.length ? `${count} of ${this.rows.length} rows` : "";
    this.showColumns();
    this.compare.hidden = this.selected.size < 2;
    this.compare.textContent = `Compare ${this.selected.size} rows`;
    this.compare.href = new URL(`compare.html#${rowsInAddress(this.names.filter((name) => this.selected.has(name)))}`, ROOT);
    this.link.href = this.address;
  }

  /** Hide columns by a style: a hidden attribute for each cell of a thousand rows takes a second. */
  showColumns() {
    const hidden = this.columns.filter(({ head, box }) => (head.hidden = !box.checked));
    const cells = hidden.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, k) => start + k + 1));
    const id = `#${this.table.id}`;
    const rows = `${id} > thead > tr + tr, ${id} > tbody > tr:not(.heading)`;
    this.style.textContent = cells.map((k) => `:is(${rows}) > :nth-child(${k}) { display: none }`).join("");
  }

  update(limit = this.limit) {
    this.limit = limit;
    this.show();
    history.replaceState(null, "", this.address);
  }

  /** Fragment with the state: "#board-human36m&sort=T1&column=T2&row=dlt"; column: its box is not as at first. */
  get address() {
    const state = new URLSearchParams();
    const head = this.heads.find((other) => other.ariaSort);
    if (head) state.append("sort", head.dataset.column);
    if (head?.ariaSort === "descending") state.append("order", "descending");
    if (this.search.value) state.append("search", this.search.value);
    for (const [trait, choice] of this.choices) if (choice.value) state.append(trait.slice(2), choice.value);
    for (const { box, id, usual } of this.columns) if (box.checked !== usual) state.append("column", id);
    for (const name of this.names) if (this.selected.has(name)) state.append("row", name);
    return `#${[this.table.id, ...(state.size ? [state] : [])].join("&")}`;
  }

  restore(state) {
    const head = this.heads.find(({ dataset }) => dataset.column === state.get("sort"));
    this.sort(head, state.get("order") === "descending" ? "descending" : "ascending");
    this.search.value = state.get("search") ?? "";
    for (const [trait, choice] of this.choices) {
      choice.value = state.get(trait.slice(2)) ?? "";
      if (choice.selectedIndex < 0) choice.value = ""; // words of another build
    }
    for (const { box, id, usual } of this.columns) box.checked = usual !== state.getAll("column").includes(id);
    this.selected = new Set(state.getAll("row").filter((name) => this.names.includes(name)).slice(0, MOST_COMPARED));
    this.show();
    this.tools.scrollIntoView();
  }
}

/** Show the signature that a link leads to while the link has the pointer or the focus; Escape hides it. */
function showSignatures() {
  const tip = make("div", { id: "tip", role: "tooltip", hidden: true });
  document.body.append(tip);
  const hide = () => (tip.hidden = true);
  for (const link of document.querySelectorAll("a.signature")) {
    const signature = document.getElementById(link.hash.slice(1));
    link.onmouseenter = link.onfocus = () => {
      tip.replaceChildren(signature.querySelector("dl").cloneNode(true));
      tip.hidden = false;
      const [{ left, bottom }, room] = [link.getBoundingClientRect(), document.body.clientWidth - tip.offsetWidth];
      tip.style.left = `${scrollX + Math.max(0, Math.min(left, room))}px`;
      tip.style.top = `${scrollY + bottom - 1}px`; // without a gap, for the pointer to move onto it
    };
    link.setAttribute("aria-describedby", "tip");
    link.onmouseleave = ({ relatedTarget }) => tip.contains(relatedTarget) || hide();
    link.onclick = () => { signature.open = true; };
    link.onblur = hide;
  }
  tip.onmouseleave = hide;
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
}

/** Close the lists of columns on Escape and on a click outside. */
for (const type of ["click", "keydown"]) document.addEventListener(type, ({ key, target }) => {
  for (const list of document.querySelectorAll(".tools details[open]")) {
    if (key === "Escape" && list.contains(target)) list.firstElementChild.focus();
    if (key ? key === "Escape" : !list.contains(target)) list.open = false;
  }
});

const tables = [...document.querySelectorAll("table.sortable")].map((table) => new SortableTable(table));

function restore() {
  const [id, ...state] = location.hash.slice(1).split("&");
  if (id) tables.find(({ table }) => table.id === id)?.restore(new URLSearchParams(state.join("&")));
}
addEventListener("hashchange", restore);
restore();
showSignatures();
