/**
 * Resizes and crops as the SDK does, which is as Pillow does: the filter widens with the reduction, weights are whole
 * numbers of 22 bits, and each pass rounds to bytes.
 */

const BITS = 22;
const LONGEST = 16; // times the shorter side: of a longer strip only the middle is resized

const FILTERS = {
  bilinear: { support: 1, weight: (x) => (Math.abs(x) < 1 ? 1 - Math.abs(x) : 0) },
  bicubic: {
    support: 2,
    weight(x) {
      const d = Math.abs(x);
      if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
      return d < 2 ? -0.5 * (((d - 5) * d + 8) * d - 4) : 0;
    },
  },
};

/**
 * @typedef {{width: number, height: number, data: Uint8Array}} Picture RGB [height, width, 3]
 */

/**
 * An upright picture of any size as the model takes it.
 * @param {Picture} picture
 * @param {object} resizing that of a manifest's app_input
 * @returns {Picture}
 */
export function fit(picture, resizing) {
  const { window, width, height, left, top, cropWidth, cropHeight } = plan(picture, resizing);
  const resized = resize(crop(picture, ...window), width, height, resizing.filter);
  return crop(resized, left, top, cropWidth, cropHeight);
}

/** What `fit` does to a picture of this size: which part of it is resized, to what size, and which part of that stays. */
export function plan({ width, height }, { mode, size, center_crop: center }) {
  if (mode === "squash") {
    const whole = { left: 0, top: 0, cropWidth: size[1], cropHeight: size[0] };
    return { window: [0, 0, width, height], width: size[1], height: size[0], ...whole };
  }
  const [cropHeight, cropWidth] = center;
  const longest = LONGEST * Math.min(width, height);
  const [w, h] = [Math.min(width, longest), Math.min(height, longest)];
  const window = [(width - w) >> 1, (height - h) >> 1, w, h];
  const scale = Math.max(size[0] / Math.min(w, h), cropWidth / w, cropHeight / h);
  const newWidth = Math.max(cropWidth, roundHalfToEven(w * scale));
  const newHeight = Math.max(cropHeight, roundHalfToEven(h * scale));
  const [left, top] = [(newWidth - cropWidth) >> 1, (newHeight - cropHeight) >> 1];
  return { window, width: newWidth, height: newHeight, left, top, cropWidth, cropHeight };
}

function roundHalfToEven(x) {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 ? down + 1 : down;
}

/** @param {Picture} picture */
export function crop({ width, height, data }, left, top, w, h) {
  if (w === width && h === height) return { width, height, data };
  const cut = new Uint8Array(w * h * 3);
  for (let y = 0; y < h; y++) {
    const from = ((top + y) * width + left) * 3;
    cut.set(data.subarray(from, from + w * 3), y * w * 3);
  }
  return { width: w, height: h, data: cut };
}

/** @param {Picture} picture */
export function resize({ width, height, data }, newWidth, newHeight, filter) {
  if (newWidth !== width) {
    data = pass(data, weights(width, newWidth, FILTERS[filter]), { lines: height, from: width, step: 3, line: [width * 3, newWidth * 3] });
  }
  if (newHeight !== height) {
    const line = newWidth * 3;
    data = pass(data, weights(height, newHeight, FILTERS[filter]), { lines: newWidth, from: height, step: line, line: [3, 3] });
  }
  return { width: newWidth, height: newHeight, data };
}

/** For each new pixel: the first old one that counts, and the weights from there on. */
function weights(old, fresh, { support, weight }) {
  const scale = old / fresh;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  return Array.from({ length: fresh }, (_, index) => {
    const middle = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(middle - reach + 0.5));
    const end = Math.min(old, Math.trunc(middle + reach + 0.5));
    const shares = [];
    for (let x = first; x < end; x++) shares.push(weight((x - middle + 0.5) * (1 / stretch)));
    let sum = 0;
    for (const share of shares) sum += share;
    const whole = shares.map((share) => {
      const scaled = (sum === 0 ? share : share / sum) * 2 ** BITS;
      return Math.trunc(scaled + (share < 0 ? -0.5 : 0.5));
    });
    return { first, whole: Int32Array.from(whole) };
  });
}

/** One pass over `lines` lines of pixels; `step` is from a pixel to the next one, `line` from a line to the next. */
function pass(data, taps, { lines, step, line: [oldLine, newLine] }) {
  const made = new Uint8Array(step === 3 ? lines * newLine : taps.length * step);
  for (let index = 0; index < taps.length; index++) {
    const { first, whole } = taps[index];
    const n = whole.length;
    for (let line = 0; line < lines; line++) {
      const from = line * oldLine + first * step;
      const to = line * newLine + index * step;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (BITS - 1);
        for (let tap = 0, at = from + channel; tap < n; tap++, at += step) sum += data[at] * whole[tap];
        const value = sum >> BITS;
        made[to + channel] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
  }
  return made;
}

/**
 * The values that the file takes.
 * @param {Uint8Array} bytes RGB [height, width, 3], or [3, height, width] where `planes`
 * @returns {Float32Array} [height, width, 3] from `low` to `high`
 */
export function toInput(bytes, [low, high], planes = false) {
  const values = new Float32Array(bytes.length);
  const size = bytes.length / 3;
  for (let pixel = 0; pixel < size; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const byte = bytes[planes ? channel * size + pixel : 3 * pixel + channel];
      values[3 * pixel + channel] = low + (byte / 255) * (high - low);
    }
  }
  return values;
}
