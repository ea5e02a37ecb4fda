import assert from "node:assert/strict";
import { test } from "node:test";

import { milliseconds, nearestRank, timing } from "../../web_demo/src/latency.js";
import { best, compare, softmax } from "../../web_demo/src/scores.js";
import { golden } from "./files.js";

const near = (actual, expected, tolerance = 1e-9) => assert.ok(Math.abs(actual - expected) <= tolerance, `${actual}`);
const rows = (...lists) => lists.map((list) => Float32Array.from(list));
const all = { kind: "scores", counted: [true, true] };

test("probabilities sum to 1 and do not overflow", () => {
  const shares = softmax(Float32Array.of(1000, 1000, -1000));
  assert.deepEqual([...shares], [0.5, 0.5, 0]);
  near(softmax(Float32Array.of(1, 2, 3)).reduce((a, b) => a + b), 1);
});

test("the best classes come best first, of equal ones the first", () => {
  assert.deepEqual(best(Float32Array.of(1, 3, 2, 3), 3).map(({ index }) => index), [1, 3, 2]);
  assert.equal(best(Float32Array.of(0.5), 5).length, 1);
});

test("equal answers are at the ceiling", () => {
  const answers = rows([1, 2, 3], [3, 1, 2]);
  assert.deepEqual(compare(answers, answers, all), { worstDb: 200, same: 2, cases: 2 });
});

test("the ratio is that of what decides where an offset hides noise", () => {
  // Energies 3 * 100² + ..., noise 0.01² in one score; without the mean the signal is 2 and the noise 2/3 of 0.01².
  const expected = rows([99, 100, 101], [99, 100, 101]);
  const actual = rows([99, 100, 101.01], [99, 100, 101]);
  const error = Math.fround(101.01) - 101;
  near(compare(expected, actual, all).worstDb, 10 * Math.log10(2 / ((2 / 3) * error * error)), 1e-6);
});

test("another best class is counted, and answers that are not finite are the worst", () => {
  const expected = rows([1, 2, 3], [3, 1, 2]);
  assert.equal(compare(expected, rows([1, 3, 2], [3, 1, 2]), all).same, 1);
  const broken = compare(expected, rows([1, NaN, 3], [3, 1, 2]), all);
  assert.deepEqual([broken.worstDb, broken.same], [-200, 1]);
});

test("cases that do not count change nothing", () => {
  const expected = rows([1, 2, 3], [3, 1, 2]);
  const found = compare(expected, rows([1, 2, 3], [0, 0, 0]), { kind: "scores", counted: [true, false] });
  assert.deepEqual(found, { worstDb: 200, same: 1, cases: 1 });
});

test("features have no best class", () => {
  const found = compare(rows([1, 2], [3, 4]), rows([1, 2], [3, 4.5]), { ...all, kind: "features" });
  assert.equal(found.same, null);
  near(found.worstDb, 10 * Math.log10(25 / 0.25));
});

test("percentiles are samples by nearest rank", () => {
  const samples = [5, 1, 4, 2, 3, 10, 9, 8, 7, 6];
  assert.deepEqual([nearestRank(samples, 50), nearestRank(samples, 90), nearestRank([7], 90)], [5, 9, 7]);
  assert.deepEqual(timing([3, 1, 2]), { samples: [3, 1, 2], p50: 2, p90: 3 });
  assert.deepEqual(timing([]), { samples: [], p50: 0, p90: 0 });
});

test("milliseconds have three digits", () => {
  assert.deepEqual([0.1234, 9.994, 9.996, 99.94, 99.96, 1234].map(milliseconds), [
    "0.12 ms", "9.99 ms", "10.0 ms", "99.9 ms", "100 ms", "1234 ms",
  ]);
});

const judged = JSON.parse(new TextDecoder().decode(golden("metrics.json")));
test("the gate has judged answers", () => assert.ok(judged.length >= 15));
for (const { name, kind, shape, classes, reference, outputs, counted, worst, top1 } of judged) {
  test(`the preview is the gate's judgment: ${name}`, () => {
    const split = (text) => {
      const bytes = Uint8Array.from(Buffer.from(text, "base64"));
      const values = new Float32Array(bytes.buffer);
      return Array.from({ length: shape[0] }, (_, i) => values.subarray(i * shape[1], (i + 1) * shape[1]));
    };
    const found = compare(split(reference), split(outputs), { kind, counted, classes });
    near(found.worstDb, worst, 1e-6);
    if (top1 === null) assert.equal(found.same, null);
    else near(found.same / (found.objects ?? found.cases), top1);
  });
}
