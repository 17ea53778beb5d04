import assert from "node:assert/strict";
import path from "node:path";
import { audioReceived, isRelayed, selectedPair } from "../../assets/js/stats.js";
import { ROOT, eventually } from "../browser/support.mjs";

const SCREENSHOTS = path.join(ROOT, "_build/example");
const SOON = 30_000;

/** Somebody with a browser of their own, logged in to the example. */
export class User {
  static async logIn(browser, app, name, options = {}) {
    const user = new User();
    user.name = name;
    user.errors = [];
    user.context = await browser.newContext({ permissions: ["microphone"], ...options });
    await user.context.addInitScript(prepare);
    user.page = await user.open();
    await user.page.goto(`${app.url}/login`);
    await user.page.getByLabel("Your name").fill(name);
    await user.page.getByRole("button", { name: "Log in" }).click();
    await user.live();
    return user;
  }

  /** Another tab of the same user. */
  async tab() {
    const other = new User();
    Object.assign(other, { name: this.name, errors: this.errors, context: this.context });
    other.page = await other.open();
    await other.page.goto(this.page.url());
    await other.live();
    return other;
  }

  async open() {
    const page = await this.context.newPage();
    page.setDefaultTimeout(SOON);
    page.on("pageerror", (error) => this.errors.push(`${this.name}: ${error}`));
    return page;
  }

  /** Waits until the page has its LiveView. */
  live() {
    return this.page.locator(".phx-connected #app").waitFor();
  }

  button(name) {
    return this.page.locator("#voice-bar").getByRole("button", { name });
  }

  join(channel) {
    return this.page.getByRole("button", { name: `Join voice channel ${channel}` }).click();
  }

  /** Waits until the bar says so, as it is seen: {state, label, colour}. */
  bar(expected) {
    return eventually(async () => {
      const seen = await this.page.evaluate(look);
      return [Object.keys(expected).every((key) => seen[key] === expected[key]), seen];
    }, SOON);
  }

  /** Waits until the list shows exactly these names in a channel. */
  members(channel, names) {
    return eventually(async () => {
      const list = this.page.getByRole("list", { name: `In ${channel}`, exact: true });
      const seen = await list.locator(".member__name").allInnerTexts();
      const plain = seen.map((name) => name.replace(" (you)", "")).sort();
      return [String(plain) === String([...names].sort()), plain];
    }, SOON);
  }

  /** Waits until this user hears so many others, through the relay and with sound that goes on. */
  async hears(count) {
    const reports = () => this.page.evaluate(statistics);
    const heard = new Map();
    return eventually(async () => {
      const calls = await reports();
      const relayed = calls.filter(({ report }) => isRelayed(selectedPair(report)));
      for (const { id, report } of relayed) {
        const { packets } = audioReceived(report);
        heard.set(id, [...(heard.get(id) ?? []), packets]);
      }
      const going = relayed.filter(({ id }) => heard.get(id).at(-1) >= heard.get(id)[0] + 25);
      return [relayed.length === count && going.length === count, [...heard]];
    }, 60_000);
  }

  async screenshot(name) {
    await this.page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
  }

  async close() {
    await this.context.close();
    assert.deepEqual(this.errors, []);
  }
}

// ---- what runs in the page ----

// Calls go through the relay only, and can be asked for their statistics. The microphone waits while
// `window.quiet` is a promise.
function prepare() {
  window.calls = [];
  const relayOnly = (configuration) => ({ ...configuration, iceTransportPolicy: "relay" });
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      super(relayOnly(configuration));
      window.calls.push(this);
    }
    setConfiguration(configuration) {
      super.setConfiguration(relayOnly(configuration));
    }
  };
  const { getUserMedia } = MediaDevices.prototype;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    await window.quiet;
    return getUserMedia.call(this, constraints);
  };
}

async function statistics() {
  const open = window.calls.map((pc, id) => ({ pc, id })).filter(({ pc }) => pc.connectionState === "connected");
  return Promise.all(open.map(async ({ pc, id }) => ({ id, report: [...(await pc.getStats())] })));
}

function look() {
  const bar = document.getElementById("voice-bar");
  if (!bar || bar.hidden) return { state: "none" };
  const label = bar.querySelector(".voice-bar__label");
  const over = getComputedStyle(label, "::after").content;
  return {
    state: bar.dataset.state,
    label: over === "none" ? label.textContent.trim() : JSON.parse(over),
    colour: getComputedStyle(bar.querySelector(".voice-bar__dot")).backgroundColor,
    detail: bar.querySelector(".voice-bar__detail").textContent.trim(),
  };
}
