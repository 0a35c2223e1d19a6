// What the page asks of the model in its own folder, which answers in this browser: nothing leaves it. It stands in the
// place of the module of that name that asks a server (nanocv_cli/serving/page/), and offers the same.

const here = new URL(".", import.meta.url);
const tally = { answered: 0, failed: 0, trips: 0, graphs: 0 };
/** @type {Map<number, {resolve: (answer: any) => void, reject: (error: Error) => void}>} */
const waiting = new Map();
let asked = 0;
/** @type {Worker | null} */
let worker = null;
/** @type {Refused | null} */
let broken = null; // why the worker could not begin
let name = "";

/** The model did not answer as asked. */
export class Refused extends Error {
  /** Whether a key would help; nobody asks for one here. */
  get needsKey() {
    return false;
  }
}

/** Nobody asks for a key here. */
export function useKey() {}

/** Who answers. @returns {Promise<string>} */
export async function describeOrigin() {
  return "This model runs in your browser: no image leaves it.";
}

/**
 * The one model of this folder. It begins to load.
 *
 * @returns {Promise<import("../../serving/page/models.js").Model[]>}
 */
export async function listModels() {
  const answer = await fetch(new URL("model.json", here));
  if (!answer.ok) throw new Refused(`model.json cannot be had: ${answer.status}`);
  const { card, settings } = await answer.json();
  worker ??= startWorker();
  name = card.name;
  const sampling = card.config.model?.sampling ?? null;
  return [{ name, state: "READY", card, sampling, rows: 1, settings }];
}

/**
 * Counts and mean times since the page was opened, by the model's name.
 *
 * @returns {Promise<Map<string, import("../../serving/page/models.js").Counters>>}
 */
export async function counters() {
  const { answered, failed, trips, graphs } = tally;
  const mean = (/** @type {number} */ sum) => (answered ? sum / answered : 0);
  const times = { total: mean(trips), queue: 0, compute: mean(graphs) };
  return new Map([[name, { answered, failed, images: answered, batches: answered, ...times }]]);
}

/**
 * What the model says of an image file.
 *
 * @param {import("../../serving/page/models.js").Model} _model
 * @param {Blob} file in a format that the browser reads
 * @param {AbortSignal} signal
 */
export function answerImage(_model, file, signal) {
  return ask("infer", file, signal);
}

/**
 * One image of a class: image `first` of a seed is the one that `nanocv sample` makes.
 *
 * @param {import("../../serving/page/models.js").Model} model
 * @param {{label: number, seed: number, first: number, count: number, settings: Record<string, number>}} wanted
 * @param {AbortSignal} signal
 */
export async function makeImages(model, wanted, signal) {
  const { content, ...times } = await ask("sample", wanted, signal);
  const title = `${model.card.classes[wanted.label]}, image ${wanted.first} of seed ${wanted.seed}`;
  return { content: [{ ...content, title }], ...times };
}

/**
 * Has the worker answer.
 *
 * @param {string} what of the worker's `ANSWERS`
 * @param {any} request
 * @param {AbortSignal} signal ends the waiting; what the graph has begun it goes through with
 * @returns {Promise<import("../../serving/page/models.js").Timed<any>>}
 */
async function ask(what, request, signal) {
  signal.throwIfAborted();
  if (broken) throw broken;
  const begun = performance.now();
  asked += 1;
  const number = asked;
  const answer = new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    worker.postMessage({ number, what, request });
  });
  try {
    const { content, graph } = await answer;
    const trip = performance.now() - begun;
    tally.answered += 1;
    tally.trips += trip;
    tally.graphs += graph;
    return { content, trip, server: null };
  } catch (error) {
    if (error instanceof Refused) tally.failed += 1;
    throw error;
  } finally {
    waiting.delete(number);
  }
}

/** @returns {Worker} */
function startWorker() {
  // A worker that a blob begins keeps to the policy of this page, which one of an address would not.
  const source = `import ${JSON.stringify(new URL("worker.js", here).href)};`;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  // The one address that the page's policy lets become a script.
  const trusted = globalThis.trustedTypes?.createPolicy("nanocv-worker", { createScriptURL: () => address });
  const started = new Worker(trusted?.createScriptURL("") ?? address, { type: "module" });
  started.addEventListener("message", ({ data: { number, answer, problem } }) => {
    const asker = waiting.get(number);
    if (problem === undefined) asker?.resolve(answer);
    else asker?.reject(new Refused(problem));
  });
  started.addEventListener("error", ({ message }) => {
    broken = new Refused(`the model cannot be loaded: ${message || "a file of this folder is missing"}`);
    for (const { reject } of waiting.values()) reject(broken);
  });
  return started;
}
