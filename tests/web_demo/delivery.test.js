import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { later, page, settle } from "./page.js";
import { Delivery } from "../../web_demo/src/delivery.js";
import { verifyScreen } from "../../web_demo/src/verify_screen.js";

const bytes = (text) => new TextEncoder().encode(text);
const PASSED = { passed: true, verdicts: [{ runtime: "litert-wasm", status: "passed", reason: null }] };

let sent; // the texts of the reports that reached the command
let command; // what it answers
beforeEach(() => {
  sent = [];
  command = async (text) => (sent.push(text), new Response(JSON.stringify(PASSED)));
  globalThis.fetch = async (path, { body }) => command(await body.text());
});
const lost = async () => {
  throw new TypeError("Failed to fetch");
};
const reports = { config: { reports: "reports" } };
const leaving = () => {
  const event = new Event("beforeunload", { cancelable: true });
  globalThis.dispatchEvent(event);
  return event.defaultPrevented; // then the browser asks
};

for (const [how, back] of [
  ["the network is back", () => globalThis.dispatchEvent(new Event("online"))],
  ["the page is seen again", () => document.dispatchEvent(new Event("visibilitychange"))],
  ["one is sent again", (delivery) => delivery.element.press("Send again")],
]) {
  test(`all reports that did not arrive are kept, and go once ${how}`, async () => {
    const delivery = new Delivery(reports);
    const reaches = command;
    command = lost;
    await delivery.add("a.json", "model-a", bytes("a"));
    delivery.tidy(); // as another verification begins
    await delivery.add("b.json", "model-b", bytes("b"));
    assert.match(delivery.element.textContent, /model-a .*is kept here.* model-b .*is kept here/);
    assert.equal(leaving(), true);
    command = reaches;
    back(delivery);
    await settle();
    assert.deepEqual(sent, ["a", "b"]);
    assert.equal(delivery.element.textContent.match(/Passed/g).length, 2);
    assert.equal(leaving(), false);
    delivery.tidy();
    assert.equal(delivery.element.hidden, true);
  });
}

test("no report is sent twice, and one that is added meanwhile is sent too", async () => {
  const delivery = new Delivery(reports);
  const answers = [];
  command = (text) => (sent.push(text), answers.push(later()), answers.at(-1).promise);
  delivery.add("a.json", "model-a", bytes("a"));
  await settle();
  globalThis.dispatchEvent(new Event("online"));
  delivery.add("b.json", "model-b", bytes("b"));
  await settle();
  assert.deepEqual(sent, ["a"]);
  answers[0].resolve(new Response(JSON.stringify(PASSED)));
  await settle();
  assert.deepEqual(sent, ["a", "b"]);
  answers[1].resolve(new Response(JSON.stringify(PASSED)));
  await settle();
});

test("what the command refuses it has: it is told and not sent again", async () => {
  const delivery = new Delivery(reports);
  command = async (text) => (sent.push(text), new Response(JSON.stringify({ error: "of another file" }), { status: 400 }));
  await delivery.add("a.json", "model-a", bytes("a"));
  globalThis.dispatchEvent(new Event("online"));
  await settle();
  assert.deepEqual(sent, ["a"]);
  assert.match(delivery.element.textContent, /the command refuses the report: of another file/);
  assert.equal(leaving(), false);
});

test("where no command waits, the line that judges a report names its artifact, and reports stay to be saved", async () => {
  const delivery = new Delivery({ config: { reports: null } });
  await delivery.add("a.device-report.json", "model-a", bytes("a"));
  delivery.tidy();
  await delivery.add("b.device-report.json", "model-b", bytes("b"));
  assert.match(delivery.element.textContent, /mobilevit verify model-a --device-report a\.device-report\.json/);
  assert.match(delivery.element.textContent, /mobilevit verify model-b --device-report b\.device-report\.json/);
  assert.deepEqual(sent, []);
});

test("a browser that refuses to share says so; a person who thinks better of it hears nothing", async () => {
  let refusal = "AbortError";
  Object.assign(navigator, { canShare: () => true, share: () => Promise.reject(new DOMException("no", refusal)) });
  const delivery = new Delivery({ config: { reports: null } });
  await delivery.add("a.json", "model-a", bytes("a"));
  delivery.element.press("Share");
  await settle();
  assert.doesNotMatch(delivery.element.textContent, /does not share/);
  refusal = "NotAllowedError";
  delivery.element.press("Share");
  await settle();
  assert.match(delivery.element.textContent, /This browser does not share reports; save it instead\./);
  delete navigator.canShare;
});

test("accelerators are asked about the model that is verified, whatever is chosen meanwhile", async () => {
  const artifact = { name: "first", manifest: { file: "a.tflite", sha256: "0".repeat(64) }, reference: { cases: [{}] }, referenceSha256: "1".repeat(64) };
  const asked = [];
  globalThis.fetch = lost; // LiteRT.js does not load, which is an error of each run
  const app = { config: { reports: null, version: "1" }, clear() {}, settled: async () => chosen, missing: (accelerator, of) => (asked.push([accelerator, of.name]), null) };
  let chosen = artifact;
  const panel = page.element();
  verifyScreen(panel, app);
  panel.press("Verify");
  chosen = { name: "second" };
  await settle();
  assert.deepEqual(asked, [["wasm", "first"], ["webgpu", "first"]]);
  assert.match(panel.textContent, /mobilevit verify first --device-report first\./);
});

test("a verification that is asked for while a model loads is of that model", async () => {
  const artifact = { name: "late", manifest: { file: "a.tflite", sha256: "0".repeat(64) }, reference: { cases: [{}] }, referenceSha256: "1".repeat(64) };
  globalThis.fetch = lost;
  let loaded;
  const loading = new Promise((done) => (loaded = done));
  const app = { config: { reports: null, version: "1" }, clear() {}, settled: () => loading, missing: () => null };
  const panel = page.element();
  const screen = verifyScreen(panel, app);
  panel.press("Verify");
  await settle();
  screen.changed(); // as the page says once the model is loaded
  loaded(artifact);
  await settle();
  assert.match(panel.textContent, /mobilevit verify late --device-report late\./);
  assert.equal(panel.children[1].hidden, false); // the accelerators' cards
});
