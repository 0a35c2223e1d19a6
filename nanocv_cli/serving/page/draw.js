// Draws a model's answer for one image: bars for classes, frames for boxes, colours for a mask.
// What is drawn follows from the keys that the answer has. Names of others become text nodes, never markup.

/**
 * One thing that a model says of an image. Keys beyond these are shown as they are.
 * @typedef {object} Prediction
 * @property {string} label class name
 * @property {number} [score] 0..1
 * @property {number} [share] 0..1 of the image's pixels
 * @property {number[]} [box] x0, y0, x1, y1 in pixels of the upright image
 */

/**
 * A class for each pixel of the upright image; numbers that have no name are pixels of no class.
 * @typedef {object} Mask
 * @property {number} width pixels
 * @property {number} height pixels
 * @property {Uint8Array} labels class numbers by rows
 */

/**
 * The JSON document that `nanocv infer --json` prints for an image, its mask read.
 * @typedef {object} Result
 * @property {Prediction[]} predictions surest, or largest, first
 * @property {Mask} [mask]
 */

/**
 * An image as a model made it.
 * @typedef {object} Made
 * @property {number} width pixels
 * @property {number} height pixels
 * @property {Uint8Array} pixels red, green and blue, by rows
 * @property {string} title what it shows, for who cannot see it
 */

const SVG = "http://www.w3.org/2000/svg";
const GOLDEN_RATIO = 0.618033988749895;
const HUES_PER_TONE = 8;
const TONES = [[0.72, 1.0], [0.4, 1.0], [0.85, 0.72]]; // saturation and value
const OPACITY = 0.55; // of a mask's colours
const BACKGROUND = "background"; // the class that stays clear
const TEXT_PER_SIDE = 30; // a frame's text is one part in this of the image's shorter side
const KNOWN_KEYS = ["label", "score", "share", "box"];

/**
 * Replaces what is in `target` by the image with the answer on it, and a list of what was found.
 * @param {Result} result the answer
 * @param {HTMLImageElement | HTMLCanvasElement} image upright, loaded; it becomes a part of `target`
 * @param {HTMLElement} target
 * @param {string[]} classes names in label order; a class's colour follows from its place
 */
export function draw(result, image, target, classes) {
  const stage = element("div", "stage", image);
  const [width, height] = size(image);
  stage.style.setProperty("--width", String(width));
  stage.style.setProperty("--ratio", String(width / height));
  if (result.mask) stage.append(maskLayer(result.mask, classes));
  const frames = result.predictions.filter((found) => found.box);
  const layer = frames.length ? frameLayer(frames, image, classes) : null;
  if (layer) stage.append(layer);
  target.replaceChildren(stage, list(result.predictions, classes, layer));
  if (layer) writeNames(layer, frames, classes);
}

/**
 * Replaces what is in `target` by images that a model made.
 * @param {Made[]} images
 * @param {HTMLElement} target
 */
export function drawMade(images, target) {
  target.replaceChildren(element("div", "made", ...images.map((image) => {
    const pixels = new ImageData(image.width, image.height);
    for (let from = 0, to = 0; from < image.pixels.length; from += 3, to += 4) {
      pixels.data.set(image.pixels.subarray(from, from + 3), to);
      pixels.data[to + 3] = 255;
    }
    const canvas = canvasOf(pixels);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", image.title);
    canvas.title = image.title;
    return canvas;
  })));
}

/**
 * A new element.
 * @param {string} name of the tag
 * @param {string} [className]
 * @param {...(Node | string)} content strings become text
 * @returns {HTMLElement}
 */
export function element(name, className = "", ...content) {
  const built = document.createElement(name);
  if (className) built.className = className;
  built.append(...content);
  return built;
}

/**
 * A class's colour, that of nanocv's own drawings: hues a golden ratio apart, in three tones by turns of eight.
 * @param {number} label class number from 0 on
 * @returns {[number, number, number]} red, green and blue, 0..255
 */
