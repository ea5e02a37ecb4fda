/** Reads .safetensors: 8 bytes with the length of a JSON header, the header, then the tensors' bytes. */

import { ArtifactError, oneLine } from "./errors.js";

const MAX_HEADER = 100_000_000; // bytes, as in the format's own reader
const BYTES = { U8: 1, F32: 4 };
const MAX_CASES = 10_000;

/**
 * @param {ArrayBuffer} buffer the file
 * @param {string} file its name, for errors
 * @returns {{metadata: Object<string, string>, tensor: (name: string, dtype: string) => {shape: number[],
 *   data: Uint8Array | Float32Array} | null}} tensors of U8 and F32, by name. Throws ArtifactError.
 */
export function readSafetensors(buffer, file) {
  const fail = (why) => new ArtifactError(`${file} is damaged or not a safetensors file: ${why}`);
  if (buffer.byteLength < 8) throw fail(`it has ${buffer.byteLength} bytes`);
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const begin = 8 + length;
  if (length > MAX_HEADER || begin > buffer.byteLength) throw fail("its header ends outside the file");
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, length)));
  } catch (error) {
    throw fail(oneLine(error));
  }
  if (!isObject(header)) throw fail("its header is not an object");
  const { __metadata__: metadata = {}, ...entries } = header;
  if (!isObject(metadata) || Object.values(metadata).some((value) => typeof value !== "string")) {
    throw fail("its metadata are not texts");
  }
  let end = 0;
  const sorted = Object.entries(entries).sort((a, b) => a[1]?.data_offsets?.[0] - b[1]?.data_offsets?.[0]);
  for (const [name, entry] of sorted) {
    const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
    const whole = (list) => Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
    if (typeof dtype !== "string" || !whole(shape) || !whole(offsets) || offsets.length !== 2) {
      throw fail(`the entry of ${name} is malformed`);
    }
    if (offsets[0] !== end || offsets[1] < end) throw fail(`the bytes of ${name} do not begin where others end`);
    end = offsets[1];
    const size = BYTES[dtype];
    if (size && product(shape) * size !== end - offsets[0]) throw fail(`${name} has another size than its shape`);
  }
  if (begin + end !== buffer.byteLength) throw fail(`it should have ${begin + end} bytes and has ${buffer.byteLength}`);

  function tensor(name, dtype) {
    if (!Object.hasOwn(entries, name)) return null;
    const entry = entries[name];
    if (entry.dtype !== dtype) throw new ArtifactError(`${file}: ${name} is ${entry.dtype}, not ${dtype}`);
    const bytes = buffer.slice(begin + entry.data_offsets[0], begin + entry.data_offsets[1]); // aligned
    return { shape: entry.shape, data: dtype === "U8" ? new Uint8Array(bytes) : littleEndianFloats(bytes) };
  }
  return { metadata, tensor };
}

/**
 * Reference vectors: what PyTorch answers to some images.
 * @param {ArrayBuffer} buffer reference.safetensors
 * @param {{sizes: {height: number, width: number}[], heads: {name: string, size: number}[], integers: boolean}} expected
 *   sizes of the inputs; outputs; whether the file computes with integers, of which edge cases do not count
 * @returns {{cases: {name: string, counted: boolean, place: number}[], image: (index: number) => Uint8Array,
 *   answer: (index: number) => Float32Array, first: (place: number) => number}} cases of all sizes, in their order; `place`
 *   is that of a case's size, and `first` the first case of a size. `image` is RGB [3, height, width], `answer` all outputs,
 *   one after the other. Throws ArtifactError.
 */
export function readReference(buffer, expected) {
  const file = "reference.safetensors";
  const { metadata, tensor } = readSafetensors(buffer, file);
  const names = expected.sizes.map(({ height, width }, place) => (place ? `images_${height}x${width}` : "images"));
  const images = names.map((name) => tensor(name, "U8"));
  const answers = expected.heads.map(({ name }) => tensor(name, "F32"));
  const lacks = names.find((_, place) => !images[place]) ?? expected.heads.find((_, place) => !answers[place])?.name;
  if (lacks) throw new ArtifactError(`${file} has no ${lacks}`);
  let rows;
  try {
    rows = JSON.parse(metadata.cases);
  } catch {
    rows = null;
  }
  if (!Array.isArray(rows) || !rows.length || rows.length > MAX_CASES || !rows.every((row) => typeof row?.name === "string")) {
    throw new ArtifactError(`${file} does not name its cases`);
  }
  const places = images.flatMap(({ shape }, place) => Array(Math.min(shape[0] ?? 0, MAX_CASES)).fill(place)); // of each case's size
  for (const [place, { height, width }] of expected.sizes.entries()) {
    const { shape } = images[place];
    const count = expected.sizes.length === 1 ? rows.length : Math.max(1, shape[0] ?? 0);
    const wanted = [count, 3, height, width];
    if (shape.join() !== wanted.join()) {
      throw new ArtifactError(`${file}: ${names[place]} are [${shape.join(", ")}], expected [${wanted.join(", ")}]`);
    }
  }
  if (places.length !== rows.length) throw new ArtifactError(`${file} has ${places.length} images and names ${rows.length} cases`);
  for (const [place, { name, size }] of expected.heads.entries()) {
    const { shape, data } = answers[place];
    if (shape[0] !== rows.length || product(shape.slice(1)) !== size) {
      throw new ArtifactError(`${file}: ${name} are [${shape.join(", ")}], expected ${rows.length} cases of ${size}`);
    }
    if (!data.every(Number.isFinite)) throw new ArtifactError(`${file}: ${name} are not finite`);
  }
  const spared = expected.integers && !rows.every(({ role }) => role === "edge"); // edge cases, unless all are
  const first = (place) => places.indexOf(place);
  return {
    cases: rows.map(({ name, role }, index) => ({ name, counted: role !== "edge" || !spared, place: places[index] })),
    first,
    image(index) {
      const { height, width } = expected.sizes[places[index]];
      const pixels = 3 * height * width;
      const own = index - first(places[index]);
      return images[places[index]].data.subarray(own * pixels, (own + 1) * pixels);
    },
    answer: (index) =>
      Float32Array.from(expected.heads.flatMap(({ size }, place) => [...answers[place].data.subarray(index * size, (index + 1) * size)])),
  };
}

export function product(numbers) {
  return numbers.reduce((total, n) => total * n, 1);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function littleEndianFloats(bytes) {
  const view = new DataView(bytes);
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, index) => view.getFloat32(4 * index, true));
}
