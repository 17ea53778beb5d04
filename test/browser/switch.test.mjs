import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

// Two browsers call each other where no UDP port is open but the listener's: in a network namespace of its own,
// behind nftables. `switch_call.mjs` is what runs in there.

const CALL = fileURLToPath(new URL("switch_call.mjs", import.meta.url));
const PORT = 3478;
const RULES = `table inet only { chain in { type filter hook input priority 0;
  udp dport ${PORT} accept
  udp sport ${PORT} accept
  meta l4proto udp counter drop
  }
}`;

/** Why there can be no such namespace here, or false. */
function lacking() {
  try {
    execFileSync("unshare", ["--net", "sh", "-c", "ip link set lo up && nft list ruleset"], { stdio: "ignore" });
    return false;
  } catch {
    return "network namespaces want Linux, root, iproute2 and nftables";
  }
}

/** What the call in the namespace has to say. @param {string[]} options of the relay */
function call(...options) {
  const script = 'ip link set lo up && echo "$RULES" | nft -f - && exec "$NODE" "$@"';
  const inside = spawnSync("unshare", ["--net", "sh", "-c", script, "sh", CALL, String(PORT), ...options], {
    env: { ...process.env, RULES, NODE: process.execPath },
    encoding: "utf8",
    timeout: 120_000,
  });
  assert.equal(inside.status, 0, inside.stderr);
  return JSON.parse(inside.stdout.trim().split("\n").at(-1));
}

test("in switch mode two browsers meet through the listener's port alone", { skip: lacking() }, () => {
  const { connected, types, got, counters, sockets } = call("mode=switch");
  assert.equal(connected, true);
  assert.deepEqual(types, [["relay", "relay"], ["relay", "relay"]]);
  assert.deepEqual(got, ["from 1", "from 0"]);
  assert.ok(counters.pair_packets > 0);
  assert.equal(counters.pair_packets, counters.up_packets);
  assert.equal(sockets.during, sockets.before);
});

// The wall is one: over sockets of the relay the same call cannot be.
test("with relay sockets they do not", { skip: lacking() }, () => {
  const { connected, counters } = call("pair=false");
  assert.equal(connected, false);
  assert.equal(counters.down_packets, 0);
});
