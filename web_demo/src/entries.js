/** The entries of a file: one for each size of its input. A picture takes the one whose aspect ratio is nearest. */

import { ArtifactError } from "./errors.js";

const MOST = 16;

/**
 * @typedef {{name: string | null, input: object, height: number, width: number}} Entry `name` is its signature's; null of a
 *   file of one size, whatever its signature is called
 */

/**
 * The entries that a manifest names, each checked against the first one, which is what the rest of the manifest describes.
 * @param {object} manifest its members have the right types
 * @param {(input: object) => [number, number]} sizeOf the height and width of an input that is sound; throws where it is not
 * @returns {Entry[]} Throws ArtifactError.
 */
export function readEntries({ schema, spec, app_input: input, outputs, entries }, sizeOf) {
  const fail = (why) => new ArtifactError(`manifest.json contradicts itself: ${why}`);
  const size = sizeOf(input);
  if (!entries !== (schema === 1)) throw fail(`schema ${schema} ${entries ? "with" : "without"} entries`);
  if (!entries) {
    if (spec.image_sizes) throw fail("spec has image_sizes, and there are no entries");
    return [{ name: null, input, height: size[0], width: size[1] }];
  }
  if (entries.length < 2 || entries.length > MOST) throw fail(`it has ${entries.length} entries, not 2 to ${MOST}`);
  const sizes = entries.map(({ image_size: each }) => each.join("x"));
  if (spec.image_sizes?.map((each) => each.join("x")).join() !== sizes.join()) throw fail(`spec.image_sizes are not those of the entries, ${sizes.join(", ")}`);
  return entries.map(({ name, app_input: own, outputs: answers }, place) => {
    const wanted = place ? `image_${sizes[place]}` : "serving_default";
    if (name !== wanted) throw fail(`the entry for ${sizes[place]} is called ${name}, not ${wanted}`);
    if (sizes.indexOf(sizes[place]) !== place) throw fail(`${sizes[place]} has two entries`);
    const [height, width] = sizeOf(own);
    if (`${height}x${width}` !== sizes[place]) throw fail(`${name} takes ${height}x${width}, and is for ${sizes[place]}`);
    const same = own.name === input.name && own.range.join() === input.range.join() && described(answers) === described(outputs);
    if (!same || (!place && (sizes[0] !== size.join("x") || resizing(own) !== resizing(input)))) {
      throw fail(`${name} does not take and answer what the file does at ${size.join("x")}`);
    }
    return { name, input: own, height, width };
  });
}

function described(outputs) {
  return JSON.stringify(outputs.map(({ name, shape, dtype }) => [name, shape, dtype]));
}

function resizing({ resizing: { mode, size, filter, center_crop: crop } }) {
  return JSON.stringify([mode, size, filter, crop]);
}

/**
 * The place of the entry that a picture takes: |log(w/h of the picture) - log(w/h of the entry)| is smallest, of equally near
 * ones the first.
 * @param {{width: number, height: number}[]} entries @param {{width: number, height: number}} picture upright
 */
export function nearestEntry(entries, picture) {
  const distances = entries.map(({ width, height }) => {
    const [across, down] = [picture.width * height, picture.height * width];
    return Math.max(across, down) / Math.min(across, down); // the exponential, which whole numbers give all languages alike
  });
  return distances.indexOf(distances.reduce((a, b) => Math.min(a, b)));
}

/** For people: which entry answered; nothing where there is only one. */
export function answeredBy({ entries }, picture) {
  if (entries.length === 1) return "";
  const { name, width, height } = entries[nearestEntry(entries, picture)];
  return `Answered by ${name}: ${width}×${height} pixels`;
}
