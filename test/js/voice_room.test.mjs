import assert from "node:assert/strict";
import { test } from "node:test";
import { VoiceRoom } from "../../assets/js/voice_room.js";
import { FakeNetwork, FakeServer, FakeStream, fakeTime, settled } from "./fakes.mjs";

const TURN = { urls: "turn:relay.example:3478?transport=udp", username: "1:u", credential: "c" };

/** A server, a network, and rooms in them. */
function world() {
  const server = new FakeServer();
  const network = new FakeNetwork();
  const streams = [];
  const enter = async (user, options = {}) => {
    const member = makeMember(user, options);
    await member.room.join();
    await settled();
    return member;
  };
  const makeMember = (user, { channel = "1", iceServers = null, ...options } = {}) => {
    const socket = server.socket(user);
    const member = { user, socket, states: [], streams: {}, errors: [], talking: [], lists: 0 };
    const { RTCPeerConnection } = network;
    member.room = new VoiceRoom(channel, user, socket, iceServers, {
      RTCPeerConnection,
      getUserMedia: async () => {
        streams.push(new FakeStream());
        return streams.at(-1);
      },
      onState: (state, { reason }) => member.states.push(reason ? `${state}: ${reason}` : state),
      onPeers: () => (member.lists += 1),
      onStream: (id, stream) => (member.streams[id] = stream),
      onTalking: (id, active) => member.talking.push([id, active]),
      onError: (error) => member.errors.push(error),
      ...options,
    });
    return member;
  };
  const live = () => streams.flatMap((s) => s.tracks).filter((t) => t.readyState === "live").length;
  return { server, network, enter, makeMember, live, streams };
}

const states = ({ room }) => room.peers.map(({ userId, state }) => `${userId} ${state}`);

function assertGone({ network, live }, members) {
  assert.equal(network.open.length, 0, "no connection is open");
  assert.equal(live(), 0, "no microphone is on");
  for (const { socket } of members) {
    assert.equal(socket.channels.length, 0);
    assert.equal(socket.listening, 0);
  }
}

test("alone is connected", async () => {
  const all = world();
  const ann = await all.enter("ann");
  assert.deepEqual(ann.states, ["connecting", "connected"]);
  assert.deepEqual(ann.room.peers, []);
  await ann.room.leave();
  assert.deepEqual(ann.states, ["connecting", "connected", "disconnected: left"]);
  assertGone(all, [ann]);
});

test("three members: one connection and one offer for each pair", async () => {
  const all = world();
  const members = [await all.enter("ann"), await all.enter("ben"), await all.enter("cid")];
  assert.deepEqual(members.map(states), [
    ["ben connected", "cid connected"], ["ann connected", "cid connected"], ["ann connected", "ben connected"],
  ]);
  assert.equal(all.network.connections.length, 6);
  assert.equal(all.server.log.filter((line) => line.endsWith("sdp_offer")).length, 3);
  assert.deepEqual(Object.keys(members[0].streams), ["ben", "cid"]);
  for (const { errors } of members) assert.deepEqual(errors, []);

  await Promise.all(members.map(({ room }) => room.leave()));
  assertGone(all, members);
});

test("all at once", async () => {
  const all = world();
  const members = await Promise.all(["cid", "ann", "ben"].map((user) => all.enter(user)));
  await settled();
  for (const member of members) {
    assert.deepEqual(states(member).filter((line) => !line.endsWith(" connected")), []);
    assert.equal(member.room.peers.length, 2);
  }
  await Promise.all(members.map(({ room }) => room.leave()));
  assertGone(all, members);
});

test("a peer_left counts before Presence says so", async () => {
  const all = world();
  const [ann, ben] = [await all.enter("ann"), await all.enter("ben")];
  all.server.push("voice:1", "ann", "peer_left", { user_id: "ben" });
  await settled();
  assert.deepEqual(ann.room.peers, []);
  assert.equal(ann.streams.ben, null);
  await Promise.all([ann.room.leave(), ben.room.leave()]);
  assertGone(all, [ann, ben]);
});

