import { parseCandidate } from "./candidate.js";

/**
 * Gathers every candidate that these servers give, without calling anybody.
 *
 * @param {RTCIceServer[]} iceServers
 * @param {object} [options]
 * @param {RTCIceTransportPolicy} [options.policy] "relay" asks relays only
 * @param {number} [options.deadline] milliseconds; browsers wait up to 40 s for a dead server
 * @param {AbortSignal} [options.signal] ends it early
 * @param {(candidate: object) => void} [options.onCandidate] as of parseCandidate(), with `ms`
 *   since the start and the server's `url` ("" for a host's own address or if unknown)
 * @param {(error: object) => void} [options.onError] {code, text, url, ms}; RFC 8656's codes, or 701
 *   for a server that could not be reached (W3C webrtc, icecandidateerror)
 * @returns {Promise<{complete: boolean, ms: number}>} complete: the browser itself was done
 * @throws {DOMException} when the browser refuses the servers
 */
export async function gatherCandidates(iceServers, options = {}) {
  const { policy = "all", deadline = 10_000, signal, onCandidate, onError } = options;
  const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: policy });
  const start = performance.now();
  const elapsed = () => performance.now() - start;

  pc.addEventListener("icecandidate", ({ candidate }) => {
    const parsed = candidate?.candidate ? parseCandidate(candidate.candidate) : null;
    if (parsed) onCandidate?.({ ...parsed, url: candidate.url ?? "", ms: elapsed() });
  });
  pc.addEventListener("icecandidateerror", (event) => {
    onError?.({ ...iceError(event), ms: elapsed() });
  });

  try {
    pc.createDataChannel("probe");
    const ended = gathered(pc, deadline, signal);
    await pc.setLocalDescription();
    return { complete: await ended, ms: elapsed() };
  } finally {
    pc.close();
  }
}

/**
 * The facts of an icecandidateerror event.
 *
 * @param {RTCPeerConnectionIceErrorEvent} event
 * @returns {{code: number, text: string, url: string}}
 */
export function iceError({ errorCode, errorText, url }) {
  return { code: errorCode, text: errorText ?? "", url: url ?? "" };
}

// Resolves to true when gathering completes, to false at the deadline or when it is aborted.
function gathered(pc, deadline, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), deadline);
    const end = (complete) => {
      clearTimeout(timer);
      resolve(complete);
    };
    pc.addEventListener("icegatheringstatechange", () => {
      if (pc.iceGatheringState === "complete") end(true);
    });
    if (signal?.aborted) end(false);
    signal?.addEventListener("abort", () => end(false), { once: true });
  });
}
