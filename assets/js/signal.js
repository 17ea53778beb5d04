/**
 * What other members send through the voice channel, checked. Each function takes a payload of any
 * shape and returns what it says, or null.
 */

const ID_MAX = 255; // characters
const SDP_MAX = 256 * 1024;
const CANDIDATE_MAX = 2048;

/**
 * @param {unknown} payload {from, to, sdp: {type, sdp}}
 * @param {"offer"|"answer"} type
 * @returns {{from: string, to: string, description: {type: string, sdp: string}} | null}
 */
export function readDescription(payload, type) {
  const route = readRoute(payload);
  const sdp = payload?.sdp?.sdp ?? payload?.sdp;
  if (!route || !isText(sdp, SDP_MAX) || sdp === "") return null;
  if ((payload.sdp.type ?? type) !== type) return null;
  return { ...route, description: { type, sdp } };
}

/**
 * @param {unknown} payload {from, to, candidate: RTCIceCandidateInit}; a null candidate is an end
 *   of candidates
 * @returns {{from: string, to: string, candidate: RTCIceCandidateInit} | null}
 */
export function readCandidate(payload) {
  const route = readRoute(payload);
  if (!route || payload.candidate === undefined) return null;
  const given = payload.candidate ?? { candidate: "" };
  const { candidate, sdpMid = null, sdpMLineIndex = null, usernameFragment = null } = given;

  if (!isText(candidate, CANDIDATE_MAX)) return null;
  if (sdpMid !== null && !isText(sdpMid, ID_MAX)) return null;
  if (sdpMLineIndex !== null && !(Number.isInteger(sdpMLineIndex) && sdpMLineIndex >= 0)) return null;
  if (usernameFragment !== null && !isText(usernameFragment, ID_MAX)) return null;
  return { ...route, candidate: { candidate, sdpMid, sdpMLineIndex, usernameFragment } };
}

/** The user id in {user_id}, or null. */
export function readUser(payload) {
  return readId(payload?.user_id);
}

/** @returns {{userId: string, active: boolean} | null} of a ptt_state */
export function readTalking(payload) {
  const userId = readUser(payload);
  return userId !== null && typeof payload.active === "boolean"
    ? { userId, active: payload.active }
    : null;
}

/** A user id as text, or null: servers send text or numbers. */
export function readId(value) {
  if (Number.isSafeInteger(value)) return String(value);
  return isText(value, ID_MAX) && value !== "" ? value : null;
}

function readRoute(payload) {
  const from = readId(payload?.from);
  const to = readId(payload?.to);
  return from === null || to === null ? null : { from, to };
}

function isText(value, most) {
  return typeof value === "string" && value.length <= most;
}