test("a microphone that is unplugged is told", async () => {
  const all = world();
  const ann = await all.enter("ann");
  all.streams[0].tracks[0].dispatchEvent(new Event("ended"));
  assert.deepEqual(ann.errors.map(({ reason }) => reason), ["microphone_lost"]);
  assert.equal(ann.room.state, "connected", "one listens");
  await ann.room.leave();
});

test("who leaves is gone for the others, stream and all", async () => {
  const all = world();
  const [ann, ben] = [await all.enter("ann"), await all.enter("ben")];
  await ann.room.leave();
  await settled();
  assert.deepEqual(ben.room.peers, []);
  assert.equal(ben.streams.ann, null);
  assert.equal(ben.states.at(-1), "connected");
  await ben.room.leave();
  assertGone(all, [ann, ben]);
});

test("ICE servers: those given, then the join's, then those that are pushed", async () => {
  const all = world();
  const given = [{ urls: "stun:first.example" }];
  const ann = all.makeMember("ann", { iceServers: given });
  assert.deepEqual(ann.room.iceServers, given);
  all.server.iceServers = [TURN];
  await ann.room.join();
  assert.deepEqual(ann.room.iceServers, [TURN]);
  const ben = await all.enter("ben");

  const renewed = [{ ...TURN, username: "2:u" }];
  all.server.push("voice:1", "ann", "ice_servers", { ice_servers: renewed, expires_at: 2 });
  await settled();
  const [pc] = all.network.open;
  assert.deepEqual(pc.getConfiguration(), { iceServers: renewed, iceTransportPolicy: "all" });
  assert.equal(pc.restarts, 0, "nothing that works is touched");

  all.server.push("voice:1", "ann", "ice_servers", { ice_servers: [{ urls: null }] });
  await settled();
  assert.deepEqual(ann.room.iceServers, renewed, "a list that no browser takes changes nothing");
  assert.equal(ann.errors.length, 1);
  await Promise.all([ann.room.leave(), ben.room.leave()]);
});

function relayedBy(url) {
  return new Map([
    ["t", { type: "transport", selectedCandidatePairId: "p" }],
    ["p", { type: "candidate-pair", localCandidateId: "l", remoteCandidateId: "r" }],
    ["l", { type: "local-candidate", candidateType: "relay", url }],
    ["r", { type: "remote-candidate", candidateType: "relay" }],
  ]);
}

test("new ICE servers restart ICE when the relay is no longer theirs", async () => {
  const all = world();
  all.server.iceServers = [TURN];
  const members = [await all.enter("ann"), await all.enter("ben")];
  const [pc] = all.network.open;
  pc.stats = relayedBy(TURN.urls);
  members[0].room.setIceServers([{ ...TURN, username: "2:u" }]);
  await settled();
  assert.equal(pc.restarts, 0);
  members[0].room.setIceServers([{ ...TURN, urls: "turn:other.example" }]);
  await settled();
  assert.equal(pc.restarts, 1);
  assert.deepEqual(members.map(states), [["ben connected"], ["ann connected"]]);
  await Promise.all(members.map(({ room }) => room.leave()));
});

for (const reason of ["already_in_channel", "voice_disabled", "not found", "unauthorized"]) {
  test(`a join that is refused: ${reason}`, async () => {
    const all = world();
    all.server.refusal = reason;
    const ann = all.makeMember("ann");
    await assert.rejects(ann.room.join(), { name: "VoiceError", reason });
    await settled();
    assert.deepEqual(ann.states, ["connecting", `disconnected: ${reason}`]);
    assertGone(all, [ann]); // Phoenix rejoins no channel that it does not have
    assert.equal(all.server.log.filter((line) => line.includes("joins")).length, 1);
  });
}

