import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, launchBrowser, startServer } from "./support.mjs";

// Three users of a relay that lets only members of a room in, and to each other: two are in one room, one in another.

const SOON = 20_000;

let relay;
let browser;

before(async () => {
  [relay, browser] = await Promise.all([startServer("admission=room"), launchBrowser()]);
});

after(async () => {
  await browser?.close();
  await relay?.stop();
});

// ---- what runs in the pages; it keeps its state in `window.calls` ----

function prepare({ name, iceServers }) {
  const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
  const channel = pc.createDataChannel("call", { negotiated: true, id: 0 });
  const call = { pc, channel, errors: [], got: [] };
  channel.addEventListener("message", ({ data }) => call.got.push(data));
  pc.addEventListener("icecandidateerror", ({ errorCode }) => call.errors.push(errorCode));
  window.calls = { ...window.calls, [name]: call };
}

/** Takes what the other end said, if it has, and says where this one can be reached, with all its candidates. */
async function describe({ name, remote }) {
  const { pc } = window.calls[name];
  const gathered = new Promise((resolve) => {
    pc.addEventListener("icegatheringstatechange", () => pc.iceGatheringState === "complete" && resolve());
  });
  if (remote) await pc.setRemoteDescription(remote);
  await pc.setLocalDescription();
  await gathered;
  return pc.localDescription.toJSON();
}

function accept({ name, remote }) {
  return window.calls[name].pc.setRemoteDescription(remote);
}

function say({ name, text }) {
  const { channel } = window.calls[name];
  if (channel.readyState === "open") channel.send(text);
}

function look(name) {
  const { pc, channel, errors, got } = window.calls[name];
  return { state: pc.connectionState, channel: channel.readyState, errors, got };
}

// ---- calls ----

/** A call between two pages, as far as it gets: what each page is asked of it from then on. */
async function call(name, [one, other]) {
  await one.page.evaluate(prepare, { name, iceServers: one.iceServers });
  await other.page.evaluate(prepare, { name, iceServers: other.iceServers });
  const offer = await one.page.evaluate(describe, { name, remote: null });
  const answer = await other.page.evaluate(describe, { name, remote: offer });
  await one.page.evaluate(accept, { name, remote: answer });
  return { offer, answer };
}

async function enter(t, user, room) {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(relay.url);
  const { ice_servers: iceServers } = await relay.join(user, room);
  return { page, user, iceServers };
}

const candidates = ({ sdp }) => sdp.match(/^a=candidate:.*$/gm) ?? [];

test("members of a room talk, one of another room is not reached, and who has left is cut off", async (t) => {
  const alice = await enter(t, "alice", "lobby");
  const bob = await enter(t, "bob", "lobby");
  const carol = await enter(t, "carol", "stage");

  await call("lobby", [alice, bob]);
  const opened = async ({ page }, name) => {
    const seen = await page.evaluate(look, name);
    return [seen.channel === "open", seen];
  };
  await eventually(() => opened(alice, "lobby"), SOON);
  await eventually(() => opened(bob, "lobby"), SOON);
  await alice.page.evaluate(say, { name: "lobby", text: "from alice" });
  await bob.page.evaluate(say, { name: "lobby", text: "from bob" });
  const heard = ({ page }, text) => async () => {
    const { got } = await page.evaluate(look, "lobby");
    return [got.includes(text), got];
  };
  await eventually(heard(bob, "from alice"), SOON);
  await eventually(heard(alice, "from bob"), SOON);

  // Both have an address at the relay, and may name each other's: nothing goes from one to the other.
  const { offer, answer } = await call("between", [alice, carol]);
  for (const side of [offer, answer]) assert.ok(candidates(side).length > 0, side.sdp);
  const dropped = async () => {
    const { counters } = await relay.stats();
    return [counters.drop_other_room >= 4, counters];
  };
  await eventually(dropped, SOON);
  for (const { page } of [alice, carol]) {
    const { channel, got } = await page.evaluate(look, "between");
    assert.equal(channel, "connecting");
    assert.deepEqual(got, []);
  }

  // Without a place: what bob had is gone at once, and his credentials, which hold for an hour, get him nothing.
  await relay.leave("bob");
  const gone = async () => {
    const users = (await relay.list()).map(({ username }) => username.split(":")[1]);
    return [!users.includes("bob") && users.includes("alice"), users];
  };
  await eventually(gone, SOON);
  await bob.page.evaluate(prepare, { name: "again", iceServers: bob.iceServers });
  const alone = await bob.page.evaluate(describe, { name: "again", remote: null });
  assert.deepEqual(candidates(alone), []);
  const { counters } = await relay.stats();
  assert.ok(counters.refused_admission > 0);
  assert.ok(counters.allocations_withdrawn > 0);
});
