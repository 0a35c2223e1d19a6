// The noise that images begin with: the very numbers of numpy's `Generator(PCG64([seed, number])).standard_normal` in
// float32, so that a seed makes the same image here and by `nanocv sample`.

const MASK_64 = (1n << 64n) - 1n;
const MASK_128 = (1n << 128n) - 1n;
const PCG_MULTIPLIER = (0x2360ed051fc65da4n << 64n) | 0x4385df649fccf645n;
const LAYERS = 256;
const EDGE = 3.6541528853610088; // where the tail begins
const AREA = 0.00492867323397465525; // of each layer
const [WIDTHS, BOUNDS, HEIGHTS] = ziggurat();

/**
 * Standard normal numbers.
 * @param {number} seed whole, from 0 to 2^32 - 1
 * @param {number} number of the image, likewise
 * @param {number} count of numbers
 * @returns {Float32Array}
 */
export function imageNoise(seed, number, count) {
  const next = pcg64(seedSequence([seed, number]));
  return Float32Array.from({ length: count }, () => normal(next));
}

/**
 * numpy's SeedSequence (M. O'Neill's `seed_seq_fe`): few numbers become eight well mixed ones.
 * @param {number[]} entropy 32 bits each, at most four
 * @returns {Uint32Array}
 */
function seedSequence(entropy) {
  let constant = 0x43b0d7e5;
  const hashed = (/** @type {number} */ value, /** @type {number} */ multiplier) => {
    const mixed = value ^ constant;
    constant = Math.imul(constant, multiplier);
    const product = Math.imul(mixed, constant);
    return product ^ (product >>> 16);
  };
  const pool = [0, 1, 2, 3].map((place) => hashed(entropy[place] ?? 0, 0x931e8875));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) {
      if (from === to) continue;
      const joined = Math.imul(0xca01f9dd, pool[to]) - Math.imul(0x4973f715, hashed(pool[from], 0x931e8875));
      pool[to] = joined ^ ((joined >>> 0) >>> 16);
    }
  }
  constant = 0x8b51f9dd;
  return Uint32Array.from({ length: 8 }, (_, place) => hashed(pool[place % 4], 0x58f38ded));
}

/**
 * The generator PCG64 (XSL-RR), 32 bits at a time.
 * @param {Uint32Array} seed eight numbers
 * @returns {() => number} gives the next one, 0 to 2^32 - 1
 */
function pcg64(seed) {
  const word = (/** @type {number} */ place) => BigInt(seed[2 * place]) | (BigInt(seed[2 * place + 1]) << 32n);
  const increment = ((((word(2) << 64n) | word(3)) << 1n) | 1n) & MASK_128;
  const step = (/** @type {bigint} */ from) => (from * PCG_MULTIPLIER + increment) & MASK_128;
  let state = step((step(0n) + ((word(0) << 64n) | word(1))) & MASK_128);
  /** @type {number | null} */
  let kept = null;
  return () => {
    if (kept !== null) {
      const half = kept;
      kept = null;
      return half;
    }
    state = step(state);
    const folded = (state >> 64n) ^ (state & MASK_64);
    const turn = state >> 122n;
    const bits = ((folded >> turn) | (folded << (64n - turn))) & MASK_64;
    kept = Number(bits >> 32n);
    return Number(bits & 0xffffffffn);
  };
}

/**
 * One number by Marsaglia and Tsang's ziggurat, in the order of numpy's `random_standard_normal_f`.
 * @param {() => number} next 32 random bits
 */
function normal(next) {
  const share = () => (next() >>> 8) / 16777216;
  for (;;) {
    const bits = next();
    const layer = bits & 0xff;
    const size = bits >>> 9;
    const value = Math.fround(size * WIDTHS[layer]) * (bits & 0x100 ? -1 : 1);
    if (size < BOUNDS[layer]) return value;
    if (layer === 0) {
      for (;;) {
        const beyond = Math.fround(-Math.fround(1 / EDGE) * Math.fround(Math.log1p(-share())));
        const height = -Math.fround(Math.log1p(-share()));
        if (height + height > beyond * beyond) return (size & 0x100 ? -1 : 1) * Math.fround(Math.fround(EDGE) + beyond);
      }
    }
    const place = Math.fround(Math.fround(HEIGHTS[layer - 1] - HEIGHTS[layer]) * share());
    if (Math.fround(place + HEIGHTS[layer]) < Math.exp(-0.5 * value * value)) return value;
  }
}

/**
 * The layers of equal area under the bell: width of a 23-bit step, bound below which all is inside, height.
 * @returns {[Float32Array, Uint32Array, Float32Array]}
 */
function ziggurat() {
  const bell = (/** @type {number} */ x) => Math.exp(-0.5 * x * x);
  const edges = new Float64Array(LAYERS);
  edges[LAYERS - 1] = EDGE;
  for (let layer = LAYERS - 1; layer > 1; layer--) {
    edges[layer - 1] = Math.sqrt(-2 * Math.log(AREA / edges[layer] + bell(edges[layer])));
  }
  const widest = AREA / bell(EDGE); // the lowest layer with its tail, as a rectangle
  const steps = 1 << 23;
  const widths = Float32Array.from(edges, (edge, layer) => (layer ? edge : widest) / steps);
  const bounds = Uint32Array.from(edges, (edge, layer) => Math.round((layer ? edges[layer - 1] / edge : EDGE / widest) * steps));
  return [widths, bounds, Float32Array.from(edges, bell)];
}
