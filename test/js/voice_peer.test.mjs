import assert from "node:assert/strict";
import { test } from "node:test";
import { VoicePeer } from "../../assets/js/voice_peer.js";
import { FakeNetwork, fakeTime, settled } from "./fakes.mjs";

const TURN = "turn:relay.example:3478?transport=udp";

/** Two ends who signal through `lost`, which takes a message away when it says so. */
function pair(t) {
  const time = fakeTime(t);
  const network = new FakeNetwork();
  const log = [];
  const ends = {};
  const world = { time, network, log, ends, lost: () => false };
  const make = (name, other, initiates) => {
    ends[name] = new VoicePeer(other, initiates, {
      connect: () => new network.RTCPeerConnection({}),
      attach: (pc) => pc.addTransceiver("audio"),
      send: (event, payload) => {
        if (event !== "ice_candidate") log.push(`${name} ${event}`);
        if (world.lost(name, event)) return;
        setImmediate(() => {
          if (payload.sdp) ends[other]?.receive(payload.sdp);
          else ends[other]?.candidate(payload.candidate);
        });
      },
      onState: () => undefined,
      onStream: () => undefined,
      onError: (error) => log.push(`${name} ${error.message}`),
    });
    return ends[name];
  };
  world.make = (name) => make(name, name === "a" ? "b" : "a", name === "a");
  world.make("a");
  world.make("b");
  world.states = () => [ends.a.state, ends.b.state];
  world.close = () => {
    ends.a.close();
    ends.b.close();
    assert.equal(network.open.length, 0);
    assert.equal(time.timers.size, 0);
  };
  return world;
}

const UP = ["connected", "connected"];

test("one initiates, the other answers", async (t) => {
  const { ends, log, states, close } = pair(t);
  ends.b.start();
  ends.a.start();
  ends.a.start();
  await settled();
  assert.deepEqual(states(), UP);
  assert.deepEqual(log, ["a sdp_offer", "b sdp_answer"]);
  close();
});

test("whose part it is not offers when nothing comes", async (t) => {
  const { time, ends, log, states, close } = pair(t);
  ends.b.start();
  await time.tick(2_400);
  assert.deepEqual(log, []);
  await time.tick(200);
  assert.deepEqual(states(), UP);
  assert.deepEqual(log, ["b sdp_offer", "a sdp_answer"]);
  close();
});

test("both offer at once", async (t) => {
  const { time, ends, states, close } = pair(t);
  ends.b.start();
  await time.tick(2_499);
  ends.a.start();
  await time.tick(1);
  assert.deepEqual(states(), UP);
  close();
});

test("an offer or an answer that is lost is made good", async (t) => {
  for (const event of ["sdp_offer", "sdp_answer"]) {
    const world = pair(t);
    let rest = 1;
    world.lost = (_name, sent) => sent === event && (rest -= 1) >= 0;
    world.ends.a.start();
    await settled();
    assert.notDeepEqual(world.states(), UP);
    await world.time.tick(10_000);
    assert.deepEqual(world.states(), UP, event);
    world.close();
  }
});

test("a failure: ICE restarts on the same connections", async (t) => {
  const { time, network, ends, states, close } = pair(t);
  ends.a.start();
  await settled();
  network.break("failed");
  assert.deepEqual(states(), ["connecting", "connecting"]);
  await time.tick(10);
  assert.deepEqual(states(), UP);
  assert.equal(network.connections.length, 2);
  assert.ok(network.connections.some((pc) => pc.restarts > 0));
  close();
});

test("a connection that falters is given time", async (t) => {
  const { time, network, ends, states, close } = pair(t);
  ends.a.start();
  await settled();
  network.break("disconnected");
  await time.tick(2_900);
  assert.ok(network.connections.every((pc) => pc.restarts === 0));
  await time.tick(200);
  assert.deepEqual(states(), UP);
  assert.deepEqual(network.connections.map((pc) => pc.restarts), [1, 0], "one end is the first");
  close();
});

