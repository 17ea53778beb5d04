import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";
import { ROOT, eventually, launchBrowser } from "../browser/support.mjs";
import { App } from "./app.mjs";
import { User } from "./user.mjs";

const MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const YELLOW = "rgb(245, 194, 67)";
const GREEN = "rgb(62, 207, 124)";
const RED = "rgb(255, 107, 112)";
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

let app;
let browser;
let users = [];

before(async () => {
  mkdirSync(path.join(ROOT, "_build/example"), { recursive: true });
  [app, browser] = await Promise.all([App.start(), launchBrowser(...MICROPHONE)]);
});

after(async () => {
  await browser?.close();
  await app?.stop();
});

// No crash on the server, no error in a page, whatever a test did.
afterEach(async () => {
  const leaving = users;
  users = [];
  for (const user of leaving) await user.close();
  assert.deepEqual(app.complaints(), []);
});

async function logIn(name, options, where = app) {
  const user = await User.logIn(browser, where, name, options);
  users.push(user);
  return user;
}

async function joined(name, channel) {
  const user = await logIn(name);
  await user.join(channel);
  await user.bar({ state: "connected", label: channel });
  return user;
}

test("the bar is yellow, then green with the channel's name; it leaves when told to", async () => {
  const ada = await logIn("Ada");
  await ada.bar({ state: "none" });
  await ada.page.evaluate(() => {
    window.quiet = new Promise((resolve) => (window.speak = resolve));
  });
  await ada.join("Lounge");
  await ada.bar({ state: "connecting", label: "Connecting...", colour: YELLOW });
  await ada.screenshot("connecting");
  await ada.page.evaluate(() => window.speak());
  await ada.bar({ state: "connected", label: "Lounge", colour: GREEN });
  await ada.members("Lounge", ["Ada"]);
  await ada.button("Leave").click();
  await ada.bar({ state: "none" });
  await ada.members("Lounge", []);
});

test("two users hear each other through the relay, and see each other muted", async () => {
  const [ada, bob] = [await joined("Ada", "Lounge"), await joined("Bob", "Lounge")];
  await Promise.all([ada.hears(1), bob.hears(1)]);
  await bob.members("Lounge", ["Ada", "Bob"]);
  await ada.button("Mute").click();
  await bob.page.locator(".member", { hasText: "Ada" }).getByText("muted").waitFor();
  await ada.button("Deafen").click();
  await bob.page.locator(".member", { hasText: "Ada" }).getByText("deafened").waitFor();
  await bob.screenshot("connected");
});

test("push to talk, by key and by button", async () => {
  const [ada, bob] = [await joined("Ada", "Lounge"), await joined("Bob", "Lounge")];
  await ada.button("Push to talk").click();
  await ada.bar({ state: "connected", label: "Lounge" });
  await bob.hears(1);
  const talking = bob.page.locator(".member[data-talking=true]", { hasText: "Ada" });
  const silent = bob.page.locator(".member[data-talking=false]", { hasText: "Ada" });
  await ada.page.locator("#messages").click();
  await ada.page.keyboard.down("Space");
  await talking.waitFor();
  await ada.screenshot("push-to-talk");
  await ada.page.keyboard.up("Space");
  await silent.waitFor();
  await ada.button("Hold to talk").hover();
  await ada.page.mouse.down();
  await talking.waitFor();
  await ada.page.mouse.up();
  await silent.waitFor();
});

test("switching channels leaves the one and joins the other", async () => {
  const [ada, bob] = [await joined("Ada", "Lounge"), await joined("Bob", "Lounge")];
  await bob.hears(1);
  await ada.join("Workshop");
  await ada.bar({ state: "connected", label: "Workshop" });
  await bob.members("Lounge", ["Bob"]);
  await bob.members("Workshop", ["Ada"]);
  await bob.hears(0);
  await bob.join("Workshop");
  await Promise.all([ada.hears(1), bob.hears(1)]);
  await ada.members("Workshop", ["Ada", "Bob"]);
});

