// What the page asks of the server that it came from, by KServe v2: its models, their cards and counters, answers.

import { imageNoise } from "./noise.js";

/**
 * What a model's config says of making images.
 * @typedef {object} Sampling
 * @property {number} steps of the method, where nothing else is asked for
 * @property {number} guidance likewise
 * @property {string} solver
 */

/**
 * What a model says of itself; see `nanocv_cli/engine/card.py`.
 * @typedef {object} Card
 * @property {string} name
 * @property {string} task
 * @property {string[]} classes in label order
 * @property {number} input_size pixels
 * @property {string} data
 * @property {string} precision
 * @property {string} split that the metrics were measured on
 * @property {Record<string, unknown>} metrics
 * @property {{model?: {sampling?: Sampling}}} config
 */

/**
 * A model that can be tried.
 * @typedef {object} Model
 * @property {string} name
 * @property {string} state READY, or why it does not answer
 * @property {Card | null} card
 * @property {Sampling | null} sampling of one that makes images; null of one that looks at them
 * @property {number} rows most images that it makes at once
 * @property {Record<string, [number, number]>} settings numbers that a request may name, with lowest and highest value
 */

/**
 * A model's counters since it was loaded.
 * @typedef {object} Counters
 * @property {number} answered requests
 * @property {number} failed requests
 * @property {number} images
 * @property {number} batches
 * @property {number} total milliseconds in the server, a request's mean
 * @property {number} queue milliseconds of these in the queue
 * @property {number} compute milliseconds of these in the graph
 */

/**
 * An answer, and how long it took.
 * @template Content
 * @typedef {object} Timed
 * @property {Content} content
 * @property {number} trip milliseconds from question to answer, as this page sees it
 * @property {number | null} server milliseconds of these in the server, where it says so
 */

const JSON_HEADERS = { "Content-Type": "application/json" };
const MOST_PATIENCE = 60; // seconds that a request waits in all for a server that asks it to come again
let key = "";

/** The server did not answer as asked. */
export class Refused extends Error {
  /** @param {string} message @param {number} status HTTP's; 0 where there was no answer at all */
  constructor(message, status) {
    super(message);
    this.status = status;
  }

  /** Whether a key, or another one, would help. */
  get needsKey() {
    return this.status === 401 || this.status === 403;
  }
}

/** Sends a key from now on. @param {string} text */
export function useKey(text) {
  key = text;
}

/** Who answers. @returns {Promise<string>} */
export async function describeOrigin() {
  const told = await (await ask("v2")).json();
  return `nanocv ${told.version}, at ${location.host}`;
}

/** All models, by name. @returns {Promise<Model[]>} */
export async function listModels() {
  const index = await (await ask("v2/repository/index", { method: "POST", headers: JSON_HEADERS, body: "{}" })).json();
  /** @type {Map<string, string>} */
  const states = new Map();
  for (const line of index) {
    if (line.state === "READY" || !states.has(line.name)) states.set(line.name, line.state ?? line.reason ?? "not loaded");
  }
  return Promise.all([...states].map(([name, state]) => described(name, state)));
}

/** Counters of the models that are loaded, by name. @returns {Promise<Map<string, Counters>>} */
export async function counters() {
  const told = await (await ask("v2/models/stats")).json();
  /** @type {Map<string, Counters>} */
  const found = new Map();
  for (const one of told.model_stats) {
    const times = one.inference_stats;
    const mean = (/** @type {{count: number, ns: number}} */ sum) => (sum.count ? sum.ns / sum.count / 1e6 : 0);
    found.set(one.name, {
      answered: times.success.count,
      failed: times.fail.count,
      images: one.inference_count,
      batches: one.execution_count,
      total: mean(times.success),
      queue: mean(times.queue),
      compute: mean(times.compute_infer),
    });
  }
  return found;
}

/**
 * What a model says of an image file, which is sent as it is.
 * @param {Model} model
 * @param {Blob} file JPEG, PNG or WebP
 * @param {AbortSignal} signal
 * @returns {Promise<Timed<import("./draw.js").Result>>}
 */
export async function answerImage(model, file, signal) {
  const request = { method: "POST", headers: { "Content-Type": file.type }, body: file, signal };
  return timed(() => ask(`v2/models/${encodeURIComponent(model.name)}/infer?attached=true`, request), async (answer) => {
    const told = await answer.json();
    return told.mask ? { ...told, mask: await readMask(told.mask) } : told;
  });
}

/**
 * Images of one class: image `k` of a seed is the one that `nanocv sample` makes.
 * @param {Model} model
 * @param {{label: number, seed: number, first: number, count: number, settings: Record<string, number>}} wanted
 *   class number; seed; number of the first image; how many, at most `model.rows`; settings that are not the model's own
 * @param {AbortSignal} signal
 * @returns {Promise<Timed<import("./draw.js").Made[]>>}
 */
