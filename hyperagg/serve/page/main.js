"use strict";
// Starts the view of the model: the one in the page, or one of the server.

const VIEWS = {
  classifier: (...given) => showClassifier(...given),
  language: (...given) => showLanguageModel(...given),
  multimodal: (...given) => showMultimodal(...given),
};

function data(id) {
  const found = document.getElementById(id);
  return found && JSON.parse(found.textContent);
}

async function startLocal(description) {
  showTitle(description.name);
  const model = await LocalClassifier.load(description, data("parameters"));
  showClassifier(model, { ...description, labels: model.labels, local: true });
}

async function startServed() {
  const server = new Server();
  let models;
  try {
    ({ models } = await server.ask("models"));
  } catch (error) {
    if (error.status !== 401) throw error;
    askForKey();
    report("This server needs an API key.");
    return;
  }
  document.getElementById("key").hidden = true;
  const choice = document.getElementById("model");
  choice.replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
  choice.closest("p").hidden = models.length < 2;
  const open = reporting(async (name) => {
    const chosen = new Server(name === models[0].name ? null : name);
    const info = await chosen.ask("info");
    showTitle(info.name);
    report("");
    info.labels = Object.values(info.model_type.classifier?.id2label ?? {});
    info.needs_key = Server.key !== null;
    VIEWS[info.kind](chosen, info);
  });
  choice.addEventListener("change", () => open(choice.value));
  await open(models[0].name);
}

function askForKey() {
  const form = document.getElementById("key");
  form.hidden = false;
  form.onsubmit = (event) => {
    event.preventDefault();
    // It is kept as long as the page is open, and not stored.
    Server.key = form.querySelector("input").value;
    reporting(startServed)();
  };
}

function showTitle(name) {
  document.title = name;
  document.querySelector("h1").textContent = name;
}

const description = data("description");
reporting(() => (description ? startLocal(description) : startServed()))();