test("a join that is not answered", async () => {
  const all = world();
  all.server.silent = true;
  const ann = all.makeMember("ann");
  const joined = assert.rejects(ann.room.join(), { reason: "timeout" });
  await settled();
  ann.socket.channels[0].timeOut();
  await joined;
  assertGone(all, [ann]);
});

test("no microphone: the server is not asked", async () => {
  const all = world();
  const denied = Object.assign(new Error("no"), { name: "NotAllowedError" });
  const ann = all.makeMember("ann", { getUserMedia: () => Promise.reject(denied) });
  await assert.rejects(ann.room.join(), { reason: "microphone_denied", cause: denied });
  assert.deepEqual(all.server.log, []);
  assert.deepEqual(ann.states, ["connecting", "disconnected: microphone_denied"]);
  assertGone(all, [ann]);
});

test("without a microphone one listens", async () => {
  const all = world();
  const ann = await all.enter("ann", { getUserMedia: async () => null });
  const ben = await all.enter("ben");
  assert.deepEqual([states(ann), states(ben)], [["ben connected"], ["ann connected"]]);
  await Promise.all([ann.room.leave(), ben.room.leave()]);
});

test("leaving while a person thinks about the microphone", async () => {
  const all = world();
  const stream = new FakeStream();
  let allow;
  const ann = all.makeMember("ann", { getUserMedia: () => new Promise((resolve) => (allow = resolve)) });
  const joined = assert.rejects(ann.room.join(), { reason: "left" });
  await ann.room.leave();
  await joined;
  allow(stream);
  await settled();
  assert.equal(stream.tracks[0].readyState, "ended");
  assert.deepEqual(all.server.log, []);
  assertGone(all, [ann]);
});

test("leaving while the join is under way", async () => {
  for (const rounds of [0, 1, 2, 3]) {
    const all = world();
    const ann = all.makeMember("ann");
    const joined = ann.room.join().catch(({ reason }) => reason);
    for (let i = 0; i < rounds; i++) await new Promise((resolve) => setImmediate(resolve));
    await ann.room.leave();
    await joined;
    await settled();
    assert.deepEqual(all.server.members("voice:1"), [], `after ${rounds} rounds`);
    assertGone(all, [ann]);
    assert.equal(ann.states.at(-1), "disconnected: left");
  }
});

test("leave() again, before join(), and join() after it", async () => {
  const all = world();
  const ann = all.makeMember("ann");
  await ann.room.leave();
  assert.deepEqual(ann.states, []);
  await assert.rejects(ann.room.join(), /joined once/);
  assert.equal(ann.socket.channels.length, 0);

  const ben = await all.enter("ben");
  await Promise.all([ben.room.leave(), ben.room.leave()]);
  await ben.room.leave();
  assert.equal(ben.states.filter((state) => state.startsWith("disconnected")).length, 1);
  const again = await all.enter("ben");
  assert.equal(again.room.state, "connected");
  await again.room.leave();
  assertGone(all, [ann, ben, again]);
});

test("another tab takes over", async () => {
  const all = world();
  const [ann, ben] = [await all.enter("ann"), await all.enter("ben")];
  all.server.push("voice:1", "ann", "taken_over", {});
  await settled();
  assert.equal(ann.states.at(-1), "disconnected: taken_over");
  assert.ok(ann.room.ended);
  assert.deepEqual(ben.room.peers, []);
  await ben.room.leave();
  assertGone(all, [ann, ben]);
});

test("a member's other tab takes over: the call goes on with that one, without delay", async () => {
  const all = world();
  const [ann, ben] = [await all.enter("ann"), await all.enter("ben")];
  const next = await all.enter("ben");
  ben.socket.channels[0].deliver("taken_over", {});
  await settled();
  assert.equal(ben.room.reason, "taken_over");
  assert.deepEqual([states(ann), states(next)], [["ben connected"], ["ann connected"]]);
  await Promise.all([ann.room.leave(), next.room.leave()]);
  assertGone(all, [ann, ben, next]);
});

