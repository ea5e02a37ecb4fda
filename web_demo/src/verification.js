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
const BUDGET = 10_000; // milliseconds for each kind of sample of all entries: a slow device takes fewer
const FRAME = [1280, 720]; // pixels of a camera's frame, for the time of pre-processing

/**
 * @param {object} engine
 * @param {{manifest: object, reference: object}} artifact
 * @param {(done: number, all: number) => void} onProgress
 * @returns {Promise<{answers: {name: string, output: Float32Array}[], found: object, latency: object}>}
 */
export async function verifyCases(engine, { manifest, reference }, onProgress) {
  const { entries } = manifest;
  const all = reference.cases.length + entries.length * (SAMPLES + WITH_PREPROCESSING);
  let done = 0;
  const step = async () => {
    onProgress(++done, all);
    await breathe();
  };
  const answers = [];
  const valuesOfCase = (index, place) => toInput(reference.image(index), entries[place].input.range, true);
  for (const [index, { name, place }] of reference.cases.entries()) {
    const { output } = await engine.run(valuesOfCase(index, place), place);
    if (output.length !== manifest.scores) throw new Error(`the file answers ${output.length} scores, not ${manifest.scores}`);
    answers.push({ name, output });
    await step();
  }
  const found = worst(manifest.heads.map((head) => ({ name: head.name, ...compareHead(head, reference, answers) })));
  const [width, height] = FRAME;
  const frame = { width, height, data: Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 2654435761) >>> 24) };
  const times = [];
  for (const [place, { name }] of entries.entries()) {
    const values = valuesOfCase(reference.first(place), place);
    for (let i = 0; i < WARM_UP; i++) await engine.run(values, place);
    const budget = BUDGET / entries.length;
    const inference = await samples(SAMPLES, budget, async () => (await engine.run(values, place)).ms, step);
    const whole = await samples(WITH_PREPROCESSING, budget, async () => (await classify(engine, manifest, frame, place)).wholeMs, step);
    times.push({ name, inference_ms: timing(inference), with_preprocessing_ms: timing(whole) });
  }
  onProgress(all, all);
  const [{ name, ...ofFirst }] = times;
  const latency = { warm_up: WARM_UP, ...ofFirst, ...(times.length > 1 && { entries: times }) };
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

async function samples(count, budget, measure, step) {
  const taken = [];
  const end = performance.now() + budget;
  while (taken.length < count && (taken.length < 3 || performance.now() < end)) {
    taken.push(await measure());
    await step();
  }
  return taken;
}
