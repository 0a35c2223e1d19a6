// What the page asks of the model in its own folder, which answers in this browser: nothing leaves it. It stands in the
// place of the module of that name that asks a server (nanocv_cli/serving/page/), and offers the same.

const here = new URL(".", import.meta.url);
const tally = { answered: 0, failed: 0, trips: 0, graphs: 0 };
/** @type {Map<number, {resolve: (answer: any) => void, reject: (error: Error) => void}>} */
const waiting = new Map();
let asked = 0;
/** @type {Worker | null} */
let worker = null;
/** @type {Promise<unknown>} */
let ready = Promise.resolve(); // the model is there, or cannot be
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
  if (!worker) {
    worker = startWorker();
    ready = posted("open", null);
    ready.catch(() => {}); // whoever asks is told
  }
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
  const aborted = new Promise((_resolve, reject) => {
    signal.throwIfAborted();
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  try {
    await Promise.race([ready, aborted]);
    const begun = performance.now(); // a model that is still loading is not slow
    const { content, graph } = await Promise.race([posted(what, request), aborted]);
    const trip = performance.now() - begun;
    tally.answered += 1;
    tally.trips += trip;
    tally.graphs += graph;
    return { content, trip, server: null };
  } catch (error) {
    if (error instanceof Refused) tally.failed += 1;
    throw error;
  }
}

/** The worker's answer to one message. @param {string} what @param {any} request @returns {Promise<any>} */
function posted(what, request) {
  asked += 1;
  const number = asked;
  return new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, what, request });
  });
}

/** @returns {Worker} */
function startWorker() {
  // A worker that a blob begins keeps to the policy of this page, which one of an address would not.
  const source = `import ${JSON.stringify(new URL("worker.js", here).href)};`;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  // The one address that the page's policy lets become a script.
  const trusted = globalThis.trustedTypes?.createPolicy("nanocv-worker", { createScriptURL: () => address });
  const started = new Worker(trusted?.createScriptURL("") ?? address, { type: "module" });
  for (const event of ["message", "error"]) started.addEventListener(event, () => URL.revokeObjectURL(address), { once: true });
  started.addEventListener("message", ({ data: { number, answer, problem } }) => {
    const { resolve, reject } = waiting.get(number);
    waiting.delete(number);
    if (problem === undefined) resolve(answer);
    else reject(new Refused(problem));
  });
  started.addEventListener("error", ({ message }) => {
    const problem = new Refused(`the model cannot be loaded: ${message || "a file of this folder is missing"}`);
    for (const { reject } of waiting.values()) reject(problem);
  });
  return started;
}
