// The page itself: which model is tried, with what, and what came of it. Who answers is `models.js`, how an answer
// looks is `draw.js`, what is said of it `words.js`.

import { closeCamera, offerCamera } from "./camera.js";
import { draw, drawMade, element } from "./draw.js";
import { Refused, answerImage, counters, describeOrigin, listModels, makeImages, useKey } from "./models.js";
import { cardFacts, counterFacts, duration, summary, took } from "./words.js";

/** @typedef {import("./models.js").Model} Model */
/** @typedef {import("./models.js").Counters} Counters */

const FILE_TYPES = ["image/jpeg", "image/png", "image/webp"];
const REFRESH_MS = 5000;
const SETTINGS = /** @type {("steps" | "guidance")[]} */ (["steps", "guidance"]); // that a sampler may offer

/** @type {Model[]} */
let models = [];
/** @type {Model | null} */
let chosen = null;
/** @type {Map<string, Counters>} */
let counted = new Map();
/** @type {Blob | null} */
let image = null; // the last one that was tried, for when another model is chosen
let refreshing = false; // a server may take longer than until the next time
let asking = new AbortController(); // of the question that is under way: the next one takes its place

/** @param {string} id @returns {HTMLElement} */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @param {string} id */
const input = (id) => /** @type {HTMLInputElement} */ (at(id));

// Models.

async function load() {
  await attempt(async () => {
    at("origin").textContent = await describeOrigin();
    [models, counted] = await Promise.all([listModels(), counters()]);
    at("key-form").hidden = true;
    at("models").replaceChildren(...models.map(choice));
    const ready = models.filter((model) => model.card);
    const first = ready.find((model) => model.name === chosen?.name) ?? ready[0];
    if (first) choose(first);
    else status("No model here has a model card, so none can be tried.");
  });
}

/** @param {Model} model */
function choice(model) {
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "model", value: model.name, disabled: !model.card });
  radio.addEventListener("change", () => choose(model));
  const note = model.card ? `${model.card.task}, ${model.card.classes.length} classes` : without(model);
  const words = element("span", "words", element("b", "", model.name), element("span", "soft", note));
  const figures = element("span", "soft figures");
  figures.dataset.model = model.name;
  return element("label", "choice", radio, words, figures);
}

/** @param {Model} model */
function without(model) {
  return model.state === "READY" ? "no model card" : model.state;
}

/** @param {Model} model */
function choose(model) {
  chosen = model;
  for (const radio of document.querySelectorAll("input[name=model]")) {
    if (radio instanceof HTMLInputElement) radio.checked = radio.value === model.name;
  }
  const sampling = model.sampling;
  at("try-title").textContent = `Try ${model.name}`;
  at("image-form").hidden = Boolean(sampling);
  at("sample-form").hidden = !sampling;
  if (sampling) {
    closeCamera();
    prepareSampling(model, sampling);
  }
  ask(null);
  showFacts("card", cardFacts(model));
  showCounters();
  if (image && !sampling) tryImage(image);
}

function showCounters() {
  for (const figures of document.querySelectorAll("#models .figures")) {
    if (!(figures instanceof HTMLElement)) continue;
    const one = counted.get(figures.dataset.model ?? "");
    figures.textContent = one?.answered ? `${one.answered} answered, ${duration(one.total)} each` : "";
  }
  const own = chosen && counted.get(chosen.name);
  showFacts("statistics", own ? counterFacts(own) : []);
}

