import assert from "node:assert/strict";
import { test } from "node:test";
import { readCandidate, readDescription, readId, readTalking, readUser } from "../../assets/js/signal.js";

const route = { from: "ann", to: "ben" };

test("descriptions", () => {
  const description = { type: "offer", sdp: "v=0" };
  assert.deepEqual(readDescription({ ...route, sdp: description }, "offer"), { ...route, description });
  assert.deepEqual(readDescription({ ...route, sdp: "v=0" }, "offer"), { ...route, description });
  assert.deepEqual(readDescription({ from: 7, to: 8, sdp: description }, "offer"), { from: "7", to: "8", description });

  const bad = [
    null, undefined, 7, "x", [], {}, { sdp: description }, { from: "ann", sdp: description },
    { ...route }, { ...route, sdp: null }, { ...route, sdp: 7 }, { ...route, sdp: {} }, { ...route, sdp: "" },
    { ...route, sdp: { type: "answer", sdp: "v=0" } }, { ...route, sdp: { type: "rollback", sdp: "v=0" } },
    { ...route, sdp: { type: "offer", sdp: 7 } }, { ...route, sdp: "x".repeat(256 * 1024 + 1) },
    { from: "", to: "ben", sdp: description }, { from: {}, to: "ben", sdp: description },
    { from: "a".repeat(256), to: "ben", sdp: description }, { from: 1.5, to: "ben", sdp: description },
  ];
  for (const payload of bad) assert.equal(readDescription(payload, "offer"), null, JSON.stringify(payload)?.slice(0, 99));
});

test("candidates", () => {
  const whole = { candidate: "candidate:1", sdpMid: "0", sdpMLineIndex: 0, usernameFragment: "u" };
  const none = { sdpMid: null, sdpMLineIndex: null, usernameFragment: null };
  assert.deepEqual(readCandidate({ ...route, candidate: whole }), { ...route, candidate: whole });
  assert.deepEqual(readCandidate({ ...route, candidate: { ...whole, more: 1 } })?.candidate, whole, "nothing else");
  assert.deepEqual(readCandidate({ ...route, candidate: { candidate: "c" } })?.candidate, { candidate: "c", ...none });
  assert.deepEqual(readCandidate({ ...route, candidate: null })?.candidate, { candidate: "", ...none });

  const bad = [
    null, 7, {}, route, { candidate: whole }, { ...route, candidate: "c" }, { ...route, candidate: {} },
    { ...route, candidate: { ...whole, candidate: 7 } }, { ...route, candidate: { ...whole, sdpMid: 0 } },
    { ...route, candidate: { ...whole, sdpMLineIndex: -1 } }, { ...route, candidate: { ...whole, sdpMLineIndex: "0" } },
    { ...route, candidate: { ...whole, usernameFragment: {} } },
    { ...route, candidate: { candidate: "c".repeat(2049) } },
  ];
  for (const payload of bad) assert.equal(readCandidate(payload), null, JSON.stringify(payload)?.slice(0, 99));
});

test("ids, users and talking", () => {
  assert.deepEqual([readId("a"), readId(0), readId(""), readId(null), readId(NaN)], ["a", "0", null, null, null]);
  assert.deepEqual([readUser({ user_id: 5 }), readUser({}), readUser(null)], ["5", null, null]);
  assert.deepEqual(readTalking({ user_id: "a", active: true }), { userId: "a", active: true });
  for (const payload of [null, {}, { user_id: "a" }, { active: true }, { user_id: "a", active: 1 }]) {
    assert.equal(readTalking(payload), null);
  }
});
