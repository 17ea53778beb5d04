import { isHidden } from "../js/candidate.js";
import { initialState, reduce, steps, verdict } from "../js/check_state.js";
import { summarize } from "../js/meter.js";
import { createTone } from "../js/tone.js";
import { runCheck } from "../js/turn_check.js";
import { createChart } from "./chart.js";

const QUIET_MS = 3_000;
const LOAD_MS = 6_000;
const OFFERED_MBITS = 20;

const TYPES = { host: "Own", srflx: "Public", prflx: "Peer", relay: "Relayed" };
const STATUSES = {
  todo: ["○", "to do"],
  busy: ["●", "under way"],
  good: ["✓", "passed"],
  bad: ["✕", "failed"],
  skipped: ["–", "not tested"],
};
const TONES = {
  wait: { mark: "…", colour: "808a85" },
  good: { mark: "✓", colour: "0b6b46" },
  bad: { mark: "✕", colour: "b3261e" },
};

const $ = (id) => document.getElementById(id);
const run = { duration: QUIET_MS + LOAD_MS, band: [QUIET_MS, QUIET_MS + LOAD_MS] };
const charts = {
  rtt: createChart($("rtt-chart"), { ...run, least: 2 }),
  rate: createChart($("rate-chart"), { ...run, least: 10 }),
};

let current = null;

/** One run of the check, from the question for ICE servers to the verdict. */
class Run {
  state = initialState();
  rtts = { quiet: [], loaded: [] };
  rates = [];
  abort = new AbortController();
  tone = null;

  async start() {
    if (typeof RTCPeerConnection === "undefined") return this.fail("no_webrtc", "");
    this.tone = toneIfAny();
    try {
      await this.check();
    } finally {
      this.tone?.close();
    }
    return undefined;
  }

  async check() {
    const answer = await fetchIceServers(this.abort.signal);
    if (answer.error) return this.fail("no_servers", answer.error);
    return runCheck(answer.servers, {
      onEvent: (event) => this.take(event),
      tone: this.tone,
      signal: this.abort.signal,
      quietMs: QUIET_MS,
      loadMs: LOAD_MS,
      bitsPerSecond: OFFERED_MBITS * 1e6,
    });
  }

  stop() {
    this.abort.abort();
    this.tone?.close();
  }

  fail(reason, detail) {
    this.take({ type: "failed", reason, detail });
  }

  take(event) {
    if (this.abort.signal.aborted) return;
    this.state = reduce(this.state, event);
    if (event.type === "rtt") this.addRtt(event);
    else if (event.type === "rate") this.addRate(event);
    else if (event.type === "finished") showRateSummary(this.rates);
    show(this.state);
  }

  addRtt({ at, ms }) {
    (at < QUIET_MS ? this.rtts.quiet : this.rtts.loaded).push(ms);
    charts.rtt.add(at, ms);
    showRtt(this.rtts);
  }

  addRate({ at, bitsPerSecond }) {
    const mbits = bitsPerSecond / 1e6;
    this.rates.push(mbits);
    charts.rate.add(at, mbits);
    showRate(this.rates);
  }
}

async function fetchIceServers(signal) {
  try {
    const response = await fetch("../ice_servers.json", { cache: "no-store", signal });
    if (!response.ok) return { error: `It answered ${response.status} when asked for them.` };
    return { servers: await response.json() };
  } catch (error) {
    return { error: `It could not be asked for them: ${error.message}.` };
  }
}

// A browser that cannot make sound can still check the relay.
function toneIfAny() {
  try {
    return createTone();
  } catch {
    return null;
  }
}

/* ---- showing ---- */