export async function makeImages(model, wanted, signal) {
  const card = /** @type {Card} */ (model.card);
  const { count } = wanted;
  const side = card.input_size;
  const noise = new Float32Array(count * 3 * side * side);
  for (let row = 0; row < count; row++) {
    noise.set(imageNoise(wanted.seed, wanted.first + row, 3 * side * side), row * 3 * side * side);
  }
  const text = new TextEncoder().encode(JSON.stringify({
    parameters: { ...wanted.settings, binary_data_output: true },
    inputs: [
      tensor("noise", "FP32", [count, 3, side, side], noise.byteLength),
      { name: "label", datatype: "INT64", shape: [count, 1], data: Array(count).fill(wanted.label) },
    ],
  }));
  const headers = { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": String(text.length) };
  const request = { method: "POST", headers, body: new Blob([text, noise]), signal };
  const path = `v2/models/${encodeURIComponent(model.name)}/infer`;
  return timed(() => ask(path, request), async (answer) => {
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const begin = Number(answer.headers.get("Inference-Header-Content-Length"));
    const size = side * side * 3;
    return Array.from({ length: count }, (_, row) => ({
      width: side,
      height: side,
      pixels: bytes.subarray(begin + row * size, begin + (row + 1) * size),
      title: `${card.classes[wanted.label]}, image ${wanted.first + row} of seed ${wanted.seed}`,
    }));
  });
}

/**
 * A mask that came as an image file.
 * @param {string} url `data:image/png;base64,...`: class numbers as greys, in the size of the upright image
 * @returns {Promise<import("./draw.js").Mask>}
 */
async function readMask(url) {
  const file = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
  // Class numbers are no colours: nothing may adapt them to a screen.
  const grey = await createImageBitmap(new Blob([file], { type: "image/png" }), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(grey.width, grey.height);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.drawImage(grey, 0, 0);
  grey.close();
  const { width, height, data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const labels = new Uint8Array(width * height);
  for (let place = 0; place < labels.length; place++) labels[place] = data[4 * place];
  return { width, height, labels };
}

/** @param {string} name @param {string} datatype @param {number[]} shape @param {number} bytes that follow the JSON */
function tensor(name, datatype, shape, bytes) {
  return { name, datatype, shape, parameters: { binary_data_size: bytes } };
}

/** @param {string} name @param {string} state @returns {Promise<Model>} */
async function described(name, state) {
  /** @type {Model} */
  const model = { name, state, card: null, sampling: null, rows: 1, settings: {} };
  if (state !== "READY") return model;
  try {
    const config = await (await ask(`v2/models/${encodeURIComponent(name)}/config`)).json();
    model.rows = Math.max(1, config.max_batch_size);
    const card = expectCard(told(config, "nanocv.card"));
    model.settings = told(config, "nanocv.settings") ?? {};
    model.sampling = card?.config.model?.sampling ?? null;
    model.card = card;
  } catch (error) {
    if (error instanceof Refused && error.needsKey) throw error;
    model.state = error instanceof Error ? error.message : String(error);
  }
  return model;
}

/**
 * A card with all that this page takes for granted; null where there is none.
 * @param {any} card of others
 * @returns {Card | null}
 * @throws {Error} it lacks something
 */
function expectCard(card) {
  if (card === null) return null;
  const isObject = (/** @type {unknown} */ value) => typeof value === "object" && value !== null;
  const sampling = card.config?.model?.sampling ?? { steps: 1, guidance: 0 };
  const whole = Array.isArray(card.classes) && isObject(card.metrics) && isObject(card.config);
  if (whole && [sampling.steps, sampling.guidance].every(Number.isFinite)) return card;
  throw new Error("its model card is damaged");
}

/** What a parameter of an entry's config says in JSON; null without it. @param {any} config @param {string} name */
function told(config, name) {
  const text = config.parameters?.[name]?.string_value;
  return text ? JSON.parse(text) : null;
}

/**
 * @template Content
 * @param {() => Promise<Response>} question
 * @param {(answer: Response) => Promise<Content>} read
 * @returns {Promise<Timed<Content>>}
 */
async function timed(question, read) {
  const begun = performance.now();
  const answer = await question();
  const content = await read(answer);
  const trip = performance.now() - begun;
  const server = /\btotal;dur=([0-9.]+)/.exec(answer.headers.get("Server-Timing") ?? "");
  return { content, trip, server: server && Number(server[1]) };
}

/** @param {string} path @param {RequestInit} [request] @returns {Promise<Response>} */
async function ask(path, request = {}) {
  let patience = MOST_PATIENCE;
  let answer = await send(path, request);
  while (answer.status === 429) {
    const seconds = Number(answer.headers.get("Retry-After"));
    if (!(seconds > 0 && seconds <= patience)) break;
    patience -= seconds;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    answer = await send(path, request);
  }
  if (answer.ok) return answer;
  const said = await answer.text();
  let message = `The server answers ${answer.status}.`;
  try {
    const { error } = JSON.parse(said);
    if (typeof error === "string") message = error;
  } catch {
    // It is no server of KServe that answers here: a proxy, perhaps. The status has to do.
  }
  throw new Refused(message, answer.status);
}

/** @param {string} path @param {RequestInit} request @returns {Promise<Response>} whatever its status */
async function send(path, request) {
  const headers = new Headers(request.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  try {
    return await fetch(path, { ...request, headers, credentials: "omit", cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refused("The server does not answer.", 0);
  }
}
