import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { describeDevice } from "../../web_demo/src/device.js";
import { failedRun, finishedRun, printable, reportName, sealReport, toBase64 } from "../../web_demo/src/report.js";
import { sha256, sha256OfBytes } from "../../web_demo/src/sha256.js";

const CONTENT = {
  app: { name: "mobilevit-web", version: "0.1.0" },
  device: { model: "Pixel 8", system: "Android 15", processor: null },
  artifact: { name: "a", file: "a.tflite", sha256: "0".repeat(64), reference_sha256: "1".repeat(64) },
  created: new Date("2026-11-29T12:00:00Z"),
  runs: [failedRun("webgpu", null, new Error("no\nGPU – here"))],
};

for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 1000, 100_003]) {
  test(`SHA-256 in JavaScript is SHA-256, of ${length} bytes`, async () => {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 31 + 7) % 256);
    const expected = createHash("sha256").update(bytes).digest("hex");
    assert.equal(sha256OfBytes(bytes), expected);
    assert.equal(await sha256(bytes), expected);
  });
}

test("the digest is that of all bytes before it, and comes last", async () => {
  const bytes = await sealReport(CONTENT);
  const text = new TextDecoder().decode(bytes);
  const end = /"digest":"([0-9a-f]{64})"\}$/.exec(text);
  const before = bytes.slice(0, bytes.length - 66);
  assert.equal(end[1], createHash("sha256").update(before).digest("hex"));
  const document = JSON.parse(text);
  assert.deepEqual(Object.keys(document), ["schema", "app", "device", "artifact", "created", "runs", "digest"]);
  assert.equal(document.runs[0].error, "no GPU – here");
});

test("a finished run has all members and its answers as float32", () => {
  const engine = { accelerator: "wasm", version: "2.5.3", precision: null, fullyAccelerated: null };
  const run = finishedRun(engine, [{ name: "logits", start: 0, size: 2 }], [{ name: "china", output: Float32Array.of(1, -0.5) }], null);
  assert.deepEqual(Object.keys(run).sort(), Object.keys(failedRun("wasm", null, "x")).sort());
  assert.deepEqual(run.cases, [{ name: "china", outputs: { logits: "AACAPwAAAL8=" } }]);
  assert.equal(run.error, null);
});

test("values are little-endian, bit by bit", () => {
  const bytes = Buffer.from(toBase64(Float32Array.of(0.1, -Infinity)), "base64");
  assert.deepEqual([bytes.readFloatLE(0), bytes.readFloatLE(4)], [Math.fround(0.1), -Infinity]);
});

test("text of a report has no control characters and is not empty", () => {
  assert.equal(printable("a\u0000\nb\u2028"), "a b");
  assert.equal(printable(" \n"), "unknown");
  assert.equal(printable("x".repeat(300)).length, 200);
  assert.ok(printable("x".repeat(199) + "📱📱").endsWith("x📱"));
  assert.equal(printable("x\ud83d"), "x");
  assert.equal(reportName("../m tflite", "Pixel 8/π"), "m-tflite.Pixel-8.device-report.json");
});

const agents = {
  "a Pixel that tells": [
    {
      userAgent: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/131.0.0.0 Mobile Safari/537.36",
      userAgentData: {
        mobile: true,
        getHighEntropyValues: async () => ({
          model: "Pixel 8", platform: "Android", platformVersion: "15.0.0", architecture: "", bitness: "",
          fullVersionList: [{ brand: "Not_A Brand", version: "24" }, { brand: "Chromium", version: "131.0.1" }, { brand: "Google Chrome", version: "131.0.1" }],
        }),
      },
    },
    { model: "Pixel 8", system: "Android 15, Chrome 131", processor: null },
  ],
  "an Android phone that does not": [
    { userAgent: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36" },
    { model: "phone of an unknown model", system: "Android, Chrome 131", processor: null },
  ],
  "a phone whose browser refuses": [
    {
      userAgent: "Mozilla/5.0 (Linux; Android 13; SM-S901B Build/TP1A) AppleWebKit/537.36 Chrome/120.0.0.0 Mobile Safari/537.36",
      userAgentData: { mobile: true, getHighEntropyValues: () => Promise.reject(new Error("no")) },
    },
    { model: "SM-S901B", system: "Android 13, Chrome 120", processor: null },
  ],
  "an iPhone": [
    { userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148 Safari/604.1" },
    { model: "iPhone", system: "iOS 17.5.1, Safari 17.5", processor: null },
  ],
  "an iPad, which says that it is a Mac": [
    { userAgent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/26.0 Safari/605.1.15", maxTouchPoints: 5 },
    { model: "iPad", system: "iPadOS, Safari 26.0", processor: null },
  ],
  "a Mac": [
    { userAgent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/26.0 Safari/605.1.15", maxTouchPoints: 0 },
    { model: "Mac", system: "macOS, Safari 26.0", processor: null },
  ],
  "Chrome for iOS": [
    { userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 CriOS/131.0.1 Mobile/15E148 Safari/604.1" },
    { model: "iPhone", system: "iOS 18.1, Chrome 131", processor: null },
  ],
  "Samsung's browser": [
    { userAgent: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36" },
    { model: "phone of an unknown model", system: "Android, Samsung Internet 28", processor: null },
  ],
  "Firefox for Android": [
    { userAgent: "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0" },
    { model: "phone of an unknown model", system: "Android 14, Firefox 133", processor: null },
  ],
  "a Linux computer": [
    {
      userAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/156.0.0.0 Safari/537.36",
      userAgentData: {
        mobile: false,
        getHighEntropyValues: async () => ({
          model: "", platform: "Linux", platformVersion: "6.1.0", architecture: "x86", bitness: "64",
          fullVersionList: [{ brand: "HeadlessChrome", version: "156.0.1" }, { brand: "Not?A_Brand", version: "8" }],
        }),
      },
    },
    { model: "computer", system: "Linux 6.1, Headless Chrome 156", processor: "x86, 64 bits" },
  ],
  "a Windows computer": [
    {
      userAgent: "",
      userAgentData: { mobile: false, getHighEntropyValues: async () => ({ platform: "Windows", platformVersion: "15.0.0" }) },
    },
    { model: "computer", system: "Windows 11", processor: null },
  ],
  "a browser that says nothing": [{}, { model: "computer", system: "unknown system", processor: null }],
};
for (const [what, [navigator, expected]] of Object.entries(agents)) {
  test(`${what} is described as far as it tells`, async () => {
    assert.deepEqual(await describeDevice(navigator), expected);
  });
}
