/** Reads manifest.json and the small files of the server: strictly, and only what the app uses. */

import { readEntries } from "./entries.js";
import { ArtifactError } from "./errors.js";

const NAME = /^[A-Za-z0-9][\w.+ -]*$/; // of a file or a folder: no path
const SHA256 = /^[0-9a-f]{64}$/;

const text = (value) => typeof value === "string" && value.length > 0;
const count = (value) => Number.isSafeInteger(value) && value > 0;
const counts = (length) => (value) => Array.isArray(value) && value.length === length && value.every(count);
const oneOf = (...values) => (value) => values.includes(value);
const list = (each) => (value) => Array.isArray(value) && value.every(each);
const orNull = (check) => (value) => value === null || check(value);
const object = (members) => (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !wrong(value, members);

const TENSOR = { name: text, shape: list(count), dtype: text };
const RESIZING = {
  mode: oneOf("shorter side", "squash"),
  size: (value) => counts(1)(value) || counts(2)(value),
  filter: oneOf("bilinear", "bicubic"),
  antialias: oneOf(true),
  center_crop: orNull(counts(2)),
};
const APP_INPUT = {
  name: text,
  layout: oneOf("NHWC", "NCHW", "picture"),
  shape: list(count),
  dtype: text,
  channel_order: oneOf("RGB"),
  range: (value) => Array.isArray(value) && value.length === 2 && value.every(Number.isFinite) && value[0] < value[1],
  mean_and_std: oneOf("in the graph"),
  resizing: object(RESIZING),
};
const optional = (check) => (value) => value === undefined || check(value);
const labels = optional(orNull(list((each) => typeof each === "string")));
const ENTRY = { name: text, image_size: counts(2), app_input: object(APP_INPUT), outputs: list(object(TENSOR)) };
const MANIFEST = {
  schema: oneOf(1, 2), // 2: with entries
  file: (value) => typeof value === "string" && NAME.test(value),
  format: text,
  precision: text,
  bytes: count,
  sha256: (value) => typeof value === "string" && SHA256.test(value),
  spec: object({
    model: text,
    labels,
    config: optional(object({ num_queries: optional(count) })),
    tasks: optional(list(object({ name: text, labels }))),
    image_sizes: optional(list(counts(2))),
  }),
  app_input: optional(orNull(object(APP_INPUT))),
  outputs: list(object(TENSOR)),
  entries: optional(list(object(ENTRY))),
};

/** The first member that is missing or wrong; null where all are right. */
function wrong(value, members) {
  return Object.keys(members).find((name) => !members[name](value[name])) ?? null;
}

function parse(json, file) {
  try {
    return JSON.parse(json);
  } catch {
    throw new ArtifactError(`${file} is damaged: it is not JSON`);
  }
}

/**
 * What an artifact holds, from the text of its manifest.
 * @returns {{model: string, file: string, format: string, precision: string, bytes: number, sha256: string,
 *   input: object, heads: {name: string, kind: string, size: number, start: number, labels: string[] | null}[],
 *   scores: number, detector: {classes: number, scores: object, boxes: object} | null,
 *   entries: import("./entries.js").Entry[]}} `heads` are the outputs, of which the values of an answer are, `scores` of them
 *   in all; their kinds are "scores", "features", and a detector's "query-scores" and "boxes". `detector` has those two, and
 *   the classes of a query with "no object", the last. `input` is that of the first of `entries`. Throws ArtifactError: for
 *   files that do not run in a browser, too.
 */
export function readManifest(json) {
  const manifest = parse(json, "manifest.json");
  const checked = { ...manifest };
  const member = typeof manifest === "object" && manifest !== null ? wrong(checked, MANIFEST) : "schema";
  if (member) throw new ArtifactError(`manifest.json is not one of this SDK: ${member} is missing or wrong`);
  const { format, spec, app_input: input, outputs } = manifest;
  if (format !== "tflite") {
    throw new ArtifactError(`${manifest.file} is for ${format}; in a browser run files for tflite`);
  }
  if (!input) throw new ArtifactError(`${manifest.file} does not take one picture`);
  const entries = readEntries(manifest, sizeOf);
  const heads = readHeads(outputs, spec, manifest.file);
  const detector = readDetector(heads, spec, manifest.file);
  const scores = heads.reduce((total, { size }) => total + size, 0);
  const { file, precision, bytes, sha256 } = manifest;
  return { model: spec.model, file, format, precision, bytes, sha256, input, heads, scores, detector, entries };
}

/** Height and width of an input. Throws ArtifactError where it is not one of pixels, brought to that size. */
function sizeOf({ layout, shape, dtype, resizing: { mode, size, center_crop: crop } }) {
  const [height, width] = layout === "NHWC" ? shape.slice(1, 3) : [];
  const made = mode === "squash" ? size : crop;
  const fits = made?.[0] === height && made?.[1] === width && size.length === (mode === "squash" ? 2 : 1);
  if (shape.join() !== [1, height, width, 3].join() || dtype !== "float32" || !fits) {
    throw new ArtifactError("manifest.json contradicts itself: its input is not float32 [1, height, width, 3]");
  }
  return [height, width];
}

/** The outputs, each with its labels and where its values stand in an answer. Throws ArtifactError. */
function readHeads(outputs, spec, file) {
  const known = new Map(knownOutputs(spec).map((each) => [each.name, each]));
  const only = spec.features === undefined || spec.features === null ? "logits" : "features"; // whatever the file calls it
  const names = outputs.length === 1 ? [only] : outputs.map(({ name }) => name);
  const strange = names.find((name, place) => !known.has(name) || names.indexOf(name) !== place);
  if (strange !== undefined || !names.length) throw new ArtifactError(`${file} answers ${strange ?? "nothing"}, which this app does not know`);
  let start = 0;
  return outputs.map(({ shape }, place) => {
    const { name, kind, labels = null } = known.get(names[place]);
    const size = shape.reduce((total, n) => total * n, 1);
    const classes = kind === "query-scores" ? shape.at(-1) - 1 : size; // the last is "no object"
    if (labels && labels.length !== classes) throw new ArtifactError(`manifest.json has ${labels.length} labels for ${classes} scores`);
    start += size;
    return { name, kind, size, start: start - size, labels, shape };
  });
}

/** What a file of this spec may answer. */
function knownOutputs(spec) {
  if (spec.config?.num_queries) return [{ name: "logits", kind: "query-scores", labels: spec.labels }, { name: "boxes", kind: "boxes" }];
  const tasks = (spec.tasks ?? []).map(({ name, labels }) => ({ name, kind: "scores", labels }));
  return [{ name: "logits", kind: "scores", labels: spec.labels }, { name: "features", kind: "features" }, ...tasks];
}

/** The two outputs of a detector; null for what is none. Throws ArtifactError. */
function readDetector(heads, spec, file) {
  const queries = spec.config?.num_queries;
  if (!queries) return null;
  const [scores, boxes] = ["logits", "boxes"].map((name) => heads.find((head) => head.name === name));
  if (!scores || !boxes) throw new ArtifactError(`${file} finds objects, and answers no ${scores ? "boxes" : "logits"}: convert it again`);
  const classes = scores.shape.at(-1);
  const fits = scores.shape.join() === [1, queries, classes].join() && classes > 1 && boxes.shape.join() === [1, queries, 4].join();
  if (!fits) throw new ArtifactError(`manifest.json contradicts itself: ${queries} queries, but logits [${scores.shape}] and boxes [${boxes.shape}]`);
  return { classes, scores, boxes };
}

/** The values of an output in an answer. @param {Float32Array} answer @param {{start: number, size: number}} head */
export function valuesOf(answer, { start, size }) {
  return answer.subarray(start, start + size);
}

/** The names of the artifacts, from artifacts/index.json. */
export function readIndex(json) {
  const index = parse(json, "artifacts/index.json");
  const check = object({ artifacts: list(object({ name: (value) => typeof value === "string" && NAME.test(value) })) });
  if (!check(index) || !index.artifacts.length) throw new ArtifactError("artifacts/index.json names no artifact");
  return index.artifacts.map(({ name }) => name);
}

/** Where reports go, and the app's version, from config.json. */
export function readConfig(json) {
  const config = parse(json, "config.json");
  const check = object({ reports: orNull((value) => value === "reports"), app_version: text });
  if (!check(config)) throw new ArtifactError("config.json is damaged");
  return { reports: config.reports, version: config.app_version };
}
