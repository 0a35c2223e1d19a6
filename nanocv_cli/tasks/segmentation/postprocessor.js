// A mask in the size of the image and shares of classes in a browser, as postprocessor.py makes them.

/** Most classes of an image where nobody names a number. */
export const top = 30;

// Classes on fewer pixels than this share are not named.
const SMALLEST_SHARE = 1e-3;
// In the mask, of pixels that the model was not shown.
const UNSEEN = 255;

/**
 * An image's mask, and the classes that cover it, largest first.
 *
 * @param {Record<string, {data: ArrayLike<number>, dims: readonly number[]}>} outputs
 *   `mask` uint8 [1,S,S], `confidence` [1,S,S].
 * @param {{name: string, classes: string[], resize: string}} card the model's.
 * @param {number} most classes that are named.
 * @param {[number, number]} size width and height of the image, pixels; the mask is enlarged to it by nearest pixels.
 * @returns {{predictions: {label: string, score: number, share: number}[],
 *   mask: {width: number, height: number, labels: Uint8Array}}}
 * @throws {Error} the graph has no such outputs, or answers NaN or a class that the card does not name.
 */
export function postprocess(outputs, card, most, size) {
  const { mask, confidence } = outputs;
  if (mask?.dims.length !== 3 || mask.dims.join() !== confidence?.dims.join()) {
    throw new Error(`the graph of ${card.name} returns no mask [N,H,W] and confidence [N,H,W]`);
  }
  const counts = new Float64Array(card.classes.length);
  const sums = new Float64Array(card.classes.length);
  for (let place = 0; place < mask.data.length; place += 1) {
    const label = mask.data[place];
    if (!(label in card.classes)) {
      throw new Error(`the graph of ${card.name} answers class ${label}, its card names ${card.classes.length}`);
    }
    if (!Number.isFinite(confidence.data[place])) throw new Error(`the graph of ${card.name} answers NaN or infinity`);
    counts[label] += 1;
    sums[label] += confidence.data[place];
  }
  const predictions = card.classes
    .map((label, index) => ({ label, score: sums[index] / counts[index], share: counts[index] / mask.data.length }))
    .filter((region) => region.share >= SMALLEST_SHARE)
    .sort((one, other) => other.share - one.share)
    .slice(0, most);
  return { predictions, mask: inOwnSize(mask, card.resize, size) };
}

/** The mask enlarged to the image; `UNSEEN` where the image was cropped away. */
function inOwnSize(mask, rule, [width, height]) {
  const [, rows, columns] = mask.dims;
  const side = Math.min(width, height);
  const edges = rule === "crop" ? [(width - side) / 2, (height - side) / 2] : [0, 0];
  const [left, upper] = edges.map(roundToEven);
  const right = rule === "crop" ? roundToEven(edges[0] + side) : width;
  const lower = rule === "crop" ? roundToEven(edges[1] + side) : height;
  const labels = new Uint8Array(width * height).fill(UNSEEN);
  const across = nearest(columns, right - left);
  const down = nearest(rows, lower - upper);
  for (let y = upper; y < lower; y += 1) {
    const row = down[y - upper] * columns;
    for (let x = left; x < right; x += 1) labels[y * width + x] = mask.data[row + across[x - left]];
  }
  return { width, height, labels };
}

/** From which of `given` places each of `wanted` is taken, summed up as Pillow does. */
function nearest(given, wanted) {
  const step = given / wanted;
  let place = step / 2;
  return Int32Array.from({ length: wanted }, () => {
    const taken = Math.min(Math.floor(place), given - 1);
    place += step;
    return taken;
  });
}

/** A half to the even neighbour, as Python rounds. */
function roundToEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