test("restarts that do not help end in new connections, and then in giving up", async (t) => {
  const { time, network, ends, states, close } = pair(t);
  ends.a.start();
  await settled();
  network.up = false;
  network.break("failed");
  await time.tick(120_000);
  assert.deepEqual(states(), ["disconnected", "disconnected"]);
  assert.ok(network.connections.length > 2);
  assert.equal(network.open.length, 2);
  const before = network.connections.length;
  await time.tick(600_000);
  assert.equal(network.connections.length, before, "and nothing more is tried");

  network.up = true;
  ends.b.networkChanged();
  await time.tick(1_000);
  assert.deepEqual(states(), UP, "one end is enough to come back");
  close();
});

test("the other page is loaded again: a new connection, whoever begins", async (t) => {
  for (const reloaded of ["a", "b"]) {
    const world = pair(t);
    const { ends, time, network } = world;
    ends.a.start();
    await settled();
    ends[reloaded].close();
    world.make(reloaded).start();
    await time.tick(3_000);
    assert.deepEqual(world.states(), UP, reloaded);
    assert.equal(network.open.length, 2);
    world.close();
  }
});

test("the other end closes: looked after at once when the member has joined again, later when not", async (t) => {
  for (const [rejoined, ms] of [[true, 100], [false, 3_100]]) {
    const world = pair(t);
    const { ends, time, network } = world;
    ends.a.start();
    await settled();
    if (rejoined) ends.a.rejoined();
    ends.b.close();
    world.make("b");
    await settled();
    world.log.length = 0;
    await time.tick(ms);
    assert.deepEqual(world.states(), UP);
    assert.equal(network.connections.length, 4);
    world.close();
  }
});

test("the other end is another one, silently: its answer to a restart shows it", async (t) => {
  const { ends, log, make, time, network, states, close } = pair(t);
  ends.a.start();
  await settled();
  const old = ends.b;
  make("b");
  network.break("failed");
  old.close();
  await time.tick(10);
  assert.deepEqual(states(), UP);
  assert.deepEqual(log.slice(2), ["a sdp_offer", "b sdp_answer", "a sdp_offer", "b sdp_answer"]);
  close();
});

test("new ICE servers: set; ICE restarts only in need; what was given up is tried again", async (t) => {
  const { time, network, ends, states, close } = pair(t);
  ends.a.start();
  await settled();
  const [pc] = network.connections;
  const configuration = { iceServers: [{ urls: TURN, username: "u", credential: "c" }] };
  ends.a.configure(configuration, [TURN]);
  await settled();
  assert.equal(pc.getConfiguration(), configuration);
  assert.equal(pc.restarts, 0);

  network.up = false;
  network.break("failed");
  await time.tick(120_000);
  network.up = true;
  assert.deepEqual(states(), ["disconnected", "disconnected"]);
  ends.a.configure(configuration, [TURN]);
  await time.tick(1_000);
  assert.deepEqual(states(), UP);
  close();
});

test("bad descriptions are told, and the next good one is taken", async (t) => {
  const { ends, log, states, close } = pair(t);
  ends.a.receive({ type: "offer", sdp: "nonsense" });
  ends.a.candidate({ candidate: "nonsense", usernameFragment: null });
  await settled();
  assert.deepEqual(log, ["a OperationError: not SDP"]);
  ends.a.start();
  await settled();
  assert.deepEqual(states(), UP);
  close();
});

test("closed in the middle of anything: nothing is left, nothing is told", async (t) => {
  for (let rounds = 0; rounds < 8; rounds++) {
    const { ends, log, close } = pair(t);
    ends.a.start();
    for (let i = 0; i < rounds; i++) await Promise.resolve();
    if (rounds > 4) await new Promise((resolve) => setImmediate(resolve));
    close();
    await settled();
    assert.ok(log.every((line) => line.includes("sdp_")), log.join());
    assert.equal(ends.a.pc, null);
  }
});
