import assert from "node:assert/strict";
import { test } from "node:test";
import { watchNetwork } from "../../assets/js/network.js";

function browser() {
  const connection = Object.assign(new EventTarget(), { type: "wifi" });
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  return Object.assign(new EventTarget(), { document, navigator: { connection } });
}

test("online, another kind of network, looked at again; nothing else, and nothing once ended", () => {
  const globals = browser();
  const { document, navigator: { connection } } = globals;
  let count = 0;
  const stop = watchNetwork(() => (count += 1), globals);
  const changes = () => {
    globals.dispatchEvent(new Event("online"));
    connection.type = connection.type === "wifi" ? "cellular" : "wifi";
    connection.dispatchEvent(new Event("change"));
    document.dispatchEvent(new Event("visibilitychange"));
  };
  changes();
  assert.equal(count, 3);
  connection.dispatchEvent(new Event("change"));
  document.visibilityState = "hidden";
  document.dispatchEvent(new Event("visibilitychange"));
  globals.dispatchEvent(new Event("offline"));
  assert.equal(count, 3);
  stop();
  document.visibilityState = "visible";
  changes();
  assert.equal(count, 3);
});

test("where a browser has less", () => {
  watchNetwork(() => assert.fail(), {})();
  const { document } = browser();
  let count = 0;
  watchNetwork(() => (count += 1), { document, navigator: {} });
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(count, 1);
});
