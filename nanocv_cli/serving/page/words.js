// What the page says in words: facts about a model, what was counted, what was answered and how long that took.

const FEW_METRICS = 6;

/** @typedef {[string, string][]} Facts name and value of each */

/** @param {import("./models.js").Model} model @returns {Facts} of its card */
export function cardFacts(model) {
  const card = model.card;
  if (!card) return [];
  /** @type {Facts} */
  const facts = [
    ["Name", card.name],
    ["Task", card.task],
    ["Trained on", card.data],
    ["Input", `${card.input_size} x ${card.input_size} pixels`],
    ["Precision", card.precision],
    ["Classes", card.classes.join(", ")],
  ];
  if (model.sampling) {
    facts.push(["Makes images by", `${model.sampling.steps} steps of ${model.sampling.solver}, guidance ${model.sampling.guidance}`]);
  }
  const metrics = Object.entries(card.metrics).filter(([, value]) => typeof value === "number").slice(0, FEW_METRICS);
  if (metrics.length && card.split) facts.push(["Measured on", card.split]);
  for (const [name, value] of metrics) facts.push([name, String(Number(Number(value).toPrecision(4)))]);
  return facts;
}

/** @param {import("./models.js").Counters} counted @returns {Facts} */
export function counterFacts(counted) {
  return [
    ["Answered", String(counted.answered)],
    ["Failed", String(counted.failed)],
    ["Images", String(counted.images)],
    ["Batches", String(counted.batches)],
    ["Mean time", duration(counted.total)],
    ["in the queue", duration(counted.queue)],
    ["in the graph", duration(counted.compute)],
  ];
}

/** @param {import("./draw.js").Prediction[]} predictions */
export function summary(predictions) {
  const [first, ...others] = predictions;
  if (!first) return "Nothing found.";
  if (first.box) return `${predictions.length} ${others.length ? "objects" : "object"}.`;
  if (first.share !== undefined) return `${predictions.length} ${others.length ? "classes" : "class"}.`;
  return first.score === undefined ? `${first.label}.` : `${first.label}, ${(100 * first.score).toFixed(1)} %.`;
}

/** @param {{trip: number, server: number | null}} told */
export function took(told) {
  const inside = told.server === null ? "" : `, of which ${duration(told.server)} in the server`;
  return `Answered in ${duration(told.trip)}${inside}.`;
}

/** @param {number} value milliseconds */
export function duration(value) {
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}
