import assert from "node:assert/strict";
import { test } from "node:test";
import { Recovery } from "../../assets/js/recovery.js";
import { fakeTime } from "./fakes.mjs";

const TIMES = { disconnectedMs: 30, connectMs: 100, retryMs: 40, retryMaxMs: 100, attempts: 4 };

function start(t) {
  const time = fakeTime(t);
  const log = [];
  let now = 0;
  const calls = { restart: (attempt) => log.push(`${now}: ${attempt}`), giveUp: () => log.push(`${now}: gave up`) };
  const recovery = new Recovery(calls, TIMES);
  const pass = async (ms) => {
    for (let i = 0; i < ms; i += 10, now += 10) await time.tick(10);
  };
  recovery.begin();
  return { time, log, recovery, pass };
}

test("a first connection has its time, then is tried again, ever later, then given up", async (t) => {
  const { time, log, pass } = start(t);
  await pass(2_000);
  assert.deepEqual(log, ["90: 1", "130: 2", "210: 3", "310: 4", "410: gave up"]);
  assert.equal(time.timers.size, 0);
});

test("connected in time: nothing happens", async (t) => {
  const { time, log, recovery, pass } = start(t);
  recovery.update("connecting");
  await pass(50);
  recovery.update("connected");
  await pass(2_000);
  assert.deepEqual(log, []);
  assert.equal(time.timers.size, 0);
  recovery.retry();
  await pass(100);
  assert.deepEqual(log, [], "what works is not tried again");
});

test("what falters has time to mend itself; what failed has not", async (t) => {
  const { log, recovery, pass } = start(t);
  recovery.update("connected");
  recovery.update("disconnected");
  await pass(20);
  recovery.update("connected");
  await pass(100);
  assert.deepEqual(log, []);
  recovery.update("disconnected");
  await pass(50);
  assert.deepEqual(log, ["140: 1"]);
  recovery.update("connecting");
  recovery.update("connected");
  recovery.update("failed");
  await pass(10);
  assert.deepEqual(log, ["140: 1", "170: 1"], "and counts from one again");
});

test("failures while a restart is under way change nothing", async (t) => {
  const { log, recovery, pass } = start(t);
  recovery.update("connected");
  recovery.update("failed");
  await pass(10);
  for (const state of ["connecting", "failed", "disconnected", "failed"]) recovery.update(state);
  await pass(20);
  assert.deepEqual(log, ["0: 1"]);
  await pass(20);
  assert.deepEqual(log, ["0: 1", "30: 2"]);
});

test("given up, till the network is another", async (t) => {
  const { log, recovery, pass } = start(t);
  await pass(500);
  assert.equal(log.at(-1), "410: gave up");
  recovery.update("disconnected");
  await pass(500);
  assert.ok(log.slice(5).every((line) => line.endsWith("gave up")), "no attempt of its own");
  recovery.retry();
  await pass(10);
  assert.equal(log.at(-1), "1000: 1");
});

test("stopped for good", async (t) => {
  const { time, log, recovery, pass } = start(t);
  recovery.stop();
  recovery.update("failed");
  recovery.retry();
  recovery.begin();
  await pass(500);
  assert.deepEqual(log, []);
  assert.equal(time.timers.size, 0);
});
