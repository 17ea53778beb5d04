import assert from "node:assert/strict";
import { test } from "node:test";
import { audioReceived, isRelayed, selectedPair } from "../../assets/js/stats.js";

const LOCAL = {
  id: "L", type: "local-candidate", candidateType: "relay", protocol: "udp", address: "192.0.2.1",
  port: 50000, url: "turn:192.0.2.1:3478?transport=udp", relayProtocol: "udp",
};
const REMOTE = {
  id: "R", type: "remote-candidate", candidateType: "relay", protocol: "udp", ip: "192.0.2.2",
  port: 50001,
};
const PAIR = {
  id: "P", type: "candidate-pair", localCandidateId: "L", remoteCandidateId: "R", state: "succeeded",
  nominated: true, currentRoundTripTime: 0.0025, bytesSent: 10, bytesReceived: 20,
};
const OTHER = { ...PAIR, id: "O", remoteCandidateId: "X", nominated: false };
const TRANSPORT = { id: "T", type: "transport", selectedCandidatePairId: "P" };

const report = (...entries) => new Map(entries.map((entry) => [entry.id, entry]));

test("the selected pair, as the transport names it", () => {
  const pair = selectedPair(report({ ...OTHER, nominated: true }, PAIR, LOCAL, REMOTE, TRANSPORT));
  assert.deepEqual(pair, {
    local: {
      type: "relay", protocol: "udp", address: "192.0.2.1", port: 50000,
      url: "turn:192.0.2.1:3478?transport=udp", relayProtocol: "udp",
    },
    remote: {
      type: "relay", protocol: "udp", address: "192.0.2.2", port: 50001, url: null,
      relayProtocol: null,
    },
    rttMs: 2.5,
    bytesSent: 10,
    bytesReceived: 20,
  });
});

test("the selected pair without transport entries: selected, else nominated", () => {
  const selected = { ...OTHER, remoteCandidateId: "R", selected: true, bytesSent: 77 };
  assert.equal(selectedPair(report(PAIR, selected, LOCAL, REMOTE)).bytesSent, 77);
  assert.equal(selectedPair(report(OTHER, PAIR, LOCAL, REMOTE)).bytesSent, 10);
});

test("no selected pair yet", () => {
  assert.equal(selectedPair(report()), null);
  assert.equal(selectedPair(report(OTHER, LOCAL, REMOTE)), null);
  assert.equal(selectedPair(report({ ...PAIR, state: "in-progress" }, LOCAL, REMOTE)), null);
  assert.equal(selectedPair(report(PAIR, LOCAL, TRANSPORT)), null, "a candidate is missing");
  assert.equal(selectedPair(report({ ...TRANSPORT, selectedCandidatePairId: "gone" })), null);
});

test("a pair without a round trip time yet", () => {
  const { currentRoundTripTime, ...fresh } = PAIR;
  assert.equal(selectedPair(report(fresh, LOCAL, REMOTE)).rttMs, null);
});

test("relayed means both ends", () => {
  const of = (local, remote) => ({ local: { type: local }, remote: { type: remote } });
  assert.equal(isRelayed(of("relay", "relay")), true);
  assert.equal(isRelayed(of("relay", "prflx")), false);
  assert.equal(isRelayed(of("host", "relay")), false);
  assert.equal(isRelayed(null), false);
});

test("audio that arrived, over all streams, and nothing else", () => {
  const stats = report(
    { id: 1, type: "inbound-rtp", kind: "audio", packetsReceived: 5, bytesReceived: 50, packetsLost: 1 },
    { id: 2, type: "inbound-rtp", kind: "audio", packetsReceived: 7, bytesReceived: 70 },
    { id: 3, type: "inbound-rtp", kind: "video", packetsReceived: 100, bytesReceived: 1000 },
    { id: 4, type: "outbound-rtp", kind: "audio", packetsSent: 9 },
  );
  assert.deepEqual(audioReceived(stats), { packets: 12, bytes: 120, lost: 1 });
  assert.deepEqual(audioReceived(report()), { packets: 0, bytes: 0, lost: 0 });
});