test("the server closes the channel", async () => {
  const all = world();
  const ann = await all.enter("ann");
  ann.socket.channels[0].close();
  assert.equal(ann.states.at(-1), "disconnected: closed");
  assertGone(all, [ann]);
});

test("a lost socket: the room comes back, with the new ICE servers", async () => {
  const all = world();
  const [ann, ben] = [await all.enter("ann"), await all.enter("ben")];
  ann.room.setMuted(true);
  ann.socket.drop();
  await settled();
  assert.deepEqual(ann.states.slice(2), ["disconnected: connection_lost"]);
  assert.equal(all.live(), 2, "the microphone stays on for the others");
  assert.deepEqual(ben.room.peers, []);

  all.server.iceServers = [TURN];
  ann.socket.back();
  await settled();
  assert.deepEqual(ann.states.slice(2), ["disconnected: connection_lost", "connecting", "connected"]);
  assert.deepEqual(ann.room.iceServers, [TURN]);
  assert.equal(all.server.log.filter((line) => line === "ann toggle_mute").length, 2);
  assert.deepEqual([states(ann), states(ben)], [["ben connected"], ["ann connected"]], "without delay");
  await Promise.all([ann.room.leave(), ben.room.leave()]);
  assertGone(all, [ann, ben]);
});

test("a lost socket of all: what works is kept, who does not come back is dropped", async (t) => {
  const time = fakeTime(t);
  const all = world();
  const members = [await all.enter("ann"), await all.enter("ben"), await all.enter("cid")];
  const [ann, ben, cid] = members;
  for (const { socket } of members) socket.drop();
  await settled();
  ann.socket.back();
  await settled();
  assert.deepEqual(states(ann), ["ben connected", "cid connected"]);
  ben.socket.back();
  await settled();
  await time.tick(10_000);
  assert.deepEqual(states(ann), ["ben connected"]);
  assert.equal(all.network.connections.length, 6, "no new connection was needed");
  await Promise.all(members.map(({ room }) => room.leave()));
  assertGone(all, [ann, ben, cid]);
});

test("a rejoin that is refused ends the room", async () => {
  const all = world();
  const ann = await all.enter("ann");
  ann.socket.drop();
  all.server.refusal = "already_in_channel";
  ann.socket.back();
  await settled();
  assert.equal(ann.states.at(-1), "disconnected: already_in_channel");
  assertGone(all, [ann]);
});

test("a broken connection is restarted; after five times it is given up, till the network changes", async (t) => {
  const time = fakeTime(t);
  const all = world();
  const [ann, ben] = [await all.enter("ann"), await all.enter("ben")];
  all.network.break("failed");
  await time.tick(0);
  assert.deepEqual([states(ann), states(ben)], [["ben connected"], ["ann connected"]], "mended");

  all.network.up = false;
  all.network.break("failed");
  assert.equal(ann.room.state, "connected", "not for good, as yet");
  await time.tick(90_000);
  assert.deepEqual(states(ann), ["ben disconnected"]);
  assert.equal(ann.states.at(-1), "disconnected: peer_failed");

  all.network.up = true;
  ann.room.setIceServers([TURN]);
  await time.tick(10_000);
  assert.deepEqual([states(ann), states(ben)], [["ben connected"], ["ann connected"]]);
  assert.equal(ann.states.at(-1), "connected");
  await Promise.all([ann.room.leave(), ben.room.leave()]);
  assertGone(all, [ann, ben]);
});

test("one failing member of several does not make the room fail", async (t) => {
  const time = fakeTime(t);
  const all = world();
  const [ann, ben] = [await all.enter("ann"), await all.enter("ben")];
  // A member who never answers.
  all.server.push("voice:1", "ann", "peer_joined", { user_id: "zoe" });
  await settled();
  await time.tick(90_000);
  assert.deepEqual(states(ann), ["ben connected", "zoe disconnected"]);
  assert.equal(ann.room.state, "connected");
  ben.room.leave();
  await settled();
  assert.equal(ann.states.at(-1), "disconnected: peer_failed");
  all.server.push("voice:1", "ann", "peer_left", { user_id: "zoe" });
  await settled();
  assert.equal(ann.states.at(-1), "connected", "alone is connected");
  assert.deepEqual(ann.room.peers, []);
  await ann.room.leave();
});

