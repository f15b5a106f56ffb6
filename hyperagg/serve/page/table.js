"use strict";
// Labels the rows of a CSV file. Every row comes back, those with problems too.

const ROWS_PER_BATCH = 200;

/** The rows of a CSV text, lists of fields; `isOpen` says that a quote is not closed. */
function parseCsv(text, delimiter) {
  const rows = [];
  let row = [], field = "", isQuoted = false, wasQuoted = false;
  const endField = () => {
    row.push(field);
    field = "";
    wasQuoted = false;
  };
  const endRow = () => {
    endField();
    rows.push(row);
    row = [];
  };
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (isQuoted) {
      if (character !== '"') field += character;
      else if (text[i + 1] === '"') field += text[++i];
      else isQuoted = false;
    } else if (character === '"' && field === "" && !wasQuoted) {
      isQuoted = wasQuoted = true;
    } else if (character === delimiter) {
      endField();
    } else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[i + 1] === "\n") i++;
      endRow();
    } else {
      field += character;
    }
  }
  if (field !== "" || wasQuoted || row.length) endRow();
  return { rows, isOpen: isQuoted };
}

/** A field with quotes where it needs them. */
function quoteCsv(field, delimiter) {
  const needsQuotes = field.includes(delimiter) || /["\r\n]/.test(field);
  return needsQuotes ? `"${field.replaceAll('"', '""')}"` : field;
}

/** The delimiter that the first line has most of. */
function findDelimiter(text) {
  const [line] = text.split(/[\r\n]/, 1);
  const count = (delimiter) => line.split(delimiter).length;
  return [",", "\t", ";"].reduce((best, each) => (count(each) > count(best) ? each : best));
}

/** The table with three more columns: label, probability and problem. */
async function labelRows(rows, isOpen, column, source, info, progress = () => {}) {
  const [header, ...body] = rows;
  const out = [[...header, "predicted_label", "probability", "problem"]];
  const size = Math.min(ROWS_PER_BATCH, info.max_client_batch_size ?? ROWS_PER_BATCH);
  for (let begin = 0; begin < body.length; begin += size) {
    const batch = body.slice(begin, begin + size).map((row, k) => {
      const isLast = begin + k === body.length - 1;
      let problem = "";
      if (isOpen && isLast) problem = "a quote is not closed";
      else if (row.length !== header.length) problem = `${row.length} fields instead of ${header.length}`;
      return { row, problem };
    });
    await predictBatch(batch.filter((each) => !each.problem), column, source, info);
    for (const { row, problem, label = "", score = "" } of batch) {
      const padding = Array(Math.max(0, header.length - row.length)).fill("");
      out.push([...row, ...padding, label, score, problem]);
    }
    progress(begin + batch.length, body.length);
    await new Promise((resume) => setTimeout(resume));
  }
  return out;
}

/** Sets label and score of rows, or the problem where the server refuses one. */
async function predictBatch(batch, column, source, info) {
  if (!batch.length) return;
  let answers;
  try {
    answers = await source.predict(batch.map(({ row }) => row[column]), {
      topK: info.multi_label ? Infinity : 1,
    });
  } catch (error) {
    if (error.status !== 413) throw error;
    if (batch.length === 1) {
      batch[0].problem = error.message;
      return;
    }
    // Together they are too large, or one of them is.
    const half = batch.length >> 1;
    await predictBatch(batch.slice(0, half), column, source, info);
    await predictBatch(batch.slice(half), column, source, info);
    return;
  }
  batch.forEach((each, k) => {
    const found = info.multi_label
      ? answers[k].filter(({ score }) => score > info.threshold)
      : answers[k].slice(0, 1);
    each.label = found.map(({ label }) => label).join("|");
    each.score = found.map(({ score }) => score.toFixed(4)).join("|");
  });
}

function showTable(part, source, info) {
  let table = null; // of the last file that was read

  const read = reporting(async (file) => {
    table = null;
    part("columns").hidden = part("download").hidden = true;
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    } catch {
      throw new Error(`${file.name}: expected text in UTF-8`);
    }
    const delimiter = findDelimiter(text);
    const { rows, isOpen } = parseCsv(text, delimiter);
    if (rows.length < 2) throw new Error(`${file.name}: expected a line of column names and rows`);
    table = { name: file.name, delimiter, rows, isOpen };
    const [header] = rows;
    part("column").replaceChildren(
      ...header.map((name, k) => element("option", { value: String(k) }, name || `column ${k + 1}`)),
    );
    part("column").value = String(Math.max(0, header.indexOf("text")));
    part("columns").hidden = false;
    report(`${file.name}: ${rows.length - 1} rows`);
  });

  const run = reporting(async () => {
    const { name, delimiter, rows, isOpen } = table;
    const bar = part("progress");
    bar.hidden = false;
    const progress = (done, all) => Object.assign(bar, { max: all, value: done });
    try {
      const column = Number(part("column").value);
      const labeled = await labelRows(rows, isOpen, column, source, info, progress);
      const lines = labeled.map((row) => row.map((field) => quoteCsv(field, delimiter)).join(delimiter));
      const link = part("download");
      URL.revokeObjectURL(link.href);
      link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
      link.download = name.replace(/(\.[^.]*)?$/, "-labeled$&");
      link.textContent = `Download ${link.download}`;
      link.hidden = false;
      const problems = labeled.slice(1).filter((row) => row.at(-1)).length;
      report(`${labeled.length - 1} rows, ${problems} of them with a problem`);
    } finally {
      bar.hidden = true;
    }
  });

  part("file").addEventListener("change", ({ target }) => target.files[0] && read(target.files[0]));
  part("columns").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  const zone = part("table");
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
  });
}
