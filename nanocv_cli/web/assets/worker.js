// The model in a thread of its own, so that the page stays at hand while it works.

import * as ort from "./runtime/onnxruntime.js";
import { readSquare } from "./pixels.js";
import * as task from "./task.js";

const here = new URL(".", import.meta.url);
const opened = open();

/** The card, and the graph's session. */
async function open() {
  ort.env.wasm.numThreads = 1; // several need headers that a static host does not send
  ort.env.wasm.wasmPaths = { wasm: new URL("runtime/onnxruntime.wasm", here).href };
  const [told, graph] = await Promise.all([got("model.json"), got("model.onnx")]);
  const { card } = await told.json();
  const bytes = new Uint8Array(await graph.arrayBuffer());
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  return { card, session };
}

/** @param {string} name of a file of this folder. @returns {Promise<Response>} */
async function got(name) {
  const answer = await fetch(new URL(name, here));
  if (!answer.ok) throw new Error(`${name} cannot be had: ${answer.status}`);
  return answer;
}

/** What can be asked for, by name; each gives its content, and the milliseconds in the graph. */
const ANSWERS = {
  /** Nothing but that the model is there. */
  async open() {
    return { graph: 0 };
  },

  /** What an image file shows: the keys of `nanocv infer --json`. */
  async infer({ card, session }, file) {
    const { square, width, height } = await readSquare(file, card.input_size, card.resize);
    const shape = [1, card.input_size, card.input_size, 3];
    const { outputs, graph } = await run(session, { [session.inputNames[0]]: ["uint8", square, shape] });
    return { content: task.postprocess(outputs, card, task.top, [width, height]), graph };
  },

  /** One image of a class. */
  async sample({ card, session }, wanted) {
    const { outputs, graph } = await run(session, task.feeds(card, wanted));
    return { content: task.image(outputs, card), graph };
  },
};

/** The graph's outputs for inputs by name, each with type, values and shape. */
async function run(session, inputs) {
  const entries = Object.entries(inputs).map(([name, tensor]) => [name, new ort.Tensor(...tensor)]);
  const begun = performance.now();
  const outputs = await session.run(Object.fromEntries(entries));
  return { outputs, graph: performance.now() - begun };
}

self.addEventListener("message", async ({ data: { number, what, request } }) => {
  try {
    self.postMessage({ number, answer: await ANSWERS[what](await opened, request) });
  } catch (error) {
    self.postMessage({ number, problem: String(error?.message ?? error) }); // WebAssembly throws numbers too
  }
});
