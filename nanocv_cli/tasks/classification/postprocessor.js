// Probabilities become named answers in a browser, as postprocessor.py makes them.

/** Most answers for an image where nobody names a number. */
export const top = 5;

/**
 * The most probable classes of an image; of equals, the one that the card names first.
 *
 * @param {Record<string, {data: ArrayLike<number>, dims: readonly number[]}>} outputs
 *   `probabilities` [1, classes], each 0..1.
 * @param {{name: string, classes: string[]}} card the model's.
 * @param {number} most answers.
 * @returns {{predictions: {label: string, score: number}[]}}
 * @throws {Error} the graph has no such output, or answers NaN or infinity.
 */
export function postprocess(outputs, card, most) {
  const probabilities = outputs.probabilities;
  if (probabilities?.dims.length !== 2 || probabilities.dims[1] !== card.classes.length) {
    throw new Error(`the graph of ${card.name} returns no probabilities [N,${card.classes.length}]`);
  }
  const scores = Array.from(probabilities.data).slice(0, card.classes.length);
  if (!scores.every(Number.isFinite)) throw new Error(`the graph of ${card.name} answers NaN or infinity`);
  const predictions = scores
    .map((score, index) => ({ label: card.classes[index], score }))
    .sort((one, other) => other.score - one.score)
    .slice(0, most);
  return { predictions };
}
