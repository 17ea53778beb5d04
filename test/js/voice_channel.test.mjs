import assert from "node:assert/strict";
import { test } from "node:test";
import { VoiceChannel } from "../../assets/js/voice_channel.js";
import { FakeServer, fakeTime, settled } from "./fakes.mjs";

function channel(events = {}) {
  const server = new FakeServer();
  const socket = server.socket("ann");
  const log = [];
  const say = (name) => (value) => log.push(value === undefined ? name : `${name} ${value?.message ?? value}`);
  const made = new VoiceChannel(socket, "voice:1", events, {
    onJoined: ({ user_id: user }) => log.push(`joined ${user}`),
    onLost: say("lost"),
    onRejoining: say("rejoining"),
    onEnded: say("ended"),
    onError: say("error"),
  });
  return { server, socket, log, channel: made };
}

function assertNothingLeft(socket) {
  assert.equal(socket.channels.length, 0);
  assert.equal(socket.listening, 0);
}

test("a join, an event each way, and a leave that is over when the server says so", async () => {
  const got = [];
  const { server, socket, log, channel: mine } = channel({ hello: (payload) => got.push(payload) });
  assert.equal((await mine.join()).user_id, "ann");
  server.push("voice:1", "ann", "hello", { n: 1 });
  mine.push("ptt_state", { active: true });
  await settled();
  assert.deepEqual(got, [{ n: 1 }]);
  assert.deepEqual(server.log, ["ann joins voice:1", "ann ptt_state"]);

  await mine.leave();
  assert.deepEqual(server.members("voice:1"), []);
  assert.deepEqual(log, ["joined ann"], "no end that one asked for is told");
  mine.push("ptt_state", {});
  await settled();
  assert.equal(server.log.at(-1), "ann leaves voice:1");
  assertNothingLeft(socket);
});

test("refused, and not asked again", async () => {
  const { server, socket, log, channel: mine } = channel();
  server.refusal = "already_in_channel";
  await assert.rejects(mine.join(), { reason: "already_in_channel" });
  await mine.leave();
  assert.deepEqual(log, []);
  assertNothingLeft(socket);
});

test("not answered", async () => {
  const { server, socket, channel: mine } = channel();
  server.silent = true;
  const joined = assert.rejects(mine.join(), { reason: "timeout" });
  socket.channels[0].timeOut();
  await joined;
  assertNothingLeft(socket);
});

test("left before and while it joins", async () => {
  const early = channel();
  await early.channel.leave();
  await assert.rejects(early.channel.join(), { reason: "left" });
  assertNothingLeft(early.socket);

  const { server, socket, channel: mine } = channel();
  const joined = assert.rejects(mine.join(), { reason: "left" });
  await mine.leave();
  await joined;
  assert.deepEqual(server.log, ["ann joins voice:1", "ann leaves voice:1"]);
  assertNothingLeft(socket);

  const refused = channel();
  refused.server.refusal = "voice_disabled";
  const refusal = assert.rejects(refused.channel.join(), { reason: "left" });
  await refused.channel.leave();
  await refusal;
  assertNothingLeft(refused.socket);
});

test("a lost socket, and back; meanwhile nothing is kept to be sent later", async () => {
  const { server, socket, log, channel: mine } = channel();
  await mine.join();
  socket.drop();
  mine.push("sdp_offer", {});
  socket.back();
  await settled();
  assert.deepEqual(log, ["joined ann", "lost", "rejoining", "joined ann"]);
  assert.ok(!server.log.includes("ann sdp_offer"));
  await mine.leave();
  assertNothingLeft(socket);
});

test("a channel that crashes, and back", async () => {
  const { socket, log, channel: mine } = channel();
  await mine.join();
  socket.channels[0].fail();
  socket.channels[0].rejoin();
  await settled();
  assert.deepEqual(log, ["joined ann", "lost", "joined ann"]);
  await mine.leave();
  assertNothingLeft(socket);
});

test("ended by the server: closed, or a rejoin refused", async () => {
  const closed = channel();
  await closed.channel.join();
  closed.socket.channels[0].close();
  assert.deepEqual(closed.log, ["joined ann", "ended closed"]);
  assertNothingLeft(closed.socket);

  const refused = channel();
  await refused.channel.join();
  refused.socket.drop();
  refused.server.refusal = "unauthorized";
  refused.socket.back();
  await settled();
  assert.deepEqual(refused.log, ["joined ann", "lost", "rejoining", "ended unauthorized"]);
  assertNothingLeft(refused.socket);
});

test("leaving a lost channel, and one whose server says nothing", async (t) => {
  const lost = channel();
  await lost.channel.join();
  lost.socket.drop();
  await lost.channel.leave();
  assertNothingLeft(lost.socket);

  const time = fakeTime(t);
  const { server, socket, channel: mine } = channel();
  await mine.join();
  server.free = () => undefined;
  socket.emit = () => undefined;
  let left = false;
  mine.leave().then(() => (left = true));
  await time.tick(2_900);
  assert.equal(left, false);
  await time.tick(200);
  assert.equal(left, true);
  assertNothingLeft(socket);
});

test("what an event's function throws is told, and ends nothing", async () => {
  const { server, log, channel: mine } = channel({ bad: () => { throw new Error("oops"); } });
  await mine.join();
  server.push("voice:1", "ann", "bad", {});
  await settled();
  assert.deepEqual(log, ["joined ann", "error oops"]);
  await mine.leave();
});
