import assert from "node:assert/strict";
import { test } from "node:test";
import { initialState, reduce, steps, verdict } from "../../assets/js/check_state.js";

const TURN = "turn:192.0.2.1:3478?transport=udp";
const SERVERS = { type: "servers", turnUrls: [TURN] };
const PATH = { type: "path", path: { caller: "relay", callee: "relay", url: TURN, protocol: "udp" } };
const FLOWING = { type: "audio", audio: "flowing" };
const RTT = { type: "rtt", at: 100, ms: 1 };
const found = (type) => ({ type: "candidate", candidate: { type } });
const failed = (code, text = "") => ({ type: "ice_error", error: { code, text, url: TURN, ms: 1 } });
const gathered = (complete) => ({ type: "gathered", complete });

const CONNECTED = [SERVERS, found("relay"), { type: "calling" }, { type: "connected", ms: 90 }];
const after = (...events) => events.reduce(reduce, initialState());
const statuses = (state) => steps(state).map(({ status }) => status).join(" ");

test("a good check, step by step", () => {
  const course = [
    [SERVERS, "gathering", "wait", "good busy todo todo todo"],
    [found("host"), "gathering", "wait", "good busy todo todo todo"],
    [found("relay"), "gathering", "wait", "good busy todo todo todo"],
    [{ type: "calling" }, "connecting", "wait", "good good busy todo todo"],
    [gathered(true), "connecting", "wait", "good good busy todo todo"],
    [{ type: "connected", ms: 90 }, "measuring", "wait", "good good good busy busy"],
    [PATH, "measuring", "wait", "good good good busy busy"],
    [RTT, "measuring", "good", "good good good good busy"],
    [{ type: "rate", at: 1, bitsPerSecond: 1 }, "measuring", "good", "good good good good busy"],
    [FLOWING, "measuring", "good", "good good good good good"],
    [{ type: "finished" }, "finished", "good", "good good good good good"],
  ];
  let state = initialState();
  assert.equal(statuses(state), "busy todo todo todo todo");
  for (const [event, phase, tone, marks] of course) {
    state = reduce(state, event);
    assert.deepEqual([state.phase, verdict(state).tone, statuses(state)], [phase, tone, marks], event.type);
  }
  assert.equal(verdict(state).title, "The relay works");
  assert.match(verdict(state).text, /audio and data/);
  assert.equal(state.connectedMs, 90);
});

test("states are not changed, only succeeded", () => {
  const state = Object.freeze(after(SERVERS));
  reduce(state, found("relay"));
  assert.deepEqual(state.candidates, []);
});

test("audio that the browser holds back is said, and is no failure", () => {
  const state = after(...CONNECTED, RTT, { type: "audio", audio: "blocked" }, { type: "finished" });
  assert.equal(verdict(state).tone, "good");
  assert.match(verdict(state).text, /Audio was not tested/);
  assert.equal(statuses(state), "good good good good skipped");
});

test("why there is no relayed address", () => {
  const cases = [
    [[failed(401, "Unauthorized"), gathered(true)], /refused the credentials/, /401/],
    [[failed(701, "timed out"), failed(401), gathered(true)], /refused the credentials/, /401/],
    [[failed(441), gathered(true)], /refused the credentials/, /441/],
    [[failed(486), gathered(true)], /too many relayed addresses/, /quota/],
    [[failed(508), gathered(true)], /full/, /508/],
    [[failed(420, "Unknown Attribute"), gathered(true)], /The relay refused/, /420: Unknown Attribute/],
    [[failed(500), gathered(true)], /The relay refused/, /It answered 500\.$/],
    [[failed(701, "TURN host lookup received error."), gathered(true)], /name is not known/, /192\.0\.2\.1/],
    [[failed(701, "timed out"), found("host"), gathered(true)], /did not answer/, /firewall/],
    [[found("host"), gathered(false)], /did not answer/, /192\.0\.2\.1 port 3478 \(UDP\)/],
    [[found("host"), found("srflx"), gathered(false)], /gave no relayed address/, /STUN server answered/],
    [[gathered(false)], /gathered nothing/, /network/],
    [[found("host"), gathered(true)], /did not ask the relay/, /192\.0\.2\.1/],
  ];
  for (const [events, title, text] of cases) {
    const state = after(SERVERS, ...events);
    const said = verdict(state);
    assert.equal(said.tone, "bad");
    assert.match(said.title, title);
    assert.match(said.text, text);
    assert.equal(statuses(state), "good bad todo todo todo");
  }
});

