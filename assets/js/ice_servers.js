/**
 * What an RTCPeerConnection accepts as iceServers, checked before it is asked: the browser's own
 * exception names neither the entry nor the key.
 */

const URL_PATTERN =
  /^(stuns?|turns?):(\[[0-9a-f:.]+\]|[^\s:/?#[\]@]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?$/i;
const DEFAULT_PORTS = { stun: 3478, turn: 3478, stuns: 5349, turns: 5349 };

/**
 * The parts of a STUN or TURN URL (RFC 7064 §3.1, RFC 7065 §3.1), or null.
 *
 * @param {string} text
 * @returns {{scheme: string, host: string, port: number, transport: "udp"|"tcp"} | null}
 */
export function parseIceUrl(text) {
  const match = URL_PATTERN.exec(text);
  if (!match) return null;

  const scheme = match[1].toLowerCase();
  const port = match[3] === undefined ? DEFAULT_PORTS[scheme] : Number(match[3]);
  if (port < 1 || port > 65535) return null;
  if (match[4] && scheme.startsWith("stun")) return null;

  const transport = match[4]?.toLowerCase() ?? (scheme.endsWith("s") ? "tcp" : "udp");
  return { scheme, host: match[2], port, transport };
}

/**
 * Checks a list of ICE servers as it came from a server.
 *
 * @param {unknown} value
 * @returns {{ok: true, servers: RTCIceServer[], turnUrls: string[]} | {ok: false, error: string}}
 *   `turnUrls` are the URLs of relays; the error is one sentence for a person.
 */
export function checkIceServers(value) {
  if (!Array.isArray(value)) return refuse(`ICE servers must be a list, not ${kind(value)}`);

  for (const [index, entry] of value.entries()) {
    const error = entryError(entry);
    if (error) return refuse(`ICE server ${index + 1}: ${error}`);
  }
  const urls = value.flatMap((entry) => entry.urls);
  return { ok: true, servers: value, turnUrls: urls.filter(isTurn) };
}

function entryError(entry) {
  if (kind(entry) !== "an object") return `must be an object, not ${kind(entry)}`;
  return nullError(entry) ?? urlsError(entry.urls) ?? credentialError(entry);
}

// A server that has no credential must leave the key out: null becomes the text "null".
function nullError(entry) {
  const key = Object.keys(entry).find((name) => entry[name] === null || entry[name] === undefined);
  return key && `"${key}" is ${entry[key]}; leave the key out`;
}

function urlsError(urls) {
  if (urls === undefined) return '"urls" is missing';
  const list = Array.isArray(urls) ? urls : [urls];
  if (list.length === 0) return '"urls" is empty';

  for (const url of list) {
    if (typeof url !== "string") return `"urls" holds ${kind(url)}; it must hold text`;
    if (!parseIceUrl(url)) return `"${url}" is not a STUN or TURN URL`;
  }
  return undefined;
}

function credentialError(entry) {
  const url = [entry.urls].flat().find(isTurn);
  if (!url) return undefined;

  for (const key of ["username", "credential"]) {
    if (entry[key] === undefined) return `"${url}" needs a "${key}"`;
    if (typeof entry[key] !== "string") return `"${key}" must be text, not ${kind(entry[key])}`;
    if (entry[key] === "") return `"${key}" is empty`;
  }
  return undefined;
}

function isTurn(url) {
  return /^turns?:/i.test(url);
}

function kind(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return value === undefined ? "nothing" : `a ${typeof value}`;
}

function refuse(error) {
  return { ok: false, error };
}
