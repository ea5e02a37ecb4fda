import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { ArtifactError, NetworkError } from "../../web_demo/src/errors.js";
import { getBytes, loadArtifact, sendReport } from "../../web_demo/src/network.js";
import { MANIFEST, reference } from "./files.js";

const FILE = Uint8Array.from({ length: 1000 }, (_, index) => index % 251);
const small = { ...MANIFEST.app_input, shape: [1, 2, 1, 3], resizing: { ...MANIFEST.app_input.resizing, center_crop: [2, 1] } };
const manifest = {
  ...MANIFEST,
  bytes: FILE.length,
  sha256: createHash("sha256").update(FILE).digest("hex"),
  app_input: small,
};

/** A server: the answers by path. */
function serve(answers) {
  globalThis.fetch = async (path, options) => {
    const answer = answers[path] ?? new Response("", { status: 404 });
    if (answer instanceof Error) throw answer;
    return typeof answer === "function" ? answer(options) : answer;
  };
}

function site(change = {}) {
  const folder = "artifacts/a-tflite-fp32";
  serve({
    [`${folder}/manifest.json`]: new Response(JSON.stringify(manifest)),
    [`${folder}/mobilevit_xxs.tflite`]: new Response(FILE),
    [`${folder}/reference.safetensors`]: new Response(reference()),
    ...Object.fromEntries(Object.entries(change).map(([name, answer]) => [`${folder}/${name}`, answer])),
  });
  return loadArtifact("a-tflite-fp32", () => {});
}

const rejects = (promise, kind, message) =>
  assert.rejects(promise, (error) => (assert.ok(error instanceof kind, String(error)), assert.match(error.message, message), true));

test("an artifact is loaded whole, with the hash of its reference vectors", async () => {
  const { file, reference: read, referenceSha256 } = await site();
  assert.deepEqual(file, FILE);
  assert.equal(read.cases.length, 2);
  assert.equal(referenceSha256, createHash("sha256").update(new Uint8Array(reference())).digest("hex"));
});

const damaged = {
  "a file cut short": [{ "mobilevit_xxs.tflite": new Response(FILE.slice(1)) }, /^mobilevit_xxs\.tflite is cut short: 999 of 1000 bytes$/],
  "a larger file": [{ "mobilevit_xxs.tflite": new Response(new Uint8Array(1001)) }, /is larger than the 1000 bytes/],
  "a damaged file": [{ "mobilevit_xxs.tflite": new Response(FILE.with(7, 0)) }, /is damaged: its SHA-256 is not that of its manifest/],
  "no file": [{ "mobilevit_xxs.tflite": new Response("", { status: 404 }) }, /^mobilevit_xxs\.tflite is not on the server \(404\)$/],
  "a page instead of a manifest": [{ "manifest.json": new Response("<html>") }, /manifest\.json is damaged/],
  "damaged vectors": [{ "reference.safetensors": new Response("x") }, /^reference\.safetensors is damaged/],
};
for (const [what, [change, message]] of Object.entries(damaged)) {
  test(`${what} is told in one line`, () => rejects(site(change), ArtifactError, message));
}

test("a connection that is lost is told apart, before and amid a file", async () => {
  await rejects(site({ "manifest.json": new TypeError("Failed to fetch") }), NetworkError, /^manifest\.json does not arrive/);
  const cut = new ReadableStream({
    pull(controller) {
      controller.enqueue(FILE.slice(0, 10));
      controller.error(new TypeError("network error"));
    },
  });
  await rejects(site({ "mobilevit_xxs.tflite": new Response(cut) }), NetworkError, /connection to the server is lost/);
  await rejects(site({ "manifest.json": new Response("", { status: 503 }) }), NetworkError, /the server answers 503/);
});

test("a server that never ends is left", async () => {
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1000)) });
  serve({ "big.bin": new Response(endless) });
  await rejects(getBytes("big.bin", 5000), ArtifactError, /larger than the 5000 bytes/);
});

const json = (value, status = 200) => new Response(JSON.stringify(value), { status });
test("a verdict comes back", async () => {
  serve({ reports: ({ method, body }) => json({ passed: method === "POST" && body.length === 3, verdicts: [] }) });
  assert.deepEqual(await sendReport("reports", Uint8Array.of(1, 2, 3)), { passed: true, verdicts: [] });
});

const failures = {
  "a command that refuses": [json({ error: "another\nfile" }, 400), ArtifactError, /^the command refuses the report: another file$/],
  "a command without a reason": [json({}, 413), ArtifactError, /refuses the report: it answers 413/],
  "an answer that is no verdict": [json({ passed: "yes", verdicts: [] }), ArtifactError, /it answers 200/],
  "a command that is busy": [json({ error: "busy" }, 429), NetworkError, /does not take the report: busy/],
  "a proxy's page": [new Response("<html>", { status: 502 }), NetworkError, /does not take the report \(502\)/],
  "a page where JSON should be": [new Response("<html>"), NetworkError, /the connection to the command is lost/],
  "no command": [new TypeError("Failed to fetch"), NetworkError, /the connection to the command is lost/],
};
for (const [what, [answer, kind, message]] of Object.entries(failures)) {
  test(`${what} is told in one line`, async () => {
    serve({ reports: answer });
    await rejects(sendReport("reports", new Uint8Array(1)), kind, message);
  });
}