test("a relay over TLS is called so", () => {
  const servers = { type: "servers", turnUrls: ["turns:relay.example", "turn:h?transport=tcp"] };
  const { text } = verdict(after(servers, found("host"), gathered(false)));
  assert.match(text, /relay\.example port 5349 \(TLS\), h port 3478 \(TCP\)/);
});

test("failures before there is a server to ask", () => {
  const none = after({ type: "servers", turnUrls: [] });
  assert.match(verdict(none).title, /offered no relay/);
  assert.equal(statuses(none), "bad todo todo todo todo");

  for (const reason of ["no_servers", "bad_servers", "no_webrtc", "internal"]) {
    const state = after({ type: "failed", reason, detail: "A detail." });
    assert.equal(verdict(state).tone, "bad", reason);
    assert.ok(verdict(state).title && verdict(state).text, reason);
  }
  assert.equal(verdict(after({ type: "failed", reason: "no_servers", detail: "404" })).text, "404");
});

test("a call that does not connect", () => {
  const calling = [SERVERS, found("relay"), { type: "calling" }];
  for (const [reason, title] of [["call_failed", /No path/], ["call_timeout", /in time/]]) {
    const state = after(...calling, { type: "failed", reason });
    assert.match(verdict(state).title, title);
    assert.equal(statuses(state), "good good bad todo todo");
  }
});

test("a relay that refuses addresses for the call says why", () => {
  const calling = [SERVERS, found("relay"), { type: "calling" }];
  const lacking = { type: "failed", reason: "call_no_candidates" };
  assert.match(verdict(after(...calling, lacking)).title, /too few addresses/);

  const state = after(...calling, failed(486), lacking);
  assert.match(verdict(state).text, /486/);
  assert.equal(statuses(state), "good good bad todo todo");
  assert.match(verdict(after(...calling, failed(599, "No"), lacking)).text, /599: No/);
  assert.match(verdict(after(...calling, failed(701), lacking)).title, /too few addresses/);
});

test("a call that went around the relay is a failure, whatever passed", () => {
  const path = { caller: "host", callee: "relay", url: null, protocol: null };
  const state = after(...CONNECTED, RTT, { type: "path", path });
  assert.match(verdict(state).title, /around the relay/);
  assert.match(verdict(state).text, /host to relay/);
});

test("silence: from the start, and later", () => {
  const silent = { type: "failed", reason: "call_silent" };
  const mute = after(...CONNECTED, silent);
  assert.match(verdict(mute).title, /No data/);
  assert.equal(statuses(mute), "good good good bad todo");

  const broken = after(...CONNECTED, RTT, FLOWING, silent);
  assert.match(verdict(broken).title, /broke off/);
  assert.equal(statuses(broken), "good good good bad good");

  assert.match(verdict(after(...CONNECTED, { type: "finished" })).title, /No data/);
});

test("audio that was sent and did not arrive", () => {
  const state = after(...CONNECTED, RTT, { type: "audio", audio: "waiting" }, { type: "finished" });
  assert.match(verdict(state).title, /No audio/);
  assert.equal(statuses(state), "good good good good bad");
});

test("what has failed stays failed; late news is still noted", () => {
  const state = after(SERVERS, found("host"), gathered(false), failed(701), found("relay"), RTT, { type: "finished" });
  assert.equal(state.phase, "failed");
  assert.equal(state.pongs, 0);
  assert.equal(state.candidates.length, 2);
  assert.equal(state.errors.length, 1);
  assert.match(verdict(state).title, /did not answer/);
});
