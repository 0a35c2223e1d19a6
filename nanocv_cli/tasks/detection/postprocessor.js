// Boxes become named objects in pixels of the image in a browser, as postprocessor.py makes them.

/** Most objects in an image where nobody names a number. */
export const top = 100;

// Shown where the card knows no better threshold for a class.
const SHOWN_SCORE = 0.3;
const LOWEST_SHOWN = 0.1;
const HIGHEST_SHOWN = 0.6;

/**
 * The objects in an image, surest first: those whose score reaches their class's threshold.
 *
 * @param {Record<string, {data: ArrayLike<number | bigint>, dims: readonly number[]}>} outputs
 *   `boxes` [1,K,4] xyxy in 0..1, `scores` [1,K], `labels` [1,K].
 * @param {{name: string, classes: string[], metrics: Record<string, any>}} card the model's.
 * @param {number} most objects.
 * @param {[number, number]} size width and height of the image, pixels.
 * @returns {{predictions: {label: string, score: number, box: number[]}[]}} corners to a hundredth of a pixel.
 * @throws {Error} the graph has no such outputs, or answers NaN, infinity or a class that the card does not name.
 */
export function postprocess(outputs, card, most, [width, height]) {
  const { boxes, scores, labels } = outputs;
  const count = scores?.dims[1];
  if (!boxes || !labels || boxes.dims.join() !== `1,${count},4` || labels.dims.join() !== `1,${count}`) {
    throw new Error(`the graph of ${card.name} returns no boxes [N,K,4], scores [N,K] and labels [N,K]`);
  }
  const thresholds = card.classes.map((name) => threshold(card, name));
  const found = [];
  for (let place = 0; place < count; place += 1) {
    const score = Number(scores.data[place]);
    const corners = Array.from({ length: 4 }, (_, axis) => Number(boxes.data[4 * place + axis]));
    if (![score, ...corners].every(Number.isFinite)) throw new Error(`the graph of ${card.name} answers NaN or infinity`);
    if (score <= 0) continue;
    const label = Number(labels.data[place]);
    if (!(label in card.classes)) {
      throw new Error(`the graph of ${card.name} answers class ${label}, its card names ${card.classes.length}`);
    }
    if (score < thresholds[label]) continue;
    const box = corners.map((corner, axis) => {
      const pixels = Math.min(Math.max(corner, 0), 1) * (axis % 2 ? height : width);
      return Math.round(100 * pixels) / 100;
    });
    found.push({ label: card.classes[label], score, box });
  }
  found.sort((one, other) => other.score - one.score);
  return { predictions: found.slice(0, most) };
}

/** The lowest score of a class that is shown. */
function threshold(card, name) {
  const classes = card.metrics?.per_class ?? {};
  const value = Object.hasOwn(classes, name) ? classes[name]?.threshold : undefined;
  return typeof value === "number" ? Math.min(HIGHEST_SHOWN, Math.max(LOWEST_SHOWN, value)) : SHOWN_SCORE;
}
