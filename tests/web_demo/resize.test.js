import assert from "node:assert/strict";
import { test } from "node:test";

import { fit, plan, toInput } from "../../web_demo/src/resize.js";
import { readSafetensors } from "../../web_demo/src/safetensors.js";
import { golden } from "./files.js";

const file = readSafetensors(golden("preprocessing.safetensors"), "preprocessing.safetensors");
const cases = JSON.parse(file.metadata.cases);

/** The EXIF turn, which in the app the browser does. */
function upright({ width, height, data }, orientation) {
  const turned = orientation > 4;
  const [w, h] = turned ? [height, width] : [width, height];
  const made = new Uint8Array(data.length);
  const from = {
    1: (x, y) => [x, y],
    2: (x, y) => [w - 1 - x, y],
    3: (x, y) => [w - 1 - x, h - 1 - y],
    4: (x, y) => [x, h - 1 - y],
    5: (x, y) => [y, x],
    6: (x, y) => [y, w - 1 - x],
    7: (x, y) => [h - 1 - y, w - 1 - x],
    8: (x, y) => [h - 1 - y, x],
  }[orientation];
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const [oldX, oldY] = from(x, y);
      for (let c = 0; c < 3; c++) made[(y * w + x) * 3 + c] = data[(oldY * width + oldX) * 3 + c];
    }
  }
  return { width: w, height: h, data: made };
}

test("the golden file has cases", () => assert.ok(cases.length >= 40));

for (const { name, orientation, resizing } of cases) {
  test(`resizing and cropping give the SDK's pixels to the byte: ${name}`, () => {
    const decoded = file.tensor(`${name}/decoded`, "U8");
    const expected = file.tensor(`${name}/expected`, "U8");
    const picture = { width: decoded.shape[1], height: decoded.shape[0], data: decoded.data };
    const made = fit(upright(picture, orientation), resizing);
    assert.deepEqual([made.height, made.width, 3], expected.shape);
    assert.deepEqual(made.data, expected.data);
  });
}

test("a photograph of twelve megapixels is planned without its pixels", () => {
  const resizing = { mode: "shorter side", size: [288], filter: "bicubic", antialias: true, center_crop: [256, 256] };
  const { width, height, left, top } = plan({ width: 4032, height: 3024 }, resizing);
  assert.deepEqual([width, height, left, top], [384, 288, 64, 16]);
});

test("bytes become values of the range, channel beside channel", () => {
  const pixels = Uint8Array.of(0, 51, 255, 102, 153, 204);
  assert.deepEqual(toInput(pixels, [0, 1]), Float32Array.of(0, 0.2, 1, 0.4, 0.6, 0.8));
  assert.deepEqual(toInput(pixels, [0, 255]), Float32Array.from(pixels));
  assert.deepEqual(toInput(Uint8Array.of(0, 102, 51, 153, 255, 204), [0, 1], true), toInput(pixels, [0, 1]));
});
