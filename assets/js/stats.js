/**
 * The few facts that matter of an RTCStatsReport (W3C webrtc-stats). Each takes the report itself
 * or any other iterable of [id, stats].
 */

/**
 * The pair of candidates that carries the call, or null before there is one.
 *
 * @returns {{local: object, remote: object, rttMs: number|null, bytesSent: number,
 *   bytesReceived: number} | null} `local` and `remote` are {type, protocol, address, port, url,
 *   relayProtocol}; the last two are of the server ("udp", "tcp" or "tls" to a relay), or null
 */
export function selectedPair(report) {
  const stats = new Map(report);
  const pair = findPair(stats);
  if (!pair) return null;

  const local = stats.get(pair.localCandidateId);
  const remote = stats.get(pair.remoteCandidateId);
  if (!local || !remote) return null;
  return {
    local: side(local),
    remote: side(remote),
    rttMs: pair.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
    bytesSent: pair.bytesSent ?? 0,
    bytesReceived: pair.bytesReceived ?? 0,
  };
}

/** Whether both ends of a selected pair are relayed addresses. */
export function isRelayed(pair) {
  return pair?.local.type === "relay" && pair.remote.type === "relay";
}

/**
 * What arrived of audio, summed over its streams.
 *
 * @returns {{packets: number, bytes: number, lost: number}}
 */
export function audioReceived(report) {
  const sum = { packets: 0, bytes: 0, lost: 0 };
  for (const [, entry] of report) {
    if (entry.type !== "inbound-rtp" || entry.kind !== "audio") continue;
    sum.packets += entry.packetsReceived ?? 0;
    sum.bytes += entry.bytesReceived ?? 0;
    sum.lost += entry.packetsLost ?? 0;
  }
  return sum;
}

// Firefox has no transport entries and marks the pair itself as `selected`.
function findPair(stats) {
  const all = [...stats.values()];
  const transport = all.find((s) => s.type === "transport" && s.selectedCandidatePairId);
  if (transport) return stats.get(transport.selectedCandidatePairId);

  const pairs = all.filter((s) => s.type === "candidate-pair");
  return (
    pairs.find((s) => s.selected) ?? pairs.find((s) => s.nominated && s.state === "succeeded")
  );
}

function side(candidate) {
  return {
    type: candidate.candidateType,
    protocol: candidate.protocol,
    address: candidate.address ?? candidate.ip ?? null,
    port: candidate.port,
    url: candidate.url ?? null,
    relayProtocol: candidate.relayProtocol ?? null,
  };
}