test("a second tab is refused and says why; the first goes on", async () => {
  const [ada, bob] = [await joined("Ada", "Lounge"), await joined("Bob", "Lounge")];
  const tab = await ada.tab();
  await tab.join("Lounge");
  await tab.bar({ state: "disconnected", label: "Disconnected", colour: RED });
  await tab.screenshot("disconnected");
  assert.match((await tab.bar({ state: "disconnected" })).detail, /already/);
  await ada.bar({ state: "connected", label: "Lounge" });
  await Promise.all([ada.hears(1), bob.hears(1)]);
  await bob.members("Lounge", ["Ada", "Bob"]);

  // As soon as the first is gone, the second may.
  await ada.page.close();
  await bob.members("Lounge", ["Bob"]);
  await tab.button("Join again").click();
  await tab.bar({ state: "connected", label: "Lounge" });
  await bob.hears(1);
});

test("a page that is loaded anew joins at once", async () => {
  const [ada, bob] = [await joined("Ada", "Lounge"), await joined("Bob", "Lounge")];
  await ada.page.reload();
  await ada.live();
  await ada.join("Lounge");
  await ada.bar({ state: "connected", label: "Lounge" });
  await Promise.all([ada.hears(1), bob.hears(1)]);
});

test("a network that is lost makes the bar red, and green again when it is back", async () => {
  const [ada, bob] = [await joined("Ada", "Lounge"), await joined("Bob", "Lounge")];
  await ada.button("Mute").click();
  await bob.page.locator(".member", { hasText: "Ada" }).getByText("muted").waitFor();
  app.network.cut();
  await ada.bar({ label: "Disconnected", colour: RED });
  await ada.screenshot("network-lost");
  app.network.mend();
  await Promise.all([ada.live(), bob.live()]);
  await ada.bar({ state: "connected", label: "Lounge", colour: GREEN });
  await Promise.all([ada.hears(1), bob.hears(1)]);
  await bob.members("Lounge", ["Ada", "Bob"]);
  // The LiveView is a new one, and knows nevertheless.
  await ada.page.locator("#voice-bar [aria-label=Mute][aria-pressed=true]").waitFor();
});

test("a relay that dies is replaced, and the call finds the new one", async () => {
  const [ada, bob] = [await joined("Ada", "Lounge"), await joined("Bob", "Lounge")];
  await Promise.all([ada.hears(1), bob.hears(1)]);
  const old = app.relay();
  process.kill(old, "SIGKILL");
  await eventually(() => [app.relay() && app.relay() !== old, app.relay()]);
  await Promise.all([ada.hears(1), bob.hears(1)]);
  app.log = app.log.replace(/^.*\[error\].*relay.*$/gim, "");
});

test("the page fits a phone", async () => {
  const ada = await logIn("Ada", PHONE);
  await ada.page.getByRole("button", { name: "Channels" }).tap();
  await ada.join("Lounge");
  await ada.bar({ state: "connected", label: "Lounge" });
  await ada.screenshot("phone-channels");
  await ada.page.getByRole("link", { name: "random" }).tap();
  await ada.page.getByLabel("Message #random").fill("Hello from a phone");
  await ada.page.getByRole("button", { name: "Send" }).tap();
  await ada.page.getByText("Hello from a phone").waitFor();
  await ada.page.locator(".sidebar").waitFor({ state: "hidden" });
  await ada.screenshot("phone");
  const width = await ada.page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= PHONE.viewport.width, `${width} px wide`);
});

test("where that is configured, a second tab takes over", async (t) => {
  const other = await App.start({ CROMULENT_ON_DUPLICATE: "takeover" });
  t.after(() => other.stop());
  const ada = await logIn("Ada", {}, other);
  const bob = await logIn("Bob", {}, other);
  await ada.join("Lounge");
  await bob.join("Lounge");
  await bob.hears(1);
  const tab = await ada.tab();
  await tab.join("Lounge");
  await tab.bar({ state: "connected", label: "Lounge" });
  await ada.bar({ state: "disconnected", label: "Disconnected", detail: "Another tab or device of yours took over." });
  await Promise.all([tab.hears(1), bob.hears(1), ada.hears(0)]);
  await bob.members("Lounge", ["Ada", "Bob"]);
  assert.deepEqual(other.complaints(), []);
});
