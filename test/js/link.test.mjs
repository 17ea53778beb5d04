import assert from "node:assert/strict";
import { test } from "node:test";
import { Link } from "../../assets/js/link.js";
import { fragmentsOf } from "../../assets/js/sdp.js";
import { FakeNetwork, settled } from "./fakes.mjs";

/** An end with its link, whose messages wait in `sent` until a test delivers them. */
function end(network, polite) {
  const sent = [];
  const pc = new network.RTCPeerConnection({});
  const attach = (to) => to.addTransceiver("audio");
  const link = new Link(pc, polite, { attach, send: (event, payload) => sent.push([event, payload]) });
  const take = (event) => {
    const at = sent.findIndex(([name]) => name === event);
    assert.ok(at >= 0, `no ${event} was sent`);
    const [[, payload]] = sent.splice(at, 1);
    return payload.sdp ?? payload.candidate;
  };
  return { pc, link, sent, take };
}

function ends() {
  const network = new FakeNetwork();
  return { network, rude: end(network, false), polite: end(network, true) };
}

async function offer(one) {
  one.link.attach();
  await one.link.offer();
  return one.take("sdp_offer");
}

async function connect(from, to) {
  assert.equal(await to.link.receive(await offer(from)), "taken");
  assert.equal(await from.link.receive(to.take("sdp_answer")), "taken");
  assert.deepEqual([from.pc.connectionState, to.pc.connectionState], ["connected", "connected"]);
}

test("an offer and its answer, from either end", async () => {
  for (const first of ["rude", "polite"]) {
    const both = ends();
    const [from, to] = first === "rude" ? [both.rude, both.polite] : [both.polite, both.rude];
    await connect(from, to);
    assert.ok(from.link.alive && to.link.alive);
  }
});

test("two offers that cross: the polite end takes its own back, whatever comes first", async () => {
  for (const order of [["rude", "polite"], ["polite", "rude"]]) {
    const both = ends();
    const offers = { rude: await offer(both.rude), polite: await offer(both.polite) };
    const results = {};
    for (const at of order) results[at] = await both[at].link.receive(offers[at === "rude" ? "polite" : "rude"]);
    assert.deepEqual(results, { rude: "ignored", polite: "taken" });
    assert.equal(await both.rude.link.receive(both.polite.take("sdp_answer")), "taken");
    await settled();
    assert.equal(both.rude.pc.connectionState, "connected");
    assert.equal(both.polite.pc.connectionState, "connected");
  }
});

test("candidates wait for their description, also those that come before the offer", async () => {
  const { rude, polite } = ends();
  const sdp = await offer(rude);
  const [candidate, last] = [rude.take("ice_candidate"), rude.take("ice_candidate")];
  assert.deepEqual(last, { candidate: "", sdpMid: "0", sdpMLineIndex: 0, usernameFragment: fragmentsOf(sdp.sdp)[0] });

  await polite.link.candidate(candidate);
  await polite.link.candidate(last);
  assert.deepEqual(polite.pc.candidates, []);
  await polite.link.receive(sdp);
  assert.deepEqual(polite.pc.candidates, [candidate, last]);
  await polite.link.candidate(candidate);
  assert.equal(polite.pc.candidates.length, 3, "and then no more");
});

test("candidates of another generation: early ones are kept, late ones dropped", async () => {
  const { rude, polite } = ends();
  await connect(rude, polite);
  const late = rude.take("ice_candidate");
  rude.take("ice_candidate");
  rude.pc.restartIce();
  await rude.link.offer();
  const early = rude.take("ice_candidate");
  const restart = rude.take("sdp_offer");

  await polite.link.candidate(early);
  assert.deepEqual(polite.pc.candidates, []);
  await polite.link.receive(restart);
  assert.deepEqual(polite.pc.candidates, [early]);
  await polite.link.candidate(late);
  assert.deepEqual(polite.pc.candidates, [early]);
  await polite.link.candidate({ ...late, usernameFragment: null });
  assert.equal(polite.pc.candidates.length, 2, "who names no generation is believed");
});

test("held candidates are bounded", async () => {
  const { polite } = ends();
  for (let i = 0; i < 300; i++) await polite.link.candidate({ candidate: `c${i}`, usernameFragment: "x" });
  assert.equal(polite.link.held.length, 100);
});

test("answers to nothing, to an offer taken back, and to an earlier connection's offer", async () => {
  const { network, rude, polite } = ends();
  const first = await offer(polite);
  await rude.link.receive(first);
  const answer = rude.take("sdp_answer");
  assert.equal(await polite.link.receive(answer), "taken");
  assert.equal(await polite.link.receive(answer), "ignored", "again");

  const fresh = end(network, true);
  await offer(fresh);
  assert.equal(await fresh.link.receive(answer), "ignored", "of the connection before");
  assert.equal(fresh.pc.signalingState, "have-local-offer");
});

test("a peer that began anew is foreign: nothing is touched", async () => {
  const { network, rude, polite } = ends();
  await connect(rude, polite);
  const fresh = end(network, false);
  assert.equal(await polite.link.receive(await offer(fresh)), "foreign");
  assert.equal(polite.pc.signalingState, "stable");

  // The answer to a restart comes from a new connection, which took it for a first offer.
  rude.pc.restartIce();
  await rude.link.offer();
  const other = end(network, true);
  await other.link.receive(rude.take("sdp_offer"));
  assert.equal(await rude.link.receive(other.take("sdp_answer")), "foreign");
});

test("an offer without answer is repeated as it was, and the second answer is for nothing", async () => {
  const { rude, polite } = ends();
  const first = await offer(rude);
  await rude.link.offer();
  assert.ok(!rude.sent.some(([event]) => event === "sdp_offer"), "one at a time");
  await rude.link.offer({ again: true });
  const second = rude.take("sdp_offer");
  assert.deepEqual(second, first);
  await polite.link.receive(first);
  await polite.link.receive(second);
  assert.equal(await rude.link.receive(polite.take("sdp_answer")), "taken");
  assert.equal(await rude.link.receive(polite.take("sdp_answer")), "ignored");
});

test("alive until either end closes or fails", async () => {
  const { rude, polite } = ends();
  assert.equal(rude.link.alive, false);
  await connect(rude, polite);
  rude.pc.become("disconnected");
  assert.equal(rude.link.alive, true, "it may mend itself");
  rude.pc.endTransport();
  assert.equal(rude.link.alive, false);
  polite.link.close();
  assert.equal(polite.link.alive, false);
  assert.equal(polite.pc.signalingState, "closed");
});
