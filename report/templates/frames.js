// Page of the recorded frames of a data set. The address names what is shown: #frame=KEY&row=ROW&row=ROW.
// The poses of a sequence are in a file of their own, which is loaded when it is opened. Uses functions of site.js.
load(document.getElementById("frame").dataset.source).then((data) => {
  const at = (id) => document.getElementById(id);
  const sequenceOf = [];
  data.sequences.forEach(({ frames }, number) => frames.forEach((frame) => { sequenceOf[frame] = number; }));
  let frame = 0, chosen = [0], showsTruth = true, opened = -1, sequence = null, resting = 0;

  const print = (value) => (value === null ? "–" : value.toFixed(1));
  const address = (k, rows) => `#${new URLSearchParams([["frame", data.keys[k]], ...rows.map((row) => ["row", data.rows[row]])])}`;
  at("frame").hidden = false;
  const viewer = createViewer(at("viewer"), 0.8, (k) => {
    if (opened === sequenceOf[frame]) select(data.sequences[opened].frames[k]);
  });

  function fill(list, options, value) {
    list.replaceChildren(...options.map(([key, text]) => make("option", { value: key }, text)));
    list.value = value;
  }
  function menus() {
    const { action, frames } = data.sequences[sequenceOf[frame]];
    fill(at("action"), [...new Set(data.sequences.map((each) => each.action))].map((each) => [each, each]), action);
    fill(at("sequence"), [...data.sequences.entries()].filter(([, each]) => each.action === action).map(([k, each]) => [k, each.name]), sequenceOf[frame]);
    fill(at("key"), frames.map((k) => [k, data.keys[k] + (data.pictured.includes(k) ? " ●" : "")]), frame);
  }

  const boxes = ["ground truth", ...data.rows].map((text, k) => {
    const onchange = ({ target: { checked } }) => {
      if (k === 0) showsTruth = checked;
      else chosen = checked ? [...chosen, k - 1].slice(-3) : chosen.filter((row) => row !== k - 1);
      show();
    };
    const [box, error] = [make("input", { type: "checkbox", onchange }), make("small")];
    at("rows").append(make("label", {}, box, " ", text, " ", error));
    return { box, error };
  });
  const colourOf = (person) => COLOURS[person ? 1 + chosen.indexOf(person - 1) : 0];
  const isShown = (person) => (person ? chosen.includes(person - 1) : showsTruth);

  function show() {
    boxes.forEach(({ box, error }, k) => {
      box.checked = isShown(k);
      if (box.checked) box.style.accentColor = colourOf(k);
      error.textContent = k ? `${print(data.errors[k - 1][frame])} mm` : "";
    });
    if (sequence && opened === sequenceOf[frame]) {
      sequence.scene.people.forEach((person, k) => Object.assign(person, { hidden: !isShown(k), colour: colourOf(k) }));
      const [pixels, people] = [sequence.pixels[frame], [...boxes.keys()].filter(isShown).reverse()]; // truth on top
      const image = (view, v) => crop(data, frame, v, people.map((k) => [pixels[k][v], colourOf(k)]), view);
      at("images").replaceChildren(...(pixels ? data.views.map(image) : []));
      at("no-images").hidden = Boolean(pixels);
      viewer.redraw();
    }
    clearTimeout(resting); // browsers allow few changes of the address, and playing makes many
    resting = setTimeout(() => history.replaceState(null, "", address(frame, chosen)), 300);
  }

  // Called by the viewer with the frame that it draws, and by the menus.
  function select(next) {
    if (next === frame && at("key").value === String(frame)) return;
    frame = next;
    menus();
    show();
  }
  async function open(next) {
    frame = next;
    menus();
    const number = sequenceOf[frame];
    const file = await load(`${data.folder}/${number}.js`);
    if (sequenceOf[frame] !== number) return; // chosen anew while it was loaded
    [opened, sequence] = [number, file];
    viewer.load(sequence.scene, data.sequences[number].frames.indexOf(frame));
    show();
  }

  function differences() {
    const [one, other] = [at("one"), at("other")].map((list) => Number(list.value));
    const both = data.keys.map((key, k) => [k, data.errors[one][k], data.errors[other][k]]).filter((each) => !each.includes(null));
    both.sort((a, b) => Math.abs(b[1] - b[2]) - Math.abs(a[1] - a[2]));
    at("differences").replaceChildren(...both.slice(0, 8).map(([k, ofOne, ofOther]) => {
      const link = make("a", { href: address(k, [one, other]) }, data.keys[k]);
      return make("li", {}, link, ` ${data.rows[one]} ${print(ofOne)} mm, ${data.rows[other]} ${print(ofOther)} mm`);
    }));
  }

  function fromAddress() {
    const values = new URLSearchParams(location.hash.slice(1));
    const rows = values.getAll("row").map((row) => data.rows.indexOf(row)).filter((row) => row >= 0);
    if (rows.length) chosen = rows.slice(0, 3);
    if (rows.length > 1) [at("one").value, at("other").value] = rows;
    differences();
    const named = data.keys.indexOf(values.get("frame"));
    open(named < 0 ? data.pictured[0] ?? 0 : named);
  }

  at("action").addEventListener("change", (event) => open(data.sequences.find(({ action }) => action === event.target.value).frames[0]));
  at("sequence").addEventListener("change", (event) => open(data.sequences[event.target.value].frames[0]));
  at("key").addEventListener("change", (event) => open(Number(event.target.value)));
  at("previous").addEventListener("click", () => open(Math.max(0, frame - 1)));
  at("next").addEventListener("click", () => open(Math.min(data.keys.length - 1, frame + 1)));
  [at("one"), at("other")].forEach((list, k) => {
    fill(list, [...data.rows.entries()], Math.min(k, data.rows.length - 1));
    list.addEventListener("change", differences);
  });
  window.addEventListener("hashchange", () => { fromAddress(); at("frame").scrollIntoView(); });
  fromAddress();
});
