import { parseIceUrl } from "./ice_servers.js";

/**
 * The check of a relay as a state machine: what happened goes in, what to tell a person comes out.
 *
 * phase: starting → gathering → connecting → measuring → finished, or failed from any of them.
 * audio: off (not started) | blocked (the browser waits for a tap) | waiting | flowing
 */
export function initialState() {
  return {
    phase: "starting",
    turnUrls: [],
    candidates: [],
    errors: [],
    failure: null,
    gathered: false,
    connectedMs: null,
    pongs: 0,
    audio: "off",
    path: null,
  };
}

const REDUCERS = {
  servers: (state, { turnUrls }) =>
    turnUrls.length > 0
      ? { ...state, phase: "gathering", turnUrls }
      : fail(state, "no_turn_servers"),
  candidate: (state, { candidate }) => ({
    ...state,
    candidates: [...state.candidates, candidate],
  }),
  ice_error: (state, { error }) => ({ ...state, errors: [...state.errors, error] }),
  gathered: (state, { complete }) => {
    const next = { ...state, gathered: true };
    return hasRelay(state) ? next : fail(next, noRelayReason(state, complete));
  },
  calling: (state) => ({ ...state, phase: "connecting" }),
  connected: (state, { ms }) => ({ ...state, phase: "measuring", connectedMs: ms }),
  rtt: (state) => ({ ...state, pongs: state.pongs + 1 }),
  rate: (state) => state,
  path: (state, { path }) =>
    path.caller === "relay" && path.callee === "relay"
      ? { ...state, path }
      : fail({ ...state, path }, "not_relayed"),
  audio: (state, { audio }) => ({ ...state, audio }),
  finished: (state) => {
    if (state.pongs === 0) return fail(state, "call_silent");
    if (state.audio === "waiting") return fail(state, "no_audio");
    return { ...state, phase: "finished" };
  },
  failed: (state, { reason, detail }) =>
    fail(state, (reason.startsWith("call_") && refusalReason(state)) || reason, detail),
};

/**
 * The state after an event. A check that has failed stays failed; only candidates and errors that
 * come late are still added, because they may say why.
 *
 * @param {object} state
 * @param {{type: string}} event with the fields that REDUCERS takes
 */
export function reduce(state, event) {
  const late = event.type === "candidate" || event.type === "ice_error";
  if (state.phase === "failed" && !late) return state;
  return REDUCERS[event.type](state, event);
}

function fail(state, reason, detail = "") {
  return { ...state, phase: "failed", failure: { reason, detail, during: state.phase } };
}

function hasRelay(state) {
  return state.candidates.some((candidate) => candidate.type === "relay");
}

// The relay's own answer says most; silence is told from silence by what else arrived.
function noRelayReason(state, complete) {
  const { errors, candidates } = state;
  const refusal = refusalReason(state);
  if (refusal) return refusal;
  if (errors.some((error) => /lookup|resolv/i.test(error.text))) return "unknown_host";
  if (candidates.some((candidate) => candidate.type === "srflx")) return "stun_only_answer";
  if (candidates.length === 0 && errors.length === 0) return "nothing_gathered";
  return complete && errors.length === 0 ? "not_tried" : "no_answer";
}

function refusalReason({ errors }) {
  const known = errors.find((error) => error.code in REFUSALS);
  if (known) return `refused_${known.code}`;
  return errors.some(isRefusal) ? "refused" : null;
}

// What a relay answers (RFC 8489 §14.8); browsers use 701 for those that they could not reach.
function isRefusal({ code }) {
  return code >= 300 && code < 700;
}

/* ---- words ---- */

const REFUSALS = {
  401: [
    "The relay refused the credentials",
    "It answered 401. The app and the relay must share one secret, and their clocks must agree.",
  ],
  403: ["The relay refused this browser", "It answered 403: forbidden."],
  438: ["The relay kept refusing the nonce", "It answered 438 again and again."],
  441: ["The relay refused the credentials", "It answered 441: they belong to someone else."],
  486: [
    "This user has too many relayed addresses",
    "The relay answered 486: its quota for this user is used up.",
  ],
  508: ["The relay is full", "It answered 508: no relayed address is left."],
};

