import assert from "node:assert/strict";
import { test } from "node:test";
import { watchTalkKeys } from "../../assets/js/talk_keys.js";

function watch(options) {
  const handlers = {};
  const target = {
    addEventListener: (event, take) => (handlers[event] = take),
    removeEventListener: (event, take) => handlers[event] === take && delete handlers[event],
  };
  const log = [];
  const stop = watchTalkKeys((talking) => log.push(talking), { ...options, target });
  let prevented = 0;
  const event = (name, more = {}) => handlers[name]?.({ preventDefault: () => (prevented += 1), ...more });
  return { log, stop, event, handlers, prevented: () => prevented };
}

const element = (...selectors) => ({ closest: (text) => (selectors.some((s) => text.split(", ").includes(s)) ? {} : null) });

test("the key: down and up, no repeats, not while typing", () => {
  const { log, event, prevented } = watch();
  event("keydown", { key: " " });
  event("keydown", { key: " ", repeat: true });
  event("keydown", { key: "a" });
  event("keyup", { key: "a" });
  event("keyup", { key: " " });
  for (const name of ["input", "textarea", "select", "[contenteditable]"]) {
    event("keydown", { key: " ", target: element(name) });
  }
  assert.deepEqual(log, [true, false]);
  assert.equal(prevented(), 1);
});

test("another key, and released in another window", () => {
  const { log, event } = watch({ key: "v" });
  event("keydown", { key: " " });
  event("keydown", { key: "v" });
  event("blur");
  assert.deepEqual(log, [true, false]);
});

test("a button while it is pressed", () => {
  const { log, event } = watch();
  event("pointerdown", { target: element("div") });
  event("pointerdown", { target: element("[data-voice-talk]") });
  event("pointerup");
  event("pointerdown", { target: element("[data-voice-talk]") });
  event("pointercancel");
  assert.deepEqual(log, [true, false, true, false]);
});

test("ended", () => {
  const { handlers, stop } = watch();
  assert.equal(Object.keys(handlers).length, 6);
  stop();
  assert.deepEqual(handlers, {});
});
