import assert from "node:assert/strict";
import { test } from "node:test";
import { checkIceServers, parseIceUrl } from "../../assets/js/ice_servers.js";

test("URLs: scheme, host, port and transport", () => {
  const cases = [
    ["stun:relay.example", { scheme: "stun", host: "relay.example", port: 3478, transport: "udp" }],
    ["STUN:192.0.2.1:19302", { scheme: "stun", host: "192.0.2.1", port: 19302, transport: "udp" }],
    ["turn:192.0.2.1", { scheme: "turn", host: "192.0.2.1", port: 3478, transport: "udp" }],
    ["turn:[2001:db8::1]:80", { scheme: "turn", host: "[2001:db8::1]", port: 80, transport: "udp" }],
    ["turn:h?transport=TCP", { scheme: "turn", host: "h", port: 3478, transport: "tcp" }],
    ["turns:h:443", { scheme: "turns", host: "h", port: 443, transport: "tcp" }],
    ["turns:h?transport=udp", { scheme: "turns", host: "h", port: 5349, transport: "udp" }],
  ];
  for (const [text, parts] of cases) assert.deepEqual(parseIceUrl(text), parts, text);
});

test("URLs that no browser takes", () => {
  const texts = [
    "", "stun:", "turn", "http://h", "turn://h", "turn:h:0", "turn:h:65536", "turn:h:port",
    "turn:h?transport=sctp", "turn:h?proto=udp", "stun:h?transport=udp", "turn:u@h", "turn:h h",
    "turn:2001:db8::1", "turn:h/path", " turn:h", "turn:h ",
  ];
  for (const text of texts) assert.equal(parseIceUrl(text), null, JSON.stringify(text));
});

test("a list with STUN and TURN is taken as it is", () => {
  const servers = [
    { urls: "stun:h" },
    { urls: ["turn:h?transport=udp", "turns:h"], username: "u", credential: "c" },
  ];
  assert.deepEqual(checkIceServers(servers), {
    ok: true,
    servers,
    turnUrls: ["turn:h?transport=udp", "turns:h"],
  });
});

test("an empty list is a list without relays", () => {
  assert.deepEqual(checkIceServers([]), { ok: true, servers: [], turnUrls: [] });
});

test("what is wrong is named: the entry, the key, the value", () => {
  const good = { urls: "turn:h", username: "u", credential: "c" };
  const cases = [
    [null, "ICE servers must be a list, not null"],
    [{ iceServers: [] }, "ICE servers must be a list, not an object"],
    [[good, "turn:h"], "ICE server 2: must be an object, not a string"],
    [[[good]], "ICE server 1: must be an object, not a list"],
    [[{}], 'ICE server 1: "urls" is missing'],
    [[{ urls: [] }], 'ICE server 1: "urls" is empty'],
    [[{ urls: ["stun:h", 7] }], 'ICE server 1: "urls" holds a number; it must hold text'],
    [[{ urls: "https://h" }], 'ICE server 1: "https://h" is not a STUN or TURN URL'],
    [[{ urls: "turn:h" }], 'ICE server 1: "turn:h" needs a "username"'],
    [[{ urls: ["stun:h", "turns:h"], username: "u" }], 'ICE server 1: "turns:h" needs a "credential"'],
    [[{ ...good, username: null }], 'ICE server 1: "username" is null; leave the key out'],
    [[{ urls: "stun:h", credential: null }], 'ICE server 1: "credential" is null; leave the key out'],
    [[{ ...good, credential: undefined }], 'ICE server 1: "credential" is undefined; leave the key out'],
    [[{ ...good, credential: 5 }], 'ICE server 1: "credential" must be text, not a number'],
    [[{ ...good, username: "" }], 'ICE server 1: "username" is empty'],
  ];
  for (const [value, error] of cases) {
    assert.deepEqual(checkIceServers(value), { ok: false, error }, JSON.stringify(value));
  }
});