test("mute, deafen and push to talk: what is heard, and what the server is told", async () => {
  const all = world();
  const ann = await all.enter("ann", { mode: "ptt" });
  const ben = await all.enter("ben");
  const [track] = all.streams[0].tracks;
  assert.equal(track.enabled, false);
  ann.room.setTalking(true);
  ann.room.setTalking(true);
  assert.equal(track.enabled, true);
  await settled();
  assert.deepEqual(ben.talking, [["ann", true]]);
  assert.equal(ben.room.peers[0].talking, true);
  ann.room.setMuted(true);
  assert.equal(track.enabled, false);
  ann.room.setMuted(false);
  ann.room.setTalking(false);
  assert.equal(track.enabled, false);

  const received = ann.streams.ben.tracks[0];
  ann.room.setDeafened(true);
  assert.equal(received.enabled, false);
  const cid = await all.enter("cid");
  assert.equal(ann.streams.cid.tracks[0].enabled, false, "also who comes later");
  ann.room.setDeafened(false);
  assert.equal(received.enabled, true);
  await settled();
  const told = all.server.log.filter((line) => /^ann (ptt|toggle)/.test(line));
  assert.deepEqual(told, [
    "ann ptt_state", "ann toggle_mute", "ann toggle_mute", "ann ptt_state", "ann toggle_deafen", "ann toggle_deafen",
  ]);
  await Promise.all([ann, ben, cid].map(({ room }) => room.leave()));
});

test("nonsense from the server or a peer changes nothing and throws nowhere", async () => {
  const all = world();
  const [ann, ben] = [await all.enter("ann"), await all.enter("ben")];
  const junk = [
    undefined, null, 7, "x", [], {}, { user_id: {} }, { from: "ben" }, { from: "ben", to: "ann" },
    { from: "ben", to: "ann", sdp: null }, { from: "ben", to: "ann", sdp: { type: "rollback", sdp: "" } },
    { from: "ben", to: "ann", sdp: { type: "offer", sdp: "nonsense" } },
    { from: "ben", to: "ann", sdp: "x".repeat(1e6) }, { from: "ben", to: "ann", candidate: 7 },
    { from: "ben", to: "ann", candidate: { candidate: "candidate:x", usernameFragment: "old" } },
    { from: "ann", to: "ann", sdp: { type: "offer", sdp: "v=0" } }, { from: "ben", to: "zoe", sdp: { type: "offer", sdp: "v=0" } },
    { joins: 7, leaves: [{}] }, { ben: { metas: 7 } }, { user_id: "ann", active: "yes" }, { ice_servers: 7 },
  ];
  const events = [
    "sdp_offer", "sdp_answer", "ice_candidate", "ptt_state", "presence_diff", "ice_servers", "no_such_event",
  ];
  for (const event of events) for (const payload of junk) all.server.push("voice:1", "ann", event, payload);
  await settled();
  assert.deepEqual([states(ann), states(ben)], [["ben connected"], ["ann connected"]]);
  assert.equal(all.network.open.length, 2);
  await Promise.all([ann.room.leave(), ben.room.leave()]);
});

test("an app's function that throws does not break the room", async () => {
  const all = world();
  const onPeers = () => {
    throw new Error("the app's own");
  };
  const ann = await all.enter("ann", { onPeers });
  const ben = await all.enter("ben");
  assert.deepEqual([states(ann), states(ben)], [["ben connected"], ["ann connected"]]);
  assert.ok(ann.errors.every(({ message }) => message === "the app's own"));
  await Promise.all([ann.room.leave(), ben.room.leave()]);
  assertGone(all, [ann, ben]);
});
