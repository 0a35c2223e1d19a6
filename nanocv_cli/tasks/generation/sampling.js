// Images from noise by an exported graph in a browser, as sampling.py makes them: the same image for the same seed.

import { imageNoise } from "./noise.js"; // of the page

const ALL_THE_WAY = 2 ** 31 - 1; // evaluations

/**
 * What the graph is given for one image.
 *
 * @param {{name: string, classes: string[], input_size: number, config: Record<string, any>}} card the model's.
 * @param {{label: number, seed: number, first: number, settings: {steps?: number, guidance?: number}}} wanted
 *   class number; seed; number of the image; settings that are not the model's own.
 * @returns {Record<string, [string, any, number[]]>} type, values and shape of each input.
 * @throws {Error} there is no such class, or a setting is neither asked for nor told by the card.
 */
export function feeds(card, wanted) {
  const { label, seed, first } = wanted;
  const { steps, guidance, solver } = { ...card.config?.model?.sampling, ...wanted.settings };
  if (!(label in card.classes)) throw new Error(`${card.name} knows no class ${label}`);
  const side = card.input_size;
  return {
    noise: ["float32", imageNoise(seed, first, 3 * side * side), [1, 3, side, side]],
    label: ["int64", BigInt64Array.of(BigInt(label)), [1]],
    steps: ["int64", BigInt64Array.of(BigInt(Math.round(steps))), []],
    guidance: ["float32", Float32Array.of(guidance), []],
    heun: ["bool", Uint8Array.of(solver === "heun" ? 1 : 0), []],
    evaluations: ["int64", BigInt64Array.of(BigInt(ALL_THE_WAY)), []],
  };
}

/**
 * The image that the graph made.
 *
 * @param {Record<string, {data: Uint8Array, dims: readonly number[]}>} outputs `image` uint8 [1,H,W,3].
 * @param {{name: string}} card the model's.
 * @returns {{width: number, height: number, pixels: Uint8Array}} red, green and blue, by rows.
 * @throws {Error} the graph has no such output.
 */
export function image(outputs, card) {
  const [count, height, width, channels] = outputs.image?.dims ?? [];
  if (count !== 1 || channels !== 3) throw new Error(`the graph of ${card.name} returns no image [N,H,W,3]`);
  return { width, height, pixels: outputs.image.data };
}