export function classColour(label) {
  const [saturation, value] = TONES[Math.floor(label / HUES_PER_TONE) % TONES.length];
  const hue = ((0.12 + label * GOLDEN_RATIO) % 1) * 6;
  const channel = (/** @type {number} */ shift) => {
    const place = (shift + hue) % 6;
    return Math.round(255 * value * (1 - saturation * Math.max(0, Math.min(place, 4 - place, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

/**
 * @param {Prediction[]} predictions
 * @param {string[]} classes
 * @param {SVGElement | null} layer frames in the same order: one stands out while its line is pointed at
 */
function list(predictions, classes, layer) {
  if (!predictions.length) return element("p", "nothing", "Nothing found.");
  const frames = predictions.filter((found) => found.box);
  const rows = predictions.map((found) => {
    const row = element("li", "", swatch(found.label, classes), element("span", "name", found.label), figures(found));
    const bar = found.share ?? found.score;
    if (bar !== undefined) row.append(track(bar, found.label, classes));
    if (layer && found.box) {
      const frame = layer.children[frames.indexOf(found)];
      const mark = (/** @type {boolean} */ on) => frame.classList.toggle("marked", on);
      row.addEventListener("pointerenter", () => mark(true));
      row.addEventListener("pointerleave", () => mark(false));
    }
    return row;
  });
  const found = element("ol", "found", ...rows);
  found.tabIndex = 0; // it may be longer than its room, and keys have to reach its end
  found.setAttribute("aria-label", "What the model says");
  return found;
}

/** @param {Prediction} found */
function figures(found) {
  const words = [];
  if (found.share !== undefined) words.push(`${percent(found.share)} of the image`);
  if (found.score !== undefined) words.push(found.share === undefined ? percent(found.score) : `confidence ${percent(found.score)}`);
  for (const [key, value] of Object.entries(found)) {
    if (!KNOWN_KEYS.includes(key)) words.push(`${key} ${typeof value === "object" ? JSON.stringify(value) : value}`);
  }
  return element("span", "figures", words.join(", "));
}

/** @param {string} label @param {string[]} classes */
function swatch(label, classes) {
  const square = element("span", "swatch");
  square.style.background = css(label, classes);
  return square;
}

/** @param {number} share @param {string} label @param {string[]} classes */
function track(share, label, classes) {
  const fill = element("span", "fill");
  fill.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
  fill.style.background = css(label, classes);
  return element("span", "track", fill);
}

/**
 * Frames around objects, the surest on top; names are written by `writeNames` once the layer is in the page.
 * @param {Prediction[]} frames
 * @param {HTMLImageElement | HTMLCanvasElement} image
 * @param {string[]} classes
 */
function frameLayer(frames, image, classes) {
  const [width, height] = size(image);
  const layer = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "frames", "aria-hidden": "true" });
  for (const found of frames) {
    const [x0, y0, x1, y1] = /** @type {number[]} */ (found.box);
    const place = { x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) };
    const frame = svg("g", {});
    frame.append(svg("rect", { ...place, class: "edge" }), svg("rect", { ...place, stroke: css(found.label, classes) }));
    layer.append(frame);
  }
  return layer;
}

/**
 * Writes class and score at each frame that has room for them.
 * @param {SVGElement} layer
 * @param {Prediction[]} frames
 * @param {string[]} classes
 */
function writeNames(layer, frames, classes) {
  const box = /** @type {SVGSVGElement} */ (layer).viewBox.baseVal;
  const letters = Math.max(9, Math.min(box.width, box.height) / TEXT_PER_SIDE);
  /** @type {number[][]} */
  const taken = [];
  frames.forEach((found, number) => {
    const [left, top] = /** @type {number[]} */ (found.box);
    const text = /** @type {SVGTextElement} */ (svg("text", { "font-size": letters, "dominant-baseline": "central" }));
    text.textContent = found.score === undefined ? found.label : `${found.label} ${Math.round(100 * found.score)}`;
    layer.children[number].append(text);
    const width = text.getComputedTextLength() + letters / 2;
    const height = letters * 1.35;
    const x = Math.min(Math.max(0, left), box.width - width);
    const y = top >= height ? top - height : Math.max(0, top); // above the frame, else inside it
    const overlaps = taken.some((t) => x < t[2] && t[0] < x + width && y < t[3] && t[1] < y + height);
    if (x < 0 || overlaps) {
      text.remove();
      return;
    }
    taken.push([x, y, x + width, y + height]);
    const colour = classColour(Math.max(0, classes.indexOf(found.label)));
    const ground = svg("rect", { x, y, width, height, class: "ground", fill: css(found.label, classes) });
    text.setAttribute("x", String(x + letters / 4));
    text.setAttribute("y", String(y + height / 2));
    text.setAttribute("fill", inkOn(colour));
    text.before(ground);
  });
}

/**
 * Black or white, whichever can be read better on a colour: its contrast, as WCAG 2 has it, is then 4.5 or more.
 * @param {[number, number, number]} colour red, green and blue, 0..255
 */
function inkOn(colour) {
  const [red, green, blue] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return luminance > 0.179 ? "#000" : "#fff"; // where both have the same contrast
}

/**
 * A mask's classes in their colours, clear where there is no class.
 * @param {Mask} mask
 * @param {string[]} classes
 */
function maskLayer(mask, classes) {
  const colours = new Uint8Array(4 * 256); // for each value of a mask; those without a name stay clear
  classes.slice(0, 256).forEach((name, label) => {
    colours.set([...classColour(label), name === BACKGROUND ? 0 : Math.round(255 * OPACITY)], 4 * label);
  });
  const pixels = new ImageData(mask.width, mask.height);
  // A word for each pixel, for a mask may have millions, and nothing else is done meanwhile.
  const [words, from] = [new Uint32Array(pixels.data.buffer), new Uint32Array(colours.buffer)];
  for (let place = 0; place < words.length; place++) words[place] = from[mask.labels[place]];
  const canvas = canvasOf(pixels);
  canvas.setAttribute("aria-hidden", "true");
  return canvas;
}

/** @param {number} share 0..1 */
function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

/** @param {string} label @param {string[]} classes */
function css(label, classes) {
  return `rgb(${classColour(Math.max(0, classes.indexOf(label))).join(" ")})`;
}

/** @param {HTMLImageElement | HTMLCanvasElement} image @returns {[number, number]} pixels */
function size(image) {
  return image instanceof HTMLImageElement ? [image.naturalWidth, image.naturalHeight] : [image.width, image.height];
}

/** @param {ImageData} pixels */
function canvasOf(pixels) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [pixels.width, pixels.height];
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
  return canvas;
}

/** @param {string} name @param {Record<string, string | number>} attributes */
function svg(name, attributes) {
  const built = /** @type {SVGElement} */ (document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) built.setAttribute(key, String(value));
  return built;
}
