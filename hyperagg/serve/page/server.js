"use strict";
// Asks the server that the page came from.

class Server {
  constructor(model = null) {
    this.prefix = model === null ? "" : `models/${encodeURIComponent(model)}/`;
  }

  /** The answer to a request; `undefined` as the body makes it a GET. */
  async fetch(path, body, { token = null, signal = null } = {}) {
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const secret = token ?? Server.key;
    if (secret) headers.Authorization = `Bearer ${secret}`;
    const method = body === undefined ? "GET" : "POST";
    const answer = await fetch(path, { method, headers, signal, body: JSON.stringify(body) });
    if (answer.ok) return answer;
    const { error } = await answer.json().catch(() => ({ error: answer.statusText }));
    const problem = new Error(typeof error === "string" ? error : error.message);
    problem.status = answer.status;
    throw problem;
  }

  async ask(path, body, options) {
    return (await this.fetch(this.prefix + path, body, options)).json();
  }

  /** What `LocalClassifier.explain` returns, by the parameters of the server. */
  async explain(text, { topK = Infinity, label = null } = {}) {
    const limit = Number.isFinite(topK) ? { top_k: topK } : {};
    const answer = await this.ask("explain", { inputs: text, ...limit });
    if (label !== null && !answer.labels.some((each) => each.label === label)) {
      const own = await this.ask("explain", { inputs: text, labels: [label] });
      answer.labels.push(...own.labels);
    }
    return answer;
  }

  /** The scores of the labels for each text, the highest first. */
  async predict(texts, { topK = Infinity } = {}) {
    const limit = Number.isFinite(topK) ? { top_k: topK } : {};
    return this.ask("predict", { texts, ...limit });
  }
}
Server.key = null;
