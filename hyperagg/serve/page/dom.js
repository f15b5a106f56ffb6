"use strict";
// What the views share. Texts, labels and names reach the page as text alone: nothing here or in the
// views makes markup of a string.

/** An element with attributes, which may be functions for events, and children. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (typeof value === "boolean") made.toggleAttribute(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Shows the template of a view in the page; returns a function that finds its parts by name. */
function show(name) {
  const content = document.getElementById(`${name}-view`).content.cloneNode(true);
  document.querySelector("main").replaceChildren(content);
  return (part) => document.querySelector(`main [data-part="${part}"]`);
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

const signed = (number) => (number < 0 ? "−" : "+") + Math.abs(number).toFixed(3);

/** One message for people who see the page and for those who hear it. */
function report(text, isProblem = false) {
  const status = document.getElementById("status");
  status.classList.toggle("problem", isProblem);
  if (status.textContent !== text) status.textContent = text;
}

/** Reports the errors of a function that is called for an event. */
function reporting(run) {
  return async (...given) => {
    try {
      await run(...given);
    } catch (error) {
      report(error.message, true);
    }
  };
}

/** Calls a function with the latest arguments only, after the call before it has ended. */
function latestOnly(run) {
  let waiting = null, isRunning = false;
  return async (...given) => {
    waiting = given;
    if (isRunning) return;
    isRunning = true;
    try {
      while (waiting) {
        const next = waiting;
        waiting = null;
        await run(...next);
      }
    } finally {
      isRunning = false;
    }
  };
}

/** A row per label with a bar as long as its score; `choose` makes the rows radio buttons. */
function showScores(list, labels, { chosen = null, choose = null, number = percent } = {}) {
  const focused = list.contains(document.activeElement) ? document.activeElement.value : null;
  list.replaceChildren(
    ...labels.map(({ label, score, decided }) => {
      const bar = element("span", { class: "bar", "aria-hidden": "true" });
      bar.style.setProperty("--share", String(Math.min(1, Math.max(0, score))));
      const parts = [element("span", { class: "name" }, label), bar, number(score)];
      if (decided) parts[0].classList.add("decided");
      if (!choose) return element("li", {}, ...parts);
      const button = element("input", {
        type: "radio",
        name: "explained",
        value: label,
        checked: label === chosen,
        change: () => choose(label),
      });
      return element("li", {}, element("label", {}, button, ...parts));
    }),
  );
  if (focused !== null) {
    [...list.querySelectorAll("input")].find((each) => each.value === focused)?.focus();
  }
}

// The contributions at which the color of a word changes: one scale for all texts.
const STEPS = [0.05, 0.15, 0.4, 1];

/** The class of the color of a contribution: for-1 to for-4, or against-1 to against-4. */
function colorOf(contribution) {
  const step = STEPS.filter((border) => Math.abs(contribution) >= border).length;
  return step ? `${contribution > 0 ? "for" : "against"}-${step}` : "neutral";
}

function showLegend(legend) {
  const swatch = (sign) => (border) =>
    element("span", { class: colorOf(sign * border) }, `${sign < 0 ? "−" : "+"}${border}`);
  legend.replaceChildren(
    "against ",
    ...[...STEPS].reverse().map(swatch(-1)),
    " ",
    ...STEPS.map(swatch(1)),
    " for",
  );
}
