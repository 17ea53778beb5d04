import assert from "node:assert/strict";
import { test } from "node:test";
import { isHidden, parseCandidate } from "../../assets/js/candidate.js";

const RELAY =
  "candidate:3875267896 1 udp 50339839 198.51.100.7 50092 typ relay raddr 203.0.113.9 rport 48376 " +
  "generation 0 ufrag cH+d network-cost 999";

test("a relay candidate as Chromium writes it", () => {
  assert.deepEqual(parseCandidate(RELAY), {
    foundation: "3875267896",
    component: 1,
    protocol: "udp",
    priority: 50339839,
    address: "198.51.100.7",
    port: 50092,
    type: "relay",
    relatedAddress: "203.0.113.9",
    relatedPort: 48376,
    tcpType: null,
  });
});

test("with its SDP prefix, and without one", () => {
  const parsed = parseCandidate(RELAY);
  assert.deepEqual(parseCandidate(`a=${RELAY}`), parsed);
  assert.deepEqual(parseCandidate(RELAY.replace("candidate:", "")), parsed);
});

test("a TCP host candidate over IPv6, as Firefox writes it", () => {
  const line = "candidate:2 1 TCP 2105458943 2001:db8::17 9 typ host tcptype active";
  const { protocol, address, port, type, relatedAddress, relatedPort, tcpType } = parseCandidate(line);
  assert.deepEqual(
    [protocol, address, port, type, relatedAddress, relatedPort, tcpType],
    ["tcp", "2001:db8::17", 9, "host", null, null, "active"],
  );
});

test("lines that are not candidates", () => {
  const lines = [
    "",
    "candidate:",
    "candidate:1 1 udp 1 192.0.2.1 5",
    "candidate:1 1 udp 1 192.0.2.1 5 typ",
    "candidate:1 1 udp 1 192.0.2.1 5 kind host",
    "candidate:1 1 udp 1 192.0.2.1 5 typ moon",
    "candidate:1 1 udp 1 192.0.2.1 65536 typ host",
    "candidate:1 1 udp 1 192.0.2.1 -5 typ host",
    "candidate:1 one udp 1 192.0.2.1 5 typ host",
    "candidate:1 1 udp 1e3 192.0.2.1 5 typ host",
    "candidate:1 1 udp 1 192.0.2.1 5 typ host raddr",
    "candidate:1 1 udp 1 192.0.2.1 5 typ srflx raddr 10.0.0.1 rport x",
  ];
  for (const line of lines) assert.equal(parseCandidate(line), null, JSON.stringify(line));
});

test("addresses that the browser hides", () => {
  assert.equal(isHidden("d3de16bc-7ebf-44cc-a4a1-1e00e732f5b2.local"), true);
  assert.equal(isHidden("192.0.2.1"), false);
  assert.equal(isHidden("local.example"), false);
});
