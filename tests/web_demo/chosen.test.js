import assert from "node:assert/strict";
import { test } from "node:test";

import { Chosen } from "../../web_demo/src/chosen.js";
import { later, settle } from "./page.js";

function chooser() {
  const loads = {};
  const chosen = new Chosen((name, onPart) => ((loads[name] = { ...later(), onPart }), loads[name].promise));
  return { chosen, loads };
}

test("what needs the model waits while it loads, and gets the one that was chosen last", async () => {
  const { chosen, loads } = chooser();
  chosen.choose("a");
  let got = "nothing yet";
  chosen.settled().then((artifact) => (got = artifact));
  chosen.choose("b");
  loads.a.resolve("artifact a");
  await settle();
  assert.equal(got, "nothing yet");
  assert.equal(chosen.artifact, null);
  loads.b.resolve("artifact b");
  await settle();
  assert.deepEqual([got, chosen.artifact], ["artifact b", "artifact b"]);
});

test("one that was given up neither counts, nor fails, nor tells how far it is", async () => {
  const { chosen, loads } = chooser();
  const told = [];
  const first = chosen.choose("a", (share) => told.push(share));
  const second = chosen.choose("b", (share) => told.push(share));
  loads.a.onPart(0.1);
  loads.b.onPart(0.2);
  loads.b.resolve("artifact b");
  loads.a.reject(new Error("lost"));
  assert.deepEqual([await first, await second, chosen.artifact, told], [false, true, "artifact b", [0.2]]);
});

test("a model that does not load is none, for those who waited too", async () => {
  const { chosen, loads } = chooser();
  assert.equal(await chosen.settled(), null);
  const mine = chosen.choose("a");
  const waiting = chosen.settled();
  loads.a.reject(new Error("damaged"));
  await assert.rejects(mine, /damaged/);
  assert.equal(await waiting, null);
});