const FAILURES = {
  no_webrtc: () => ["This browser has no WebRTC", "Try a current Chrome, Edge, Firefox or Safari."],
  no_servers: (state) => ["The app gave no ICE servers", state.failure.detail],
  bad_servers: (state) => ["The ICE servers are not usable", state.failure.detail],
  no_turn_servers: () => [
    "The app offered no relay",
    "Its list has STUN servers only. Is the provider configured, and does it answer?",
  ],
  nothing_gathered: () => [
    "This browser gathered nothing",
    "It needs a network besides loopback, and an extension or a policy may have WebRTC blocked.",
  ],
  not_tried: (state) => [
    "This browser did not ask the relay",
    `It gave up on ${where(state)} without a word. A policy or an extension may forbid it.`,
  ],
  unknown_host: (state) => [
    "The relay's name is not known",
    `No address was found for ${where(state)}. Check the name and the DNS.`,
  ],
  no_answer: (state) => [
    "The relay did not answer",
    `Nothing came back from ${where(state)}. ` +
      "It is not running there, or a firewall is in between.",
  ],
  stun_only_answer: (state) => [
    "The relay gave no relayed address",
    `A STUN server answered, but ${where(state)} gave nothing to relay with.`,
  ],
  refused: (state) => {
    const { code, text } = state.errors.find(isRefusal);
    return ["The relay refused", `It answered ${code}${text ? `: ${text}` : ""}.`];
  },
  call_no_candidates: () => [
    "The relay gave too few addresses",
    "It gave one, but a call needs one for each end.",
  ],
  call_failed: () => [
    "No path through the relay",
    "It gave relayed addresses, but they do not reach each other: " +
      "its peer rules or a firewall on its relay ports forbid it.",
  ],
  call_timeout: () => [
    "The call did not connect in time",
    "The relay gave relayed addresses, but no connection between them was made.",
  ],
  not_relayed: (state) => [
    "The call went around the relay",
    `Its path was ${state.path.caller} to ${state.path.callee}.`,
  ],
  call_silent: (state) =>
    state.pongs > 0
      ? ["The call broke off", "It worked at first, and then the relay fell silent."]
      : ["No data came through", "The call connected, but every message was lost."],
  no_audio: () => ["No audio came through", "Data passed the relay, but no packet of audio did."],
  internal: (state) => ["The check itself went wrong", state.failure.detail],
};

const PROGRESS = {
  starting: ["Asking the app for its relay", "One moment."],
  gathering: ["Looking for the relay", "The browser is asking it for an address."],
  connecting: ["Calling through the relay", "Both ends are in this page; the path is not."],
  measuring: ["Measuring", "Waiting for the first message to come back."],
};

/**
 * What to tell: a tone ("wait", "good" or "bad"), a title and a sentence.
 *
 * @returns {{tone: "wait"|"good"|"bad", title: string, text: string}}
 */
export function verdict(state) {
  if (state.phase === "failed") return { tone: "bad", ...words(failureWords(state)) };
  if (state.phase === "finished" || (state.phase === "measuring" && state.pongs > 0)) {
    return { tone: "good", title: "The relay works", text: goodText(state) };
  }
  return { tone: "wait", ...words(PROGRESS[state.phase]) };
}

function failureWords(state) {
  const { reason } = state.failure;
  const refusal = /^refused_(\d+)$/.exec(reason);
  return refusal ? REFUSALS[refusal[1]] : FAILURES[reason](state);
}

function goodText({ phase, audio }) {
  if (phase === "measuring") return "A call runs through it now, and only through it.";
  return audio === "flowing"
    ? "A call with audio and data ran through it, and only through it."
    : "A call with data ran through it, and only through it. Audio was not tested.";
}

function words([title, text]) {
  return { title, text };
}

function where({ turnUrls }) {
  const places = turnUrls.map((url) => {
    const { host, port, scheme, transport } = parseIceUrl(url);
    return `${host} port ${port} (${scheme === "turns" ? "TLS" : transport.toUpperCase()})`;
  });
  return [...new Set(places)].join(", ");
}

const ORDER = ["starting", "gathering", "connecting", "measuring", "finished"];
const STEPS = [
  ["servers", "ICE servers", 0],
  ["relay", "Relayed address", 1],
  ["call", "Call connects", 2],
  ["data", "Data", 3],
  ["audio", "Audio", 3],
];

/**
 * The check as a short list: each {id, label, status} with status "todo", "busy", "good", "bad" or
 * "skipped".
 */
export function steps(state) {
  return STEPS.map(([id, label, at]) => ({ id, label, status: stepStatus(state, id, at) }));
}

function stepStatus(state, id, at) {
  if (state.phase === "failed") return failedStatus(state, id, at);
  if (id === "data" && state.pongs > 0) return "good";
  if (id === "audio" && state.audio === "flowing") return "good";
  const now = ORDER.indexOf(state.phase);
  if (id === "audio" && now >= at) return now > at ? "skipped" : "busy";
  return now > at ? "good" : now === at ? "busy" : "todo";
}

function failedStatus(state, id, at) {
  const { reason, during } = state.failure;
  const then = ORDER.indexOf(during);
  if (id === "data" && state.pongs > 0) return reason === "call_silent" ? "bad" : "good";
  if (id === "audio" && state.audio === "flowing") return "good";
  if (id === "audio" && at === then) return reason === "no_audio" ? "bad" : "todo";
  return then > at ? "good" : then === at ? "bad" : "todo";
}
