"use strict";
// The view of a language model: a prompt, and the text that follows as it is generated.

/** The events of a stream, each the JSON value after "data: ". */
async function* readEvents(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const event = JSON.parse(line.slice("data: ".length));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function showLanguageModel(server, info) {
  const part = show("language");
  let stopper = null; // of the generation that runs

  const generate = reporting(async () => {
    const body = {
      model: info.name,
      prompt: part("prompt").value,
      max_tokens: Number(part("max_tokens").value),
      temperature: Number(part("temperature").value),
      top_p: Number(part("top_p").value),
      stream: true,
      stream_options: { include_usage: true },
    };
    if (part("seed").value) body.seed = Number(part("seed").value);
    if (part("stop_text").value) body.stop = part("stop_text").value;
    const given = element("span", { class: "prompt" }, body.prompt);
    const continued = element("span");
    part("output").replaceChildren(given, continued);
    part("speed").textContent = "";
    stopper = new AbortController();
    part("start").disabled = true;
    part("stop").disabled = false;
    report("generating …");
    let first = null, last = null, usage = null;
    try {
      const answer = await server.fetch("v1/completions", body, { signal: stopper.signal });
      for await (const event of readEvents(answer)) {
        usage = event.usage ?? usage;
        for (const choice of event.choices) {
          if (!choice.text) continue;
          last = performance.now();
          first ??= last;
          continued.append(choice.text);
        }
      }
      report("done");
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      report("stopped");
    } finally {
      stopper = null;
      part("start").disabled = false;
      part("stop").disabled = true;
    }
    const facts = [];
    if (usage) {
      const { prompt_tokens: read, completion_tokens: written } = usage;
      facts.push(`prompt: ${read} tokens`, `text: ${written} tokens`);
      if (written > 1 && last > first) {
        facts.push(`${((1000 * (written - 1)) / (last - first)).toFixed(0)} tokens per second`);
      }
    }
    const kept = await (await server.fetch(`v1/models/${encodeURIComponent(info.name)}`)).json();
    if (kept.kept_states) {
      const bytes = Math.round(kept.kept_state_bytes / kept.kept_states);
      facts.push(`state after a text: ${bytes.toLocaleString("en")} bytes`);
    }
    part("speed").textContent = facts.join(" · ");
  });

  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!stopper) generate();
  });
  part("stop").addEventListener("click", () => stopper?.abort());
}
