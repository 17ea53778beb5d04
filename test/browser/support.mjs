import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const BROWSERS = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
const MAC_BROWSER = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";
const FLAGS = [
  // Calls within a host that has no network, as build machines may not.
  "--allow-loopback-in-peer-connection",
  // Sound needs a tap, as in a browser that somebody uses.
  "--autoplay-policy=document-user-activation-required",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-gpu",
  "--disable-quic",
  "--disable-sync",
  "--no-first-run",
];

/** The system's Chromium, without a window. @param {string[]} more flags */
export function launchBrowser(...more) {
  const root = process.getuid?.() === 0;
  const args = [...FLAGS, ...more, ...(root ? ["--no-sandbox"] : [])];
  return chromium.launch({ executablePath: browserPath(), args });
}

function browserPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const places = process.env.PATH.split(path.delimiter);
  const files = BROWSERS.flatMap((name) => places.map((place) => path.join(place, name)));
  const found = [...files, MAC_BROWSER].find(isExecutable);
  if (!found) throw new Error(`none of ${BROWSERS.join(", ")} found; bin/setup installs chromium`);
  return found;
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A `mix` process; it ends with the tests, however they end. */
class Mix {
  /** @param {string[]} args */
  constructor(args) {
    this.process = spawn("mix", args, { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"] });
    this.exited = once(this.process, "exit");
    this.errors = "";
    this.process.stderr.on("data", (data) => (this.errors += data));
    this.lines = readline.createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
    process.on("exit", () => this.process.kill());
  }

  /** The first of the following lines that matches. */
  async line(pattern) {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done) throw new Error(`mix ended without a line like ${pattern}: ${this.errors}`);
      const match = pattern.exec(value);
      if (match) return match;
    }
  }

  /** Sends the signal; the exit status, or null when the signal itself ended it. */
  async end(signal) {
    this.process.kill(signal);
    const [status] = await this.exited;
    return status;
  }
}

/** `mix turn.demo` on this machine alone: {url, relayPort, end(signal)}. */
export async function startDemo() {
  const mix = new Mix(["turn.demo", "--ip", "127.0.0.1", "--port", "0"]);
  const [, relayPort] = await mix.line(/udp:127\.0\.0\.1:(\d+)/);
  const [url] = await mix.line(/http:\S+/);
  return { url, relayPort: Number(relayPort), end: (signal) => mix.end(signal) };
}

/** A relay with options of its own, whose counters can be asked for; see server.exs. */
export async function startServer(...options) {
  const mix = new Mix(["run", "--no-start", "test/browser/server.exs", ...options]);
  // One question at a time: an answer does not say what it is the answer to.
  let last = Promise.resolve();
  const ask = (question) => {
    const answer = last.then(async () => {
      if (question) mix.process.stdin.write(`${question}\n`);
      return JSON.parse((await mix.line(/^[[{].*/))[0]);
    });
    last = answer.catch(() => undefined);
    return answer;
  };
  const { url, pid } = await ask(null);
  return {
    url,
    pid,
    stats: () => ask("stats"),
    list: () => ask("list"),
    /** {ice_servers, expires_at} of a user; `ttl` in seconds. */
    mint: (user, ttl) => ask(`mint ${user} ${ttl}`),
    /** What a user gets who joins a room: {ice_servers, expires_at}. */
    join: (user, room) => ask(`join ${user} ${room}`),
    /** The user leaves his rooms. */
    leave: (user) => ask(`leave ${user}`),
    /** Ends the user's allocations. */
    kill: (user) => ask(`kill ${user}`),
    async stop() {
      mix.process.stdin.end();
      await mix.exited;
    },
  };
}

/** Asks until the answer is true, and fails with its last value when the time is up. */
export async function eventually(question, ms = 5_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const [done, value] = await question();
    if (done) return value;
    if (Date.now() > deadline) {
      throw new Error(`not within ${ms} ms; at last ${JSON.stringify(value)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
