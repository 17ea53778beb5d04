import { parseIceUrl } from "./ice_servers.js";

/**
 * Whether new ICE servers ask for an ICE restart at once. A relayed address goes on with the
 * credentials that it was allocated with, so only a connection that is in trouble, or whose relay
 * is no longer listed, needs one; for every other the servers count at the next gathering.
 *
 * @param {object} now
 * @param {object|null} now.pair as of selectedPair()
 * @param {RTCPeerConnectionState} now.state
 * @param {string[]} now.turnUrls the relays of the new list
 */
export function needsRestart({ pair, state, turnUrls }) {
  const broken = state === "disconnected" || state === "failed";
  if (!pair) return broken && turnUrls.length > 0;
  if (pair.local.type !== "relay") return false;
  return broken || (pair.local.url !== null && !turnUrls.some((url) => isSame(url, pair.local.url)));
}

// Browsers report a URL in a form of their own, with port and transport.
function isSame(one, other) {
  const [a, b] = [parseIceUrl(one), parseIceUrl(other)];
  if (!a || !b) return one === other;
  return a.scheme === b.scheme && a.port === b.port && a.transport === b.transport &&
    a.host.toLowerCase() === b.host.toLowerCase();
}
