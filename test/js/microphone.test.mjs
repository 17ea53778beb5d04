import assert from "node:assert/strict";
import { test } from "node:test";
import { Microphone } from "../../assets/js/microphone.js";
import { FakeStream, settled } from "./fakes.mjs";

const named = (name) => Object.assign(new Error(name), { name });

async function open(options = {}, deviceId = null) {
  const stream = new FakeStream();
  const asked = [];
  const getUserMedia = async (constraints) => {
    asked.push(constraints);
    return stream;
  };
  const microphone = new Microphone({ getUserMedia, ...options });
  await microphone.open(deviceId);
  return { microphone, stream, asked, track: stream.tracks[0] };
}

test("asks for sound alone, cleaned up, and for the device that was chosen", async () => {
  const processing = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  assert.deepEqual((await open()).asked, [{ audio: processing, video: false }]);
  const { asked } = await open({}, "usb");
  assert.deepEqual(asked, [{ audio: { ...processing, deviceId: { exact: "usb" } }, video: false }]);
});

test("a device that is gone gives way to any other", async () => {
  for (const name of ["OverconstrainedError", "NotFoundError"]) {
    const stream = new FakeStream();
    const getUserMedia = async ({ audio }) => {
      if (audio.deviceId) throw named(name);
      return stream;
    };
    const microphone = new Microphone({ getUserMedia });
    await microphone.open("gone");
    assert.equal(microphone.stream, stream);
  }
});

test("why there is none", async () => {
  const reasons = {
    NotAllowedError: "microphone_denied", SecurityError: "microphone_denied",
    NotFoundError: "microphone_not_found", NotReadableError: "microphone_failed",
  };
  for (const [name, reason] of Object.entries(reasons)) {
    const microphone = new Microphone({ getUserMedia: () => Promise.reject(named(name)) });
    await assert.rejects(microphone.open("usb"), { name: "VoiceError", reason });
  }
  const thrown = new Microphone({ getUserMedia: () => { throw named("TypeError"); } });
  await assert.rejects(thrown.open(), { reason: "microphone_failed" });
  await assert.rejects(new Microphone().open(), { reason: "microphone_denied" }, "no mediaDevices");
});

test("heard unless muted; with push to talk only while talking", async () => {
  const voice = await open();
  assert.equal(voice.track.enabled, true);
  voice.microphone.muted = true;
  assert.equal(voice.track.enabled, false);
  voice.microphone.talking = true;
  assert.equal(voice.track.enabled, false);

  const ptt = await open({ mode: "ptt" });
  assert.equal(ptt.track.enabled, false);
  ptt.microphone.talking = true;
  assert.equal(ptt.track.enabled, true);
  ptt.microphone.muted = true;
  assert.equal(ptt.track.enabled, false);

  const muted = new Microphone({ getUserMedia: async () => ptt.stream });
  muted.muted = true;
  await muted.open();
  assert.equal(ptt.track.enabled, false, "muted before it was there");
});

test("close() ends the track, also one that comes later", async () => {
  const { microphone, track } = await open();
  microphone.close();
  assert.equal(track.readyState, "ended");
  assert.equal(microphone.stream, null);

  const stream = new FakeStream();
  let allow;
  const late = new Microphone({ getUserMedia: () => new Promise((resolve) => (allow = resolve)) });
  const opened = assert.rejects(late.open(), { reason: "left" });
  late.close();
  await opened;
  allow(stream);
  await settled();
  assert.equal(stream.tracks[0].readyState, "ended");
  assert.equal(late.stream, null);
});
