import assert from "node:assert/strict";
import { test } from "node:test";
import { createSpeaker } from "../../assets/js/speaker.js";
import { settled } from "./fakes.mjs";

/** A document that makes audio elements, and those in its page. */
function page(t, { play = async () => undefined, setSinkId = async () => undefined } = {}) {
  const made = [];
  const inPage = new Set();
  globalThis.document = {
    createElement(name) {
      const audio = {
        name, paused: true, srcObject: null, sink: null,
        play() {
          audio.paused = false;
          return play();
        },
        pause: () => (audio.paused = true),
        remove: () => inPage.delete(audio),
        setSinkId: (id) => setSinkId(id).then(() => (audio.sink = id)),
      };
      made.push(audio);
      return audio;
    },
  };
  t.after(() => delete globalThis.document);
  return { made, inPage, parent: { append: (audio) => inPage.add(audio) } };
}

test("plays each member, one element each, till the stream is over", (t) => {
  const { made, inPage, parent } = page(t);
  const speaker = createSpeaker({ parent });
  speaker.play("ann", "first");
  speaker.play("ben", "other");
  assert.deepEqual(made.map(({ name, srcObject, autoplay, paused }) => [name, srcObject, autoplay, paused]), [
    ["audio", "first", true, false], ["audio", "other", true, false],
  ]);
  speaker.play("ann", "second");
  assert.deepEqual([made[0].srcObject, made[0].paused], [null, true]);
  assert.equal(inPage.size, 2);
  speaker.play("ann", null);
  speaker.play("zoe", null);
  assert.equal(inPage.size, 1);
  speaker.close();
  assert.equal(inPage.size, 0);
  assert.ok(made.every(({ srcObject }) => srcObject === null));
});

test("on the device of choice, now and later", async (t) => {
  const { made } = page(t);
  const speaker = createSpeaker({ deviceId: "usb" });
  speaker.play("ann", "a");
  await settled();
  assert.equal(made[0].sink, "usb");
  await speaker.setDevice("hall");
  speaker.play("ben", "b");
  await settled();
  assert.deepEqual(made.map(({ sink }) => sink), ["hall", "hall"]);
  await speaker.setDevice(null);
  assert.deepEqual(made.map(({ sink }) => sink), ["", ""], "where the system says");
});

test("what the browser does not let play is told, and played after a tap", async (t) => {
  const refused = Object.assign(new Error("a tap, please"), { name: "NotAllowedError" });
  let allowed = false;
  const { made } = page(t, { play: () => (allowed ? Promise.resolve() : Promise.reject(refused)) });
  const errors = [];
  const speaker = createSpeaker({ onError: (error) => errors.push(error) });
  speaker.play("ann", "a");
  await settled();
  assert.deepEqual(errors, [refused]);
  made[0].paused = true;
  allowed = true;
  speaker.resume();
  await settled();
  assert.equal(made[0].paused, false);
  assert.equal(errors.length, 1);
});

test("an element that goes before it plays is no error; a device that is gone is one", async (t) => {
  const errors = [];
  const aborted = Object.assign(new Error("removed"), { name: "AbortError" });
  const gone = Object.assign(new Error("gone"), { name: "NotFoundError" });
  page(t, { play: () => Promise.reject(aborted), setSinkId: () => Promise.reject(gone) });
  const speaker = createSpeaker({ deviceId: "gone", onError: (error) => errors.push(error) });
  speaker.play("ann", "a");
  speaker.play("ann", null);
  await settled();
  assert.deepEqual(errors, [gone]);
});
