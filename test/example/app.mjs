import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { ROOT, eventually } from "../browser/support.mjs";

const DIRECTORY = process.env.EXAMPLE_DIR ?? path.join(ROOT, "examples/cromulent");
const STARTED_WITHIN = 60_000;

/** The example, as `mix phx.server` runs it, with a relay on loopback, behind a network that can be cut. */
export class App {
  /** @param {Record<string, string>} [env] more of its environment */
  static async start(env = {}) {
    const app = new App();
    app.port = await freePort();
    app.process = spawn("mix", ["phx.server"], {
      cwd: DIRECTORY,
      env: { ...process.env, MIX_ENV: "test", PHX_SERVER: "1", PORT: String(app.port), ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    process.on("exit", app.#kill);
    app.exited = once(app.process, "exit");
    app.log = "";
    for (const stream of [app.process.stdout, app.process.stderr]) {
      stream.on("data", (data) => (app.log += data));
    }
    await app.#ready().catch((error) => {
      app.#kill();
      throw error;
    });
    app.network = await Network.start(app.port);
    app.url = `http://localhost:${app.network.port}`;
    return app;
  }

  #kill = () => this.process.kill("SIGKILL");

  async #ready() {
    await eventually(async () => {
      if (this.process.exitCode !== null) throw new Error(`the example did not start:\n${this.log}`);
      const answer = await fetch(`http://localhost:${this.port}/login`).catch(() => null);
      return [answer?.ok, this.log.slice(-2_000)];
    }, STARTED_WITHIN);
  }

  /** Lines of the log that a crash leaves, since the last call. */
  complaints() {
    const lines = this.log.split("\n").filter((line) => /\[error\]|\*\* \(/.test(line));
    this.log = "";
    return lines;
  }

  /** The process id of the relay, which is a child of the BEAM's. */
  relay() {
    for (const pid of descendants(this.process.pid)) {
      if (name(pid) === "turn_relay") return pid;
    }
    return null;
  }

  async stop() {
    this.network?.stop();
    process.off("exit", this.#kill);
    this.process.kill("SIGTERM");
    await this.exited;
  }
}

/** A TCP proxy: `cut()` ends what is open and lets nothing new through until `mend()`. */
class Network {
  #sockets = new Set();
  #up = true;

  static async start(target) {
    const network = new Network();
    network.server = net.createServer((near) => network.#connect(near, target));
    network.server.listen(0, "localhost");
    await once(network.server, "listening");
    network.port = network.server.address().port;
    return network;
  }

  #connect(near, target) {
    if (!this.#up) return near.destroy();
    const far = net.connect(target, "localhost");
    for (const [from, to] of [[near, far], [far, near]]) {
      this.#sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  }

  cut() {
    this.#up = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#up = true;
  }

  stop() {
    this.cut();
    this.server.close();
  }
}

async function freePort() {
  const server = net.createServer().listen(0, "localhost");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function descendants(pid) {
  const children = proc(`${pid}/task/${pid}/children`).trim().split(" ").filter(Boolean);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

const name = (pid) => proc(`${pid}/comm`).trim();

function proc(file) {
  try {
    return readFileSync(`/proc/${file}`, "utf8");
  } catch {
    return ""; // it has ended meanwhile
  }
}
