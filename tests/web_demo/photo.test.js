import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { page } from "./page.js";
import { decodePhoto, pixelsOf } from "../../web_demo/src/photo.js";

let images; // the elements that were asked to decode
let revoked;
beforeEach(() => {
  [images, revoked] = [[], []];
  globalThis.createImageBitmap = () => Promise.reject(new TypeError("from-image is no ImageOrientation"));
  globalThis.Image = class {
    naturalWidth = 1500;
    naturalHeight = 20;
    decode = async () => void images.push(this.src);
  };
  URL.revokeObjectURL = (url) => revoked.push(url);
});
const context = page.context;
afterEach(() => (page.context = context));

const photo = (name = "photo.jpg") => new File(["x"], name);

test("a photograph of which the browser makes no bitmap is decoded by an element", async () => {
  const { width, height, data } = await decodePhoto(photo());
  assert.deepEqual([width, height, data.length], [1500, 20, 1500 * 20 * 3]);
  assert.equal(images.length, 1);
  assert.deepEqual(revoked, images);
});

const be = (value, size) => Array.from({ length: size }, (_, index) => (value >> (8 * (size - 1 - index))) & 255);
const ascii = (text) => [...new TextEncoder().encode(text)];
const segment = (marker, content) => [0xff, marker, ...be(content.length + 2, 2), ...content];
const chunk = (type, content) => [...be(content.length, 4), ...ascii(type), ...content, 1, 2, 3, 4];
const exif = segment(0xe1, ascii("Exif\0\0 with \xff\xe2"));
const scan = [0xff, 0xda, 0, 2, ...segment(0xe2, ascii("ICC_PROFILE\0 in the picture itself"))];
const png = [0x89, ...ascii("PNG\r\n\x1a\n"), ...chunk("IHDR", [1, 2, 3])];
const profile = segment(0xe2, [...ascii("ICC_PROFILE\0"), 1, 2, ...Array(300).fill(7)]);
for (const [what, before, after] of [
  ["a JPEG", [0xff, 0xd8, ...exif, ...profile, 0xff, ...profile, ...scan], [0xff, 0xd8, ...exif, 0xff, ...scan]],
  ["a JPEG with other segments of that kind", [0xff, 0xd8, ...segment(0xe2, ascii("MPF\0")), ...scan]],
  ["a JPEG that ends in its profile", [0xff, 0xd8, ...exif, ...profile.slice(0, 50)], [0xff, 0xd8, ...exif]],
  ["a PNG", [...png, ...chunk("iCCP", ascii("P3")), ...chunk("gAMA", be(45455, 4)), ...chunk("IDAT", [9]), ...chunk("sRGB", [0])], [...png, ...chunk("IDAT", [9]), ...chunk("sRGB", [0])]],
  ["a PNG with a chunk that never ends", [...png, 0xff, 0xff, 0xff, 0xff, ...ascii("tEXt"), 0, 0, 0, 0]],
  ["another format", ascii("RIFF....WEBP")],
  ["nothing", []],
]) {
  test(`the values of ${what} are taken as they are, without its profile`, async () => {
    let given;
    globalThis.createImageBitmap = async (blob) => ((given = blob), { width: 1, height: 1, close() {} });
    await decodePhoto(new File([Uint8Array.from(before)], "x", { type: "image/x" }));
    assert.deepEqual([...new Uint8Array(await given.arrayBuffer())], after ?? before);
    assert.equal(given.type, "image/x");
  });
}

test("a bitmap is closed, also where its picture is too large", async () => {
  let closed = 0;
  const bitmap = { width: 20_000, height: 10_000, close: () => closed++ };
  globalThis.createImageBitmap = async (blob, options) => (assert.deepEqual(options, { imageOrientation: "from-image", colorSpaceConversion: "none" }), bitmap);
  await assert.rejects(decodePhoto(photo()), /^Error: the picture has 200 megapixels; at most 120 fit$/);
  Object.assign(bitmap, { width: 3, height: 2 });
  assert.deepEqual((await decodePhoto(photo())).data, new Uint8Array(18).fill(128));
  assert.deepEqual([closed, images], [2, []]);
});

for (const [name, message] of [
  ["notes.jpg", "notes.jpg is not a picture that this browser reads"],
  ["IMG_0001.HEIC", "IMG_0001.HEIC is not a picture that this browser reads; choose a JPEG"],
]) {
  test(`${name}, which no decoder reads, is told in one line`, async () => {
    globalThis.Image = class {
      decode = () => Promise.reject(new DOMException("cannot decode", "EncodingError"));
    };
    await assert.rejects(decodePhoto(photo(name)), { message });
    assert.equal(revoked.length, 1);
  });
}

test("all pictures share one canvas, which Safari counts", () => {
  const before = page.canvases.length;
  for (let i = 0; i < 5; i++) pixelsOf({}, 3000, 20);
  assert.ok(page.canvases.length <= before + 1);
});
