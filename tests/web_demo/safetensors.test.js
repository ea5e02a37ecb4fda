import assert from "node:assert/strict";
import { test } from "node:test";

import { ArtifactError } from "../../web_demo/src/errors.js";
import { readReference, readSafetensors } from "../../web_demo/src/safetensors.js";
import { join, reference, safetensors, withHeader } from "./files.js";

const EXPECTED = { sizes: [{ height: 2, width: 1 }], heads: [{ name: "logits", size: 3 }], integers: false };
const two = { a: { dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) }, b: { dtype: "F32", shape: [1], data: Float32Array.of(0.5) } };

test("tensors are read in any order and at any offset", () => {
  const file = readSafetensors(safetensors(two, { note: "x" }), "file");
  assert.deepEqual(file.tensor("a", "U8"), { shape: [3], data: Uint8Array.of(1, 2, 3) });
  assert.deepEqual(file.tensor("b", "F32"), { shape: [1], data: Float32Array.of(0.5) });
  assert.equal(file.tensor("c", "U8"), null);
  assert.equal(file.tensor("toString", "U8"), null);
  assert.deepEqual(file.metadata, { note: "x" });
  assert.throws(() => file.tensor("a", "F32"), /a is U8, not F32/);
});

const entry = (change) => (header) => ({ ...header, a: { ...header.a, ...change } });
const damaged = {
  "an empty file": new ArrayBuffer(0),
  "seven bytes": new ArrayBuffer(7),
  "a header beyond the file": join(Uint8Array.of(255, 255, 0, 0, 0, 0, 0, 0), new Uint8Array(9)),
  "a header of exabytes": join(new Uint8Array(8).fill(255), new Uint8Array(9)),
  "no JSON": withHeader("{"),
  "no UTF-8": join(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0), Uint8Array.of(34, 255)),
  "a list": withHeader("[]"),
  "null": withHeader("null"),
  "metadata that are not texts": withHeader('{"__metadata__": {"cases": []}}'),
  "an entry that is null": safetensors(two, {}, (header) => ({ ...header, a: null })),
  "an entry without offsets": safetensors(two, {}, entry({ data_offsets: undefined })),
  "offsets that overlap": safetensors(two, {}, entry({ data_offsets: [0, 4] })),
  "offsets that turn back": safetensors(two, {}, entry({ data_offsets: [3, 0] })),
  "negative offsets": safetensors(two, {}, entry({ data_offsets: [-1, 3] })),
  "offsets that are texts": safetensors(two, {}, entry({ data_offsets: ["0", "3"] })),
  "a shape of another size": safetensors(two, {}, entry({ shape: [4] })),
  "a shape with a fraction": safetensors(two, {}, entry({ shape: [1.5, 2] })),
  "a file that is cut short": safetensors(two).slice(0, -1),
  "a file with more than its tensors": join(new Uint8Array(safetensors(two)), Uint8Array.of(0)),
};
for (const [what, buffer] of Object.entries(damaged)) {
  test(`${what} is refused with the file's name`, () => {
    assert.throws(() => readSafetensors(buffer, "the file"), (error) => {
      assert.ok(error instanceof ArtifactError);
      assert.match(error.message, /^the file is damaged or not a safetensors file: .+/);
      return true;
    });
  });
}

test("every byte of a header may be damaged without another kind of error", () => {
  const whole = new Uint8Array(reference());
  const length = 8 + Number(new DataView(whole.buffer).getBigUint64(0, true));
  for (let at = 0; at < length; at++) {
    for (const value of [0, 34, 57, 125, 255]) {
      const copy = whole.slice();
      copy[at] = value;
      try {
        readReference(copy.buffer, EXPECTED);
      } catch (error) {
        assert.ok(error instanceof ArtifactError, `byte ${at} = ${value}: ${error}`);
      }
    }
  }
});

test("reference vectors are images and answers by case", () => {
  const read = readReference(reference(), EXPECTED);
  assert.deepEqual(read.cases, [{ name: "china", counted: true, place: 0 }, { name: "zeros", counted: true, place: 0 }]);
  assert.deepEqual(read.image(1), Uint8Array.of(6, 7, 8, 9, 10, 11));
  assert.deepEqual(read.answer(1), Float32Array.of(-1, 0, 1));
});

test("edge cases of integer files do not count", () => {
  const { cases } = readReference(reference(), { ...EXPECTED, integers: true });
  assert.deepEqual(cases.map(({ counted }) => counted), [true, false]);
  const edges = [{ name: "zeros", role: "edge" }, { name: "noise", role: "edge" }];
  const all = readReference(reference({ cases: edges }), { ...EXPECTED, integers: true });
  assert.deepEqual(all.cases.map(({ counted }) => counted), [true, true]); // there is nothing else
});

test("features of any shape are rows", () => {
  const tensors = { logits: undefined, features: { dtype: "F32", shape: [2, 3, 1, 1], data: new Float32Array(6) } };
  const kept = Object.fromEntries(Object.entries(tensors).filter(([, value]) => value));
  const buffer = safetensors(
    { images: { dtype: "U8", shape: [2, 3, 2, 1], data: new Uint8Array(12) }, ...kept },
    { cases: JSON.stringify([{ name: "a" }, { name: "b" }]) },
  );
  assert.throws(() => readReference(buffer, EXPECTED), /has no logits/);
  const heads = [{ name: "features", size: 3 }];
  assert.deepEqual(readReference(buffer, { ...EXPECTED, heads }).answer(1), new Float32Array(3));
});

const unfit = {
  "other images": [{}, { ...EXPECTED, sizes: [{ height: 3, width: 1 }] }, /images are \[2, 3, 2, 1\], expected \[2, 3, 3, 1\]/],
  "other scores": [{}, { ...EXPECTED, heads: [{ name: "logits", size: 4 }] }, /logits are \[2, 3\], expected 2 cases of 4/],
  "cases that are not named": [{ cases: [{}, {}] }, EXPECTED, /does not name its cases/],
  "fewer names": [{ cases: [{ name: "a" }] }, EXPECTED, /images are \[2, 3, 2, 1\], expected \[1, /],
  "no names": [{ metadata: { cases: "oops" } }, EXPECTED, /does not name its cases/],
  "answers that are not finite": [
    { tensors: { logits: { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, 2, NaN, 1, 2, 3) } } },
    EXPECTED,
    /logits are not finite/,
  ],
};
for (const [what, [change, expected, message]] of Object.entries(unfit)) {
  test(`reference vectors with ${what} are refused`, () => {
    assert.throws(() => readReference(reference(change), expected), { message });
  });
}
