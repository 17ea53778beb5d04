import { readFile } from "node:fs/promises";
import http from "node:http";
import { WebSocketServer } from "ws";

/**
 * The part of Phoenix that a voice channel needs, where Phoenix itself is not to be had: channels
 * over a WebSocket in version 2 of the protocol (Phoenix.Socket.V2.JSONSerializer), Presence, and
 * the events, replies and refusals of a voice channel. It is strict: what a channel would refuse
 * ends up in `violations`.
 */
export class PhoenixServer {
  #http;
  #sockets;
  #options;
  #refs = 0;
  /** topic -> Map(user id -> Place) */
  #topics = new Map();
  violations = [];
  /** Every message of a client: {user, topic, event, payload}. */
  received = [];

  /**
   * @param {object} options
   * @param {(user: string) => Promise<object>} options.iceServers {ice_servers, expires_at}
   * @param {Record<string, string>} options.files path prefix -> URL of a folder
   */
  constructor(options) {
    this.#options = options;
    this.#http = http.createServer((request, response) => this.#serve(request, response));
    this.#sockets = new WebSocketServer({ server: this.#http, path: "/socket/websocket" });
    this.#sockets.on("connection", (socket, request) => this.#connected(socket, request));
  }

  /** @returns {Promise<string>} the server's URL */
  async start() {
    await new Promise((resolve) => this.#http.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${this.#http.address().port}/`;
  }

  async stop() {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  members(topic) {
    return [...(this.#topics.get(topic)?.keys() ?? [])].sort();
  }

  /** Sends an event to one member. */
  push(topic, user, event, payload) {
    this.#topics.get(topic)?.get(user)?.push(event, payload);
  }

  /** Cuts a user's WebSockets, as a network that is gone does. */
  cut(user) {
    for (const socket of this.#sockets.clients) if (socket.user === user) socket.terminate();
  }

  /** Cuts all, as a deploy does. */
  cutAll() {
    for (const socket of this.#sockets.clients) socket.terminate();
  }

  /** Ends a member's channel as a crash does; its client joins again. */
  crash(topic, user) {
    const place = this.#topics.get(topic)?.get(user);
    this.#free(place);
    place?.push("phx_error", {});
  }

  // ---- HTTP ----

  async #serve({ url }, response) {
    const { pathname } = new URL(url, "http://server");
    if (pathname === "/") {
      return response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>Voice</title><body>");
    }
    const prefix = Object.keys(this.#options.files).find((each) => pathname.startsWith(each));
    try {
      const file = new URL(pathname.slice(prefix.length), this.#options.files[prefix]);
      const text = await readFile(file);
      return response.writeHead(200, { "content-type": "text/javascript" }).end(text);
    } catch {
      return response.writeHead(404).end();
    }
  }

  // ---- sockets ----

  #connected(socket, request) {
    const { searchParams } = new URL(request.url, "http://server");
    socket.user = searchParams.get("token");
    socket.places = new Map();
    if (searchParams.get("vsn") !== "2.0.0" || !socket.user) return socket.close(1008);
    socket.on("close", () => [...socket.places.values()].forEach((place) => this.#free(place)));
    // One after another, as a channel's process takes them.
    let last = Promise.resolve();
    socket.on("message", (data) => {
      last = last.then(() => this.#take(socket, ...JSON.parse(data)));
    });
    return undefined;
  }

  async #take(socket, joinRef, ref, topic, event, payload) {
    this.received.push({ user: socket.user, topic, event, payload });
    const reply = (status, response) =>
      send(socket, [joinRef, ref, topic, "phx_reply", { status, response }]);
    if (topic === "phoenix" && event === "heartbeat") return reply("ok", {});
    if (event === "phx_join") return this.#join(socket, joinRef, topic, reply);

    const place = socket.places.get(topic);
    const known = place?.joinRef === joinRef;
    if (event === "phx_leave") {
      reply("ok", {});
      if (known) this.#close(place);
    } else if (!known) {
      reply("error", { reason: "unmatched topic" });
    } else {
      this.#event(place, event, payload);
    }
    return undefined;
  }

  async #join(socket, joinRef, topic, reply) {
    if (socket.places.has(topic)) this.#close(socket.places.get(topic));
    if (!topic.startsWith("voice:") || topic.endsWith(":nowhere")) {
      return reply("error", { reason: "not found" });
    }
    const users = this.#topics.get(topic) ?? new Map();
    this.#topics.set(topic, users);
    const holder = users.get(socket.user);
    if (holder && !topic.includes("takeover")) return reply("error", { reason: "already_in_channel" });
    if (holder) holder.push("taken_over", {});

    const place = this.#place(socket, joinRef, topic);
    const answer = await this.#options.iceServers(socket.user);
    if (users.get(socket.user) !== place) return undefined; // gone meanwhile
    reply("ok", { ...answer, user_id: socket.user });
    place.push("presence_state", this.#presence(topic));
    this.#broadcast(place, "presence_diff", { joins: entry(place), leaves: {} });
    this.#broadcast(place, "peer_joined", { user_id: socket.user });
    if (holder) this.#close(holder);
    return undefined;
  }

  #place(socket, joinRef, topic) {
    const { user } = socket;
    const push = (event, payload) => send(socket, [joinRef, null, topic, event, payload]);
    const meta = this.#meta({ user_id: user, online_at: Date.now(), muted: false, deafened: false });
    const place = { socket, user, topic, joinRef, push, meta };
    socket.places.set(topic, place);
    this.#topics.get(topic).set(user, place);
    return place;
  }

  #meta(meta) {
    this.#refs += 1;
    return { ...meta, phx_ref: `F${this.#refs}` };
  }

  #close(place) {
    this.#free(place);
    send(place.socket, [place.joinRef, place.joinRef, place.topic, "phx_close", {}]);
  }

  // Whose place was taken over has not left: his presence ends, and he is there by another.
  #free(place) {
    if (!place || !place.socket.places.delete(place.topic)) return;
    const users = this.#topics.get(place.topic);
    if (users.get(place.user) === place) {
      users.delete(place.user);
      this.#broadcast(place, "peer_left", { user_id: place.user });
    }
    this.#broadcast(place, "presence_diff", { joins: {}, leaves: entry(place) });
  }

  // ---- the voice channel ----

  #event(place, event, payload) {
    const { user } = place;
    if (["sdp_offer", "sdp_answer", "ice_candidate"].includes(event)) {
      const key = event === "ice_candidate" ? "candidate" : "sdp";
      if (typeof payload.to !== "string" || typeof payload[key] !== "object") {
        this.violations.push({ user, event, payload });
      }
      // To all, as the app does it: each client takes what is for it.
      this.#broadcast(place, event, { from: user, to: payload.to, [key]: payload[key] });
    } else if (event === "ptt_state") {
      this.#broadcast(place, event, { user_id: user, active: payload.active });
    } else if (event === "toggle_mute" || event === "toggle_deafen") {
      this.#update(place, payload);
    } else {
      this.violations.push({ user, event, payload });
    }
  }

  #update(place, change) {
    const before = entry(place);
    const { phx_ref: prev } = place.meta;
    place.meta = { ...this.#meta({ ...place.meta, ...change }), phx_ref_prev: prev };
    const diff = { joins: entry(place), leaves: before };
    this.#broadcast(place, "presence_diff", diff);
    place.push("presence_diff", diff);
  }

  #presence(topic) {
    return Object.assign({}, ...[...this.#topics.get(topic).values()].map(entry));
  }

  #broadcast(from, event, payload) {
    for (const place of this.#topics.get(from.topic)?.values() ?? []) {
      if (place !== from) place.push(event, payload);
    }
  }
}

function entry({ user, meta }) {
  return { [user]: { metas: [meta] } };
}

function send(socket, message) {
  if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(message));
}