function show(state) {
  const { tone, title, text } = verdict(state);
  const root = document.documentElement;
  root.dataset.tone = tone;
  root.dataset.phase = state.phase;
  document.title = `${TONES[tone].mark} ${title} · Relay check`;
  document.querySelector("link[rel=icon]").href = icon(TONES[tone].colour);

  setText($("verdict-title"), title);
  setText($("verdict-text"), text);
  $("again").hidden = state.phase !== "finished" && state.phase !== "failed";
  setText($("again"), state.audio === "blocked" ? "Run again with audio" : "Run again");
  $("charts").hidden = state.phase === "failed" && state.pongs === 0;
  $("sound").hidden = state.audio !== "blocked" || state.phase !== "measuring";
  showSteps(steps(state));
  showCandidates(state);
  showErrors(state.errors);
  setText($("path"), state.path ? pathText(state.path) : "");
}

function showSteps(list) {
  const items = list.map(({ label, status }) => {
    const [mark, words] = STATUSES[status];
    return element(
      "li",
      { "data-status": status },
      element("span", { class: "sign", "aria-hidden": "true" }, mark),
      label,
      element("span", { class: "said" }, `: ${words}`),
    );
  });
  replace($("steps"), items);
}

function showCandidates({ candidates }) {
  const rows = candidates.map(({ type, protocol, address, port, url, ms }) => {
    const place = isHidden(address) ? "hidden by the browser" : `${bracket(address)}:${port}`;
    const about = [protocol.toUpperCase(), url && `via ${url}`].filter(Boolean).join(", ");
    return element(
      "tr",
      { class: type },
      element("td", {}, TYPES[type], element("small", {}, type)),
      element("td", { class: "address" }, place, element("small", {}, about)),
      element("td", {}, `${Math.round(ms)} ms`),
    );
  });
  replace($("candidates"), rows);
}

// Browsers ask from every network that they have: one complaint per server is enough.
function showErrors(errors) {
  const unlike = new Map(errors.map((error) => [`${error.code} ${error.url}`, error]));
  $("errors-card").hidden = errors.length === 0;
  const items = [...unlike.values()].map(({ code, text, url, ms }) =>
    element("li", {}, `${code} ${text} `, element("small", {}, `${url}, after ${Math.round(ms)} ms`)),
  );
  replace($("errors"), items);
}

function showRtt({ quiet, loaded }) {
  const { median } = summarize(quiet.length > 0 ? quiet : loaded);
  setText($("rtt-value"), figure(median));
  const under = summarize(loaded);
  const load = under ? `; ${figure(under.median)} ms under load (shaded)` : "";
  setText($("rtt-note"), `Median of ${quiet.length} pings${load}`);
}

function showRate(rates) {
  setText($("rate-value"), figure(rates[rates.length - 1]));
  setText($("rate-note"), `Now, of ${OFFERED_MBITS} offered`);
}

function showRateSummary(rates) {
  setText($("rate-value"), figure(summarize(rates).median));
  setText($("rate-note"), `Median, of ${OFFERED_MBITS} offered`);
}

function pathText({ caller, callee, url, protocol }) {
  const over = protocol ? ` over ${protocol.toUpperCase()}` : "";
  return `Path: ${caller} to ${callee}${over}${url ? `, ${url}` : ""}.`;
}

function figure(value) {
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

function bracket(address) {
  return address.includes(":") ? `[${address}]` : address;
}

function icon(colour) {
  const circle = `<circle cx="8" cy="8" r="8" fill="%23${colour}"/>`;
  return `data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${circle}</svg>`;
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A screen reader speaks what changes: what is the same must not be written again.
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function replace(target, items) {
  const next = document.createElement(target.tagName);
  next.append(...items);
  if (next.innerHTML !== target.innerHTML) target.replaceChildren(...items);
}

/* ---- start ---- */

function start() {
  current?.stop();
  charts.rtt.clear();
  charts.rate.clear();
  for (const id of ["rtt-value", "rate-value"]) setText($(id), "–");
  setText($("rtt-note"), "Median");
  setText($("rate-note"), "The relay carries each byte twice");

  current = new Run();
  show(current.state);
  current.start().catch((error) => current.fail("internal", error.message));
}

$("again").addEventListener("click", start);
// Browsers start sound only after a tap or a key: any will do.
for (const kind of ["click", "keydown"]) {
  document.addEventListener(kind, () => current?.tone?.resume());
}
addEventListener("pagehide", () => current?.stop());
start();
