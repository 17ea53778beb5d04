/** The few lines of a session description that signalling looks at (RFC 8866, RFC 8839 §5.4). */

const OFFER_LINE = "a=x-cromulent-offer:";

/**
 * Who made a description, and the how-manieth it is: the id in `o=` stays the same for the life of
 * an RTCPeerConnection, the version grows (RFC 8829 §5.2.2).
 *
 * @param {string} sdp
 * @returns {{id: string, version: string} | null}
 */
export function sessionOf(sdp) {
  const match = /^o=\S+ (\d+) (\d+) /m.exec(sdp);
  return match && { id: match[1], version: match[2] };
}

/** The ICE generations (ice-ufrag) of a description, each once. */
export function fragmentsOf(sdp) {
  return [...new Set(values(sdp, /^a=ice-ufrag:(\S+)/gm))];
}

/** The name of the first media section, or null. */
export function firstMid(sdp) {
  return values(sdp, /^a=mid:(\S+)/gm)[0] ?? null;
}

/**
 * An answer that says which offer it answers. Browsers skip attributes that they do not know
 * (RFC 8866 §5.13), and so a peer without this module is not disturbed.
 */
export function nameOffer(answer, offer) {
  const made = sessionOf(offer);
  if (!made) return answer;
  const line = `${OFFER_LINE}${made.id} ${made.version}\r\n`;
  const media = answer.search(/^m=/m);
  return media < 0 ? answer + line : answer.slice(0, media) + line + answer.slice(media);
}

/** Whether an answer is, as far as it says, for this offer. */
export function answersOffer(answer, offer) {
  const [named] = values(answer, /^a=x-cromulent-offer:(\d+ \d+)/gm);
  const made = sessionOf(offer);
  return named === undefined || made === null || named === `${made.id} ${made.version}`;
}

function values(sdp, pattern) {
  return [...sdp.matchAll(pattern)].map((match) => match[1]);
}
