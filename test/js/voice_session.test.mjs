import assert from "node:assert/strict";
import { test } from "node:test";
import { VoiceError } from "../../assets/js/voice_error.js";
import { VoiceSession } from "../../assets/js/voice_session.js";
import { settled } from "./fakes.mjs";

/** Rooms that join and leave when the test says so. */
function rooms() {
  const log = [];
  const gates = {};
  const gate = (name) => new Promise((resolve, reject) => (gates[name] = { resolve, reject }));
  const make = (name) => () => {
    log.push(`${name} made`);
    let leaving = null;
    const leave = () => {
      log.push(`${name} leaves`);
      gates[`${name} joined`].reject(new VoiceError("left"));
      return gate(`${name} left`).then(() => log.push(`${name} left`));
    };
    return {
      name,
      join: () => gate(`${name} joined`).then(() => log.push(`${name} joined`)),
      leave: () => (leaving ??= leave()),
    };
  };
  const pass = async (name) => {
    await settled();
    gates[name].resolve();
    await settled();
  };
  return { log, make, pass, gates };
}

test("the old room is left before the next is made", async () => {
  const { log, make, pass } = rooms();
  const session = new VoiceSession();
  session.join(make("A"));
  await pass("A joined");
  const joined = session.join(make("B"));
  await settled();
  assert.deepEqual(log, ["A made", "A joined", "A leaves"]);
  await pass("A left");
  await pass("B joined");
  await joined;
  assert.deepEqual(log.slice(3), ["A left", "B made", "B joined"]);
  assert.equal(session.room.name, "B");
});

test("of several asked for in a row the last counts, even while one is joining", async () => {
  const { log, make, pass } = rooms();
  const session = new VoiceSession(assert.fail);
  session.join(make("A"));
  await settled();
  session.join(make("B"));
  const joined = session.join(make("C"));
  await pass("A left");
  await pass("C joined");
  await joined;
  assert.deepEqual(log, ["A made", "A leaves", "A left", "C made", "C joined"]);
});

test("leave() ends a join that is under way, and what was asked for after it", async () => {
  const { log, make, pass } = rooms();
  const session = new VoiceSession(assert.fail);
  session.join(make("A"));
  await settled();
  session.join(make("B"));
  const left = session.leave();
  await pass("A left");
  await left;
  assert.deepEqual(log, ["A made", "A leaves", "A left"]);
  assert.equal(session.room, null);
  await session.leave();
});

test("a join that fails is told, and the next one works", async () => {
  const { log, make, pass, gates } = rooms();
  const failures = [];
  const session = new VoiceSession((error) => failures.push(error.reason ?? error.message));
  const first = session.join(make("A"));
  await settled();
  gates["A joined"].reject(new VoiceError("voice_disabled"));
  await first;
  assert.deepEqual(failures, ["voice_disabled"]);

  const second = session.join(() => {
    throw new Error("no socket");
  });
  await pass("A left");
  await second;
  assert.deepEqual(failures, ["voice_disabled", "no socket"]);
  assert.equal(session.room, null);

  const third = session.join(make("B"));
  await pass("B joined");
  await third;
  assert.equal(log.at(-1), "B joined");
});
