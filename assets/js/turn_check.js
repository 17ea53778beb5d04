import { checkIceServers } from "./ice_servers.js";
import { gatherCandidates, iceError } from "./ice_probe.js";
import { CallError, LoopbackCall } from "./loopback_call.js";
import { audioReceived, selectedPair } from "./stats.js";

const DEFAULTS = {
  gatherMs: 10_000, // browsers themselves wait up to 40 s for a relay that is not there
  connectMs: 15_000,
  quietMs: 3_000, // pings alone
  loadMs: 6_000, // pings and bulk data
  pingMs: 100,
  sampleMs: 200,
  silenceMs: 5_000, // this long without a pong, the call has broken off
  recentMs: 1_000, // at the end, the last pong must not be older
  bitsPerSecond: 20_000_000,
};

/**
 * Checks a relay: gathers candidates, makes a relay-only call within this page and measures it.
 *
 * @param {unknown} iceServers as the app's server gave them
 * @param {object} options
 * @param {(event: object) => void} options.onEvent gets the events that check_state.js takes;
 *   {type: "rtt", at, ms} and {type: "rate", at, bitsPerSecond} are the measurements, `at` in ms
 *   since the call connected
 * @param {{track: MediaStreamTrack, running: () => boolean}} [options.tone] audio to send
 * @param {AbortSignal} [options.signal] ends it; nothing more is reported
 * @returns {Promise<void>} never rejects: what goes wrong is an event
 */
export async function runCheck(iceServers, { onEvent, tone, signal, ...times }) {
  const report = (event) => signal?.aborted || onEvent(event);
  const settings = { ...DEFAULTS, ...times, tone, signal };

  const checked = checkIceServers(iceServers);
  if (!checked.ok) return report({ type: "failed", reason: "bad_servers", detail: checked.error });
  report({ type: "servers", turnUrls: checked.turnUrls });
  if (checked.turnUrls.length === 0) return undefined;

  try {
    if (await findRelay(checked.servers, settings, report)) {
      await makeCall(checked.servers, settings, report);
    }
  } catch (error) {
    const reason = error instanceof CallError ? `call_${error.reason}` : "internal";
    report({ type: "failed", reason, detail: error.message });
  }
  return undefined;
}

// Resolves at the first relayed address; gathering goes on beside the call.
function findRelay(servers, { gatherMs, signal }, report) {
  return new Promise((resolve, reject) => {
    const onCandidate = (candidate) => {
      report({ type: "candidate", candidate });
      if (candidate.type === "relay") resolve(true);
    };
    const onError = (error) => report({ type: "ice_error", error });
    gatherCandidates(servers, { deadline: gatherMs, signal, onCandidate, onError })
      .then(({ complete }) => {
        report({ type: "gathered", complete });
        resolve(false);
      })
      .catch(reject);
  });
}

async function makeCall(servers, settings, report) {
  const { tone, signal } = settings;
  report({ type: "calling" });
  const start = performance.now();
  const onIceError = (event) =>
    report({ type: "ice_error", error: { ...iceError(event), ms: performance.now() - start } });
  const call = new LoopbackCall(servers, { policy: "relay", track: tone?.track, onIceError });
  try {
    await call.connect({ timeout: settings.connectMs, signal });
    report({ type: "connected", ms: performance.now() - start });
    await measure(call, settings, report);
    if (!signal?.aborted) report({ type: "finished" });
  } finally {
    call.close();
  }
}

async function measure(call, settings, report) {
  const { quietMs, loadMs, pingMs, sampleMs, silenceMs, recentMs, bitsPerSecond } = settings;
  const start = performance.now();
  const at = () => performance.now() - start;
  const end = quietMs + loadMs;
  let lastPong = 0;
  let load = null;
  let audio = "off";

  const stopPings = call.ping(pingMs, (ms) => {
    lastPong = at();
    report({ type: "rtt", at: lastPong, ms });
  });
  // What is still under way at the end gets its time too: audio that a tap has just started, a pong.
  const settled = () => audio !== "waiting" && at() - lastPong < recentMs;
  while ((at() < end || !settled()) && at() < end + silenceMs && !settings.signal?.aborted) {
    await sleep(sampleMs);
    if (at() - lastPong > silenceMs) throw new CallError("silent");
    if (at() >= quietMs) load ??= call.load(bitsPerSecond);
    if (at() >= end) load.stop();
    else if (load) report(rateEvent(at(), load));
    audio = await observe(call, settings.tone, report);
  }
  stopPings();
}

function rateEvent(at, { received }) {
  return { type: "rate", at, bitsPerSecond: received.rate(performance.now()) };
}

// Reports the call's path and its audio; returns the latter.
async function observe(call, tone, report) {
  const { caller, callee } = await call.stats();
  const pairs = [selectedPair(caller), selectedPair(callee)];
  if (pairs.every(Boolean)) report({ type: "path", path: pathOf(pairs) });

  const audio = audioState(tone, caller, callee);
  report({ type: "audio", audio });
  return audio;
}

// Each end's own candidate is asked: a peer's is "prflx" while the news of it is under way.
function pathOf([caller, callee]) {
  const { type, url, relayProtocol } = caller.local;
  return { caller: type, callee: callee.local.type, url, protocol: relayProtocol };
}

function audioState(tone, caller, callee) {
  if (!tone) return "off";
  if ([caller, callee].every((stats) => audioReceived(stats).packets > 0)) return "flowing";
  return tone.running() ? "waiting" : "blocked";
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
