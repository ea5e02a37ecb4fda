/** All reference cases on one accelerator: answers, how near they are, and latencies. */

import { breathe } from "./dom.js";
import { timing } from "./latency.js";
import { valuesOf } from "./manifest.js";
import { toInput } from "./resize.js";
import { compare } from "./scores.js";
import { classify } from "./session.js";

export const WARM_UP = 5;
const SAMPLES = 50;
const WITH_PREPROCESSING = 20;
const BUDGET = 10_000; // milliseconds for each kind of sample: a slow device takes fewer
const FRAME = [1280, 720]; // pixels of a camera's frame, for the time of pre-processing

/**
 * @param {object} engine
 * @param {{manifest: object, reference: object}} artifact
 * @param {(done: number, all: number) => void} onProgress
 * @returns {Promise<{answers: {name: string, output: Float32Array}[], found: object, latency: object}>}
 */
export async function verifyCases(engine, { manifest, reference }, onProgress) {
  const all = reference.cases.length + SAMPLES + WITH_PREPROCESSING;
  let done = 0;
  const step = async () => {
    onProgress(++done, all);
    await breathe();
  };
  const answers = [];
  for (const [index, { name }] of reference.cases.entries()) {
    const { output } = await engine.run(toInput(reference.image(index), manifest.input.range, true));
    if (output.length !== manifest.scores) throw new Error(`the file answers ${output.length} scores, not ${manifest.scores}`);
    answers.push({ name, output });
    await step();
  }
  const found = worst(manifest.heads.map((head) => ({ name: head.name, ...compareHead(head, reference, answers) })));
  const values = toInput(reference.image(0), manifest.input.range, true);
  for (let i = 0; i < WARM_UP; i++) await engine.run(values);
  const inference = await samples(SAMPLES, async () => (await engine.run(values)).ms, step);
  const [width, height] = FRAME;
  const frame = { width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 2654435761) >>> 24) };
  const whole = await samples(WITH_PREPROCESSING, async () => (await classify(engine, manifest, frame)).wholeMs, step);
  onProgress(all, all);
  const latency = { warm_up: WARM_UP, inference_ms: timing(inference), with_preprocessing_ms: timing(whole) };
  return { answers, found, latency };
}

function compareHead(head, reference, answers) {
  return compare(
    reference.cases.map((_, index) => valuesOf(reference.answer(index), head)),
    answers.map(({ output }) => valuesOf(output, head)),
    { kind: head.kind, counted: reference.cases.map(({ counted }) => counted), classes: head.shape?.at(-1) },
  );
}

/** What is found of several outputs: the lowest SQNR, and the fewest cases, or objects, with the same best class, of any. */
function worst(outputs) {
  const [{ name, ...only }] = outputs;
  if (outputs.length === 1) return only;
  const same = outputs.map((each) => each.same).filter((each) => each !== null);
  return { worstDb: Math.min(...outputs.map((each) => each.worstDb)), same: same.length ? Math.min(...same) : null, cases: only.cases, objects: outputs.find(({ objects }) => objects !== undefined)?.objects, outputs };
}

async function samples(count, measure, step) {
  const taken = [];
  const end = performance.now() + BUDGET;
  while (taken.length < count && (taken.length < 3 || performance.now() < end)) {
    taken.push(await measure());
    await step();
  }
  return taken;
}
