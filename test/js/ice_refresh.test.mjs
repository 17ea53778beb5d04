import assert from "node:assert/strict";
import { test } from "node:test";
import { needsRestart } from "../../assets/js/ice_refresh.js";

const pair = (type, url = null) => ({ local: { type, url }, remote: { type: "relay" } });
const URL = "turn:192.0.2.1:3478?transport=udp";

test("a relayed connection in trouble", () => {
  for (const [state, expected] of [
    ["disconnected", true], ["failed", true], ["connected", false], ["connecting", false], ["new", false],
  ]) {
    assert.equal(needsRestart({ pair: pair("relay", URL), state, turnUrls: [URL] }), expected, state);
  }
});

test("a connection past the relay needs no credentials", () => {
  for (const state of ["connected", "disconnected", "failed"]) {
    assert.equal(needsRestart({ pair: pair("host"), state, turnUrls: [] }), false);
    assert.equal(needsRestart({ pair: pair("srflx"), state, turnUrls: [URL] }), false);
  }
});

test("a connection that never came about may need the relay", () => {
  assert.equal(needsRestart({ pair: null, state: "failed", turnUrls: [URL] }), true);
  assert.equal(needsRestart({ pair: null, state: "failed", turnUrls: [] }), false);
  assert.equal(needsRestart({ pair: null, state: "connecting", turnUrls: [URL] }), false);
});

test("a relay that is no longer listed", () => {
  const same = ["turn:192.0.2.1", "TURN:192.0.2.1:3478", URL, "turn:192.0.2.1:3478"];
  for (const url of same) {
    assert.equal(needsRestart({ pair: pair("relay", URL), state: "connected", turnUrls: ["turn:x", url] }), false, url);
  }
  const other = ["turn:192.0.2.2", "turn:192.0.2.1:80", "turn:192.0.2.1?transport=tcp", "turns:192.0.2.1:3478"];
  assert.equal(needsRestart({ pair: pair("relay", URL), state: "connected", turnUrls: other }), true);
  assert.equal(needsRestart({ pair: pair("relay", URL), state: "connected", turnUrls: [] }), true);
  assert.equal(needsRestart({ pair: pair("relay"), state: "connected", turnUrls: other }), false, "unknown");
});
