"use strict";
// The view of a classifier. The answers come from a source with explain(text, {topK, label}) and
// predict(texts): the server, or the parameters in the page.

const MAX_LABELS = 10; // shown
const MAX_WORDS = 3000; // colored

function showClassifier(source, info) {
  const part = show("classifier");
  const text = part("text");
  let chosen = null; // the label to explain; null: the most probable one
  let answer = null; // the last one

  const update = latestOnly(
    reporting(async () => {
      const given = text.value;
      part("curl").textContent = curlLine(given);
      try {
        answer = await source.explain(given, { topK: MAX_LABELS, label: chosen });
      } catch (error) {
        // A text or a model that is not explained is still classified.
        if (error.status !== 413 && error.status !== 422) throw error;
        const [labels] = await source.predict([given], { topK: MAX_LABELS });
        answer = { tokens: [], labels, problem: error.message };
      }
      showAnswer(given);
    }),
  );

  function showAnswer(given) {
    const { labels } = answer;
    const threshold = info.multi_label ? info.threshold : null;
    const rows = labels.map((each, rank) => ({
      ...each,
      decided: threshold === null ? rank === 0 : each.score > threshold,
    }));
    const explained = chosen ?? labels[0].label;
    showScores(part("scores"), rows, { chosen, choose });
    const decided = rows.filter((row) => row.decided);
    const said = decided.map(({ label, score }) => `${label}: ${percent(score)}`).join(", ");
    if (answer.problem) report(answer.problem, true);
    else report(said || "none of the labels");
    showWords(given, explained);
  }

  function choose(label) {
    chosen = label;
    update();
  }

  /** The text, its words colored by their contributions to the logit of a label. */
  function showWords(given, explained) {
    const characters = Array.from(given);
    const row = answer.labels.find((each) => each.label === explained) ?? {};
    const pieces = [];
    let position = 0;
    answer.tokens.slice(0, MAX_WORDS).forEach(({ start, end }, t) => {
      if (start > position) pieces.push(characters.slice(position, start).join(""));
      const contribution = row.contributions[t];
      const word = characters.slice(Math.max(start, position), end).join("");
      pieces.push(
        element(
          "span",
          {
            id: `word-${t}`,
            role: "option",
            "aria-selected": "false",
            "aria-label": `${word} ${signed(contribution)}`,
            class: colorOf(contribution),
          },
          word,
        ),
      );
      position = Math.max(position, end);
    });
    pieces.push(characters.slice(position).join(""));
    part("words").replaceChildren(...pieces);
    part("words").removeAttribute("aria-activedescendant");
    const sum = row.contributions?.reduce((a, b) => a + b, 0);
    part("detail").textContent =
      sum === undefined
        ? ""
        : `${explained}: bias ${signed(row.bias)}, words ${signed(sum)}, logit ${signed(row.logit)}`;
  }

  /** The numbers of a word, which is the one that arrow keys move from. */
  function select(word) {
    const words = part("words");
    document.getElementById(words.getAttribute("aria-activedescendant"))?.setAttribute("aria-selected", "false");
    words.setAttribute("aria-activedescendant", word.id);
    word.setAttribute("aria-selected", "true");
    const t = Number(word.id.slice("word-".length));
    const numbers = answer.labels.map((each) => `${each.label} ${signed(each.contributions[t])}`);
    part("detail").textContent = `“${word.textContent}”: ${numbers.join(", ")}`;
  }

  function moveByKey(event) {
    const words = [...part("words").children];
    const now = words.findIndex((word) => word.id === part("words").getAttribute("aria-activedescendant"));
    const next = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: words.length - 1 }[event.key];
    if (next === undefined || !words.length) return;
    event.preventDefault();
    select(words[Math.min(Math.max(next, 0), words.length - 1)]);
  }

  function curlLine(given) {
    const quoted = JSON.stringify({ inputs: given }).replaceAll("'", "'\\''");
    const key = info.needs_key ? " -H 'Authorization: Bearer KEY'" : "";
    const url = info.local ? "" : new URL(`${source.prefix}predict`, location.href);
    return `curl '${url}' -H 'Content-Type: application/json'${key} -d '${quoted}'`;
  }

  text.addEventListener("input", update);
  part("automatic").addEventListener("change", () => choose(null));
  part("words").addEventListener("mouseover", ({ target }) => target.id.startsWith("word-") && select(target));
  part("words").addEventListener("click", ({ target }) => target.id.startsWith("word-") && select(target));
  part("words").addEventListener("keydown", moveByKey);
  showLegend(part("legend"));
  for (const example of info.examples ?? []) {
    const use = () => {
      text.value = example;
      update();
    };
    part("examples").append(element("button", { type: "button", click: use }, example));
  }
  part("command").hidden = Boolean(info.local);
  part("copy").addEventListener(
    "click",
    reporting(async () => {
      await navigator.clipboard.writeText(part("curl").textContent);
      report("copied");
    }),
  );
  if (info.feedback) showFeedback(part, source, info, () => [text.value, update]);
  showTable(part, source, info);
  update();
}

/** A form that corrects the label of the text. */
function showFeedback(part, source, info, current) {
  const right = part("right");
  right.multiple = info.multi_label;
  right.append(...info.labels.map((label) => element("option", { value: label }, label)));
  part("feedback").hidden = false;
  part("correction").addEventListener("submit", (event) => {
    event.preventDefault();
    reporting(async () => {
      const [text, update] = current();
      const chosen = [...right.selectedOptions].map((option) => option.value);
      const body = { texts: [text], labels: [info.multi_label ? chosen : chosen[0]] };
      report("learning …");
      await source.ask("feedback", body, { token: part("token").value });
      await update();
      report("learned");
    })();
  });
}
