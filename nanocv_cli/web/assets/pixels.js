// Any image file as the square that a model reads, in a browser: the rule of images/resize.py, to the same bytes.

const PRECISION = 22; // bits behind the point of a weight, as in Pillow
const STRIP = 1 << 20; // pixels that are read at a time: a large image is never there as bytes

/**
 * Decodes an image upright, alpha over white, and resizes it, bilinear with anti-aliasing.
 *
 * @param {Blob} file in a format that the browser reads.
 * @param {number} side of the square, pixels.
 * @param {string} rule `crop` takes the largest centred square; `stretch` takes all of the image.
 * @returns {Promise<{square: Uint8Array, width: number, height: number}>}
 *   RGB [side,side,3], and the size of the image, pixels.
 * @throws {Error} it is no image that the browser can read.
 */
export async function readSquare(file, side, rule) {
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error("this browser cannot read the file as an image");
  }
  const { width, height } = image;
  const [left, top, right, bottom] = squareBox(width, height, rule);
  const across = weights(width, left, right, side);
  const down = weights(height, top, bottom, side);
  const first = down[0].from;
  const last = down[side - 1].from + down[side - 1].shares.length;
  const narrowed = new Uint8Array((last - first) * side * 3);
  for (const strip of strips(image, first, last)) {
    for (let row = 0; row < strip.rows; row += 1) {
      const target = (strip.top + row - first) * side * 3;
      sum(across, strip.pixels, row * width * 4, 4, narrowed, target, 3);
    }
  }
  image.close();
  const square = new Uint8Array(side * side * 3);
  for (const weight of down) weight.from -= first;
  for (let column = 0; column < side; column += 1) sum(down, narrowed, column * 3, side * 3, square, column * 3, side * 3);
  return { square, width, height };
}

/** The part of an image that becomes the square, as left, top, right, bottom in pixels. */
function squareBox(width, height, rule) {
  if (rule !== "crop") return [0, 0, width, height];
  const side = Math.min(width, height);
  const [left, top] = [(width - side) / 2, (height - side) / 2];
  return [left, top, left + side, top + side];
}

/** The rows `first` to `last` of an image over white, from top to bottom, RGBA. */
function* strips(image, first, last) {
  const rows = Math.max(1, Math.floor(STRIP / image.width));
  const canvas = new OffscreenCanvas(image.width, Math.min(rows, last - first));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  for (let top = first; top < last; top += rows) {
    const here = Math.min(rows, last - top);
    context.fillRect(0, 0, image.width, here);
    context.drawImage(image, 0, top, image.width, here, 0, 0, image.width, here);
    yield { top, rows: here, pixels: context.getImageData(0, 0, image.width, here).data };
  }
}

/** For each of `count` places of the result: where it takes from first, and the share of each, in whole numbers. */
function weights(given, begin, end, count) {
  const scale = (end - begin) / count;
  const reach = Math.max(scale, 1);
  return Array.from({ length: count }, (_, place) => {
    const centre = begin + (place + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - reach + 0.5));
    const to = Math.min(given, Math.trunc(centre + reach + 0.5));
    const parts = Array.from({ length: to - from }, (_, step) =>
      Math.max(0, 1 - Math.abs((from + step - centre + 0.5) / reach)),
    );
    const total = parts.reduce((sum, part) => sum + part, 0);
    return { from, shares: Int32Array.from(parts, (part) => Math.trunc(0.5 + (part / total) * 2 ** PRECISION)) };
  });
}

/** One line of the result, in three channels: each value the weighted sum of the given line's. */
function sum(weighted, given, start, step, result, target, stride) {
  for (let place = 0; place < weighted.length; place += 1) {
    const { from, shares } = weighted[place];
    for (let channel = 0; channel < 3; channel += 1) {
      let total = 1 << (PRECISION - 1);
      let at = start + from * step + channel;
      for (let index = 0; index < shares.length; index += 1) {
        total += given[at] * shares[index];
        at += step;
      }
      result[target + place * stride + channel] = Math.min(total >> PRECISION, 255);
    }
  }
}