/** @param {string} id @param {[string, string][]} facts */
function showFacts(id, facts) {
  at(id).replaceChildren(...facts.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
}

// Images.

/** @param {Blob | null | undefined} file */
async function tryImage(file) {
  const model = chosen;
  if (!file || !model?.card || model.sampling) return;
  if (!FILE_TYPES.includes(file.type)) return problem(`This is ${file.type || "no image"}; JPEG, PNG and WebP can be tried.`);
  image = file;
  const classes = model.card.classes;
  await ask(async (signal) => {
    const [shown, told] = await Promise.all([pictured(file), answerImage(model, file, signal)]);
    if (signal.aborted) return;
    draw(told.content, shown, at("answer"), classes);
    status(`${summary(told.content.predictions)} ${took(told)}`);
  });
}

/** @param {Blob} file @returns {Promise<HTMLImageElement>} */
async function pictured(file) {
  const shown = new Image();
  shown.alt = "The image that was tried";
  shown.src = URL.createObjectURL(file);
  try {
    await shown.decode();
  } catch {
    throw new Error("This browser cannot show that file.");
  } finally {
    URL.revokeObjectURL(shown.src);
  }
  return shown;
}

// Sampling.

/** @param {Model} model @param {import("./models.js").Sampling} sampling */
function prepareSampling(model, sampling) {
  const names = model.card?.classes ?? [];
  at("label").replaceChildren(...names.map((name, label) => {
    const option = /** @type {HTMLOptionElement} */ (element("option", "", name));
    option.value = String(label);
    return option;
  }));
  for (const name of SETTINGS) {
    const field = input(name);
    const bounds = model.settings[name];
    const own = sampling[name]; // it may lie outside of the bounds, which are those of others
    const [low, high] = bounds ?? [own, own];
    const [min, max] = [String(Math.min(low, own)), String(Math.max(high, own))];
    Object.assign(field, { disabled: !bounds, min, max, value: String(own) });
    field.title = bounds ? `${bounds[0]} to ${bounds[1]}` : "This entry makes images by its own settings alone.";
  }
}

async function sample() {
  const model = chosen;
  const own = model?.sampling;
  if (!own) return;
  /** @type {Record<string, number>} */
  const settings = {};
  for (const name of SETTINGS) {
    const value = input(name).valueAsNumber;
    if (model.settings[name] && value !== own[name]) settings[name] = value;
  }
  const [label, seed, count] = [Number(input("label").value), input("seed").valueAsNumber, input("count").valueAsNumber];
  await ask(async (signal) => {
    const images = [];
    let [trip, server] = [0, 0];
    while (images.length < count) {
      const wanted = { label, seed, settings, first: images.length, count: Math.min(model.rows, count - images.length) };
      const told = await makeImages(model, wanted, signal);
      if (signal.aborted) return;
      images.push(...told.content);
      [trip, server] = [trip + told.trip, server + (told.server ?? NaN)];
      drawMade(images, at("answer"));
    }
    status(`${images.length} ${images.length > 1 ? "images" : "image"}. ${took({ trip, server: server || null })}`);
  });
}

// Asking.

/**
 * Puts a question in the place of the one that is under way, and shows what goes wrong with it.
 * @param {((signal: AbortSignal) => Promise<void>) | null} question null asks nothing
 */
async function ask(question) {
  asking.abort();
  const own = (asking = new AbortController());
  problem("");
  if (!question) {
    at("answer").replaceChildren();
    at("answer").removeAttribute("aria-busy");
    return status("");
  }
  at("answer").setAttribute("aria-busy", "true");
  status("Asking …");
  const done = await attempt(async () => {
    await question(own.signal);
    return true;
  }, own.signal);
  if (own.signal.aborted) return;
  at("answer").removeAttribute("aria-busy");
  if (!done) {
    at("answer").replaceChildren();
    status("");
  }
  await refresh();
}

/**
 * The outcome of some work; null where it failed, and then the page says why.
 * @template Outcome
 * @param {() => Promise<Outcome>} work
 * @param {AbortSignal} [signal] failures after it are nobody's business
 * @returns {Promise<Outcome | null>}
 */
async function attempt(work, signal) {
  try {
    return await work();
  } catch (error) {
    if (signal?.aborted) return null;
    if (error instanceof Refused && error.needsKey) {
      at("key-form").hidden = false;
      input("key").focus();
    }
    problem(error instanceof Error ? error.message : String(error));
    return null;
  }
}

async function refresh() {
  if (refreshing || document.hidden || !models.length || !at("key-form").hidden) return;
  refreshing = true;
  try {
    counted = await counters();
    showCounters();
  } catch {
    // What fails here fails again, and is told, with the next question.
  } finally {
    refreshing = false;
  }
}

/** @param {string} text */
function status(text) {
  at("status").textContent = text;
}

/** @param {string} text empty: there is none */
function problem(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

// What people do.

at("choose").addEventListener("click", () => input("file").click());
input("file").addEventListener("change", () => {
  tryImage(input("file").files?.[0]);
  input("file").value = ""; // so that the same file can be chosen again
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault(); // else the browser leaves this page for the file
    at("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
  });
}
document.addEventListener("drop", (event) => tryImage(event.dataTransfer?.files[0]));
document.addEventListener("paste", (event) => {
  const files = Array.from(event.clipboardData?.files ?? []);
  if (files.length) tryImage(files.find((file) => FILE_TYPES.includes(file.type)) ?? files[0]);
});
offerCamera(tryImage, problem);
at("sample-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sample();
});
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(input("key").value);
  input("key").value = "";
  problem("");
  load();
});
setInterval(refresh, REFRESH_MS);
load();
