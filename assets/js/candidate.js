/** ICE candidates as text (RFC 8839 §5.1): one parser for all browsers, which fill in
 * different properties of RTCIceCandidate. */

const TYPES = ["host", "srflx", "prflx", "relay"];

/**
 * Parses a candidate line, with or without "candidate:" or "a=candidate:" before it.
 *
 * @param {string} line
 * @returns {{foundation: string, component: number, protocol: string, priority: number,
 *   address: string, port: number, type: string, relatedAddress: string|null,
 *   relatedPort: number|null, tcpType: string|null} | null} null when it is not a candidate
 */
export function parseCandidate(line) {
  const words = line.trim().replace(/^(a=)?candidate:/, "").split(/\s+/);
  if (words.length < 8 || words.length % 2 !== 0 || words[6] !== "typ") return null;

  const [foundation, component, protocol, priority, address, port, , type] = words;
  const rest = pairs(words.slice(8));
  const candidate = {
    foundation,
    component: natural(component),
    protocol: protocol.toLowerCase(),
    priority: natural(priority),
    address,
    port: natural(port),
    type,
    relatedAddress: rest.raddr ?? null,
    relatedPort: rest.rport === undefined ? null : natural(rest.rport),
    tcpType: rest.tcptype ?? null,
  };
  return isSound(candidate) ? candidate : null;
}

/** Whether the browser put a random name (mDNS) in place of a host's address. */
export function isHidden(address) {
  return /\.local$/i.test(address);
}

function isSound({ component, priority, port, relatedPort, type }) {
  const numbers = [component, priority, port, relatedPort ?? 0];
  return TYPES.includes(type) && port <= 65535 && numbers.every((n) => !Number.isNaN(n));
}

function pairs(words) {
  const found = {};
  for (let i = 0; i + 1 < words.length; i += 2) found[words[i]] = words[i + 1];
  return found;
}

function natural(text) {
  return /^\d+$/.test(text) ? Number(text) : NaN;
}
