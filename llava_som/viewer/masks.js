// Masks as the sidecars hold them: COCO run-length encoding, pixels read column by column.

"use strict";

class Mask {
  // size is [height, width]; counts the compressed string or the list of runs, the first of pixels outside the mask.
  constructor({ size: [height, width], counts }) {
    this.height = height;
    this.width = width;
    const runs = typeof counts === "string" ? Mask.runs(counts) : counts;
    this.ends = new Uint32Array(runs.length); // where each run ends; the odd ones are the mask
    this.area = 0;
    let end = 0;
    runs.forEach((run, k) => {
      this.ends[k] = end += run;
      if (k % 2) this.area += run;
    });
    if (end !== height * width || runs.some((run) => run < 0)) throw new Error("A mask of this record is damaged.");
  }

  // Counts in groups of five bits, lowest first, 48 added; from the fourth on relative to the count two before.
  static runs(text) {
    const runs = [];
    for (let at = 0; at < text.length; ) {
      let value = 0, shift = 0, group;
      do {
        group = text.charCodeAt(at++) - 48;
        value |= (group & 31) << shift;
        shift += 5;
      } while (group & 32);
      if (group & 16 && shift < 32) value |= -1 << shift;
      runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
    }
    return runs;
  }

  has(x, y) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return false;
    const pixel = x * this.height + y;
    let low = 0, high = this.ends.length - 1; // the first run that ends behind the pixel
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] > pixel) high = middle;
      else low = middle + 1;
    }
    return low % 2 === 1;
  }

  // One byte a pixel, row by row.
  bitmap() {
    const pixels = new Uint8Array(this.width * this.height);
    for (let k = 1; k < this.ends.length; k += 2) {
      for (let at = this.ends[k - 1]; at < this.ends[k]; at++) {
        pixels[(at % this.height) * this.width + Math.floor(at / this.height)] = 1;
      }
    }
    return pixels;
  }

  // Fill the mask in [red, green, blue] over what is in `image` (ImageData of the mask's size): see-through inside,
  // along its edge a line of `outer` (white stands out from any photo) and one of the colour, each `line` pixels wide.
  // They lie on the mask's outermost pixels, so nothing outside it changes.
  paint(image, colour, opacity, line, outer) {
    const { width, height } = this, inside = this.bitmap(), data = image.data;
    const reaches = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside[y * width + x];
    const isWithin = (x, y, by) => reaches(x - by, y) && reaches(x + by, y) && reaches(x, y - by) && reaches(x, y + by);
    const fill = [...colour, Math.round(255 * opacity)], rim = [...colour, 255], last = [...outer, 255];
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        if (!inside[at]) continue;
        data.set(!isWithin(x, y, line) ? last : !isWithin(x, y, 2 * line) ? rim : fill, 4 * at);
      }
    }
  }
}
