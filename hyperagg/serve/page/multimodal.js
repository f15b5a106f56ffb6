"use strict";
// The view of a model of tables: a form with a field per column, and files for images and audio.

const MAX_PARTS = 40; // of a column, those with the largest contributions

/** A file as a data: URL. */
function readFile(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name}: cannot be read`));
    reader.readAsDataURL(file);
  });
}

/** The field of a column: its element, and a function that returns the value of the cell. */
function makeField(name, kind) {
  if (kind === "image" || kind === "audio") {
    const input = element("input", { type: "file", accept: `${kind}/*`, name });
    const preview = element("p", { class: "preview" });
    const shown = element("label", { class: "drop" }, `${name} (${kind}) `, input, preview);
    input.addEventListener("change", reporting(async () => {
      preview.replaceChildren();
      if (!input.files[0]) return;
      const src = await readFile(input.files[0]);
      preview.append(kind === "image" ? element("img", { src, alt: "" }) : element("audio", { src, controls: true }));
    }));
    shown.addEventListener("dragover", (event) => event.preventDefault());
    shown.addEventListener("drop", (event) => {
      event.preventDefault();
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change"));
    });
    return [shown, async () => (input.files[0] ? readFile(input.files[0]) : null)];
  }
  const input =
    kind === "text"
      ? element("textarea", { rows: "3", dir: "auto", name })
      : element("input", { type: kind === "number" ? "number" : "text", step: "any", name });
  const label = element("label", { class: kind === "text" ? "wide" : "" }, `${name} `, input);
  const value = () => (kind === "number" ? Number(input.value) : input.value);
  return [label, async () => (input.value === "" ? null : value())];
}

function showMultimodal(server, info) {
  const part = show("multimodal");
  const fields = Object.entries(info.columns).map(([name, kind]) => [name, ...makeField(name, kind)]);
  part("fields").append(...fields.map(([, shown]) => shown));
  showLegend(part("legend"));
  const number = info.regression ? (score) => String(Number(score.toPrecision(6))) : percent;

  const predict = reporting(async () => {
    const row = {};
    for (const [name, , read] of fields) {
      const cell = await read();
      if (cell !== null) row[name] = cell;
    }
    if (!Object.keys(row).length) throw new Error("fill in at least one column");
    report("predicting …");
    const { columns, labels } = await server.ask("explain", { inputs: row, top_k: 10 });
    showScores(part("scores"), labels, { number });
    report(`${labels[0].label}: ${number(labels[0].score)}`);
    const shown = [];
    for (const [name, tokens] of Object.entries(columns)) {
      const own = labels[0].contributions[name];
      const sum = own.reduce((a, b) => a + b, 0);
      const largest = own.map((_, k) => k).sort((a, b) => Math.abs(own[b]) - Math.abs(own[a]));
      const kept = new Set(largest.slice(0, MAX_PARTS));
      const words = tokens.map(({ text }, k) => [text, own[k]]).filter((_, k) => kept.has(k));
      shown.push(
        element("dt", {}, `${name} ${signed(sum)}`),
        element(
          "dd",
          { class: "words" },
          ...words.flatMap(([text, value]) => [
            element("span", { class: colorOf(value), title: signed(value) }, text),
            " ",
          ]),
        ),
      );
    }
    part("contributions").replaceChildren(...shown);
  });

  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    predict();
  });
}
