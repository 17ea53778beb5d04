"""Two clients behind symmetric NATs, each in a network namespace of its own: the relay's mission.

    alice 10.77.1.2 -- 10.77.1.1 NAT 198.18.1.2 -- 198.18.1.1
                                                             relay 198.18.0.1, 198.18.0.2
      bob 10.77.2.2 -- 10.77.2.1 NAT 198.18.2.2 -- 198.18.2.1

The relay's namespace routes between the two NATs, so nothing but the NATs keeps the clients apart.
Addresses are those of RFC 2544, for tests of network devices.
"""

import contextlib
import os
import shutil
import subprocess
import sys

import ice
from support import Case, Failure, Skip, check, check_equal, run

RELAY_IPS = ("198.18.0.1", "198.18.0.2")
PORT = 3478
USERS = ("alice", "bob")

# Masquerading with random ports is a NAT with address- and port-dependent mapping and filtering.
NAT_RULES = """
table ip nat {
    chain out { type nat hook postrouting priority srcnat;
                oifname "wan" masquerade fully-random; }
    chain through { type filter hook forward priority filter; policy drop;
                    iifname "lan" oifname "wan" accept; ct state established,related accept; }
    chain in { type filter hook input priority filter; policy drop; iifname != "wan" accept; }
}
"""


def sh(*argv, stdin=None):
    done = subprocess.run(argv, input=stdin, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise Failure(f"{' '.join(argv)}: {done.stdout.strip()}")


def require():
    """Network namespaces want root and two programs."""
    if os.geteuid() != 0:
        raise Skip("network namespaces want root")
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        check(shutil.which(program), f"{program} is not installed: bin/setup installs {package}")


class Internet:
    """The namespaces: public, and for each user one for the NAT and one for the client."""

    def __init__(self):
        self.prefix = f"ct{os.getpid()}"
        self.public = self.prefix + "-public"
        self.made = []

    def client(self, user):
        return f"{self.prefix}-{user}"

    def nat(self, user):
        return f"{self.prefix}-{user}-nat"

    def namespace(self, name):
        try:
            sh("ip", "netns", "add", name)
        except Failure as failure:
            if "not permitted" in str(failure):
                raise Skip("this root may not make network namespaces") from None
            raise
        self.made.append(name)
        sh("ip", "-n", name, "link", "set", "lo", "up")

    def wire(self, a, b):
        """A cable between (namespace, interface, address) and another."""
        sh("ip", "-n", a[0], "link", "add", a[1], "type", "veth", "peer", "name", b[1],
           "netns", b[0])
        for namespace, interface, address in (a, b):
            sh("ip", "-n", namespace, "addr", "add", address, "dev", interface)
            sh("ip", "-n", namespace, "link", "set", interface, "up")

    def forward(self, namespace):
        sh("ip", "netns", "exec", namespace, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def build(self):
        self.namespace(self.public)
        self.forward(self.public)
        for ip in RELAY_IPS:
            sh("ip", "-n", self.public, "addr", "add", f"{ip}/32", "dev", "lo")
        for number, user in enumerate(USERS, 1):
            nat, client = self.nat(user), self.client(user)
            self.namespace(nat)
            self.namespace(client)
            self.wire((self.public, f"to-{user}", f"198.18.{number}.1/24"),
                      (nat, "wan", f"198.18.{number}.2/24"))
            self.wire((nat, "lan", f"10.77.{number}.1/24"),
                      (client, "eth0", f"10.77.{number}.2/24"))
            sh("ip", "-n", nat, "route", "add", "default", "via", f"198.18.{number}.1")
            sh("ip", "-n", client, "route", "add", "default", "via", f"10.77.{number}.1")
            self.forward(nat)
            sh("ip", "netns", "exec", nat, "nft", "-f", "-", stdin=NAT_RULES)

    def remove(self):
        for name in reversed(self.made):
            with contextlib.suppress(Failure):
                sh("ip", "netns", "del", name)


@contextlib.contextmanager
def world(server_class, out):
    """The namespaces, with a relay in the public one."""
    require()
    internet = Internet()
    server = None
    try:
        internet.build()
        server = server_class(out, internet.public)
        with server.running(ips=RELAY_IPS, allow=("198.18.0.0/15",), port=PORT) as relay:
            yield internet, server, relay
    finally:
        if server:
            server.close()
        internet.remove()


ASK = """
import sys
sys.path.insert(0, sys.argv[1])
import support
server = (sys.argv[2], int(sys.argv[3]))
print(*support.until(10, "STUN", lambda: support.binding(server, ("0.0.0.0", 40000))))
"""


def mapped(internet, user, server_ip):
    """What a STUN server sees of one and the same socket of this client: [address, port]."""
    status, text = run([sys.executable, "-B", "-c", ASK, ice.HERE, server_ip, str(PORT)], 20,
                       internet.client(user))
    check(status == 0, f"{user} does not reach {server_ip}: {text.strip()[-200:]}")
    return text.split()


def check_symmetric(internet):
    """The mapping depends on the destination; else the test would prove little."""
    for number, user in enumerate(USERS, 1):
        seen = [mapped(internet, user, ip) for ip in RELAY_IPS]
        check_equal(f"{user}'s public address", {ip for ip, _port in seen}, {f"198.18.{number}.2"})
        check(seen[0][1] != seen[1][1], f"{user}'s NAT is not symmetric: {seen}")


def check_apart(internet):
    """Without the relay the two do not find each other, for all that STUN tells them."""
    flags = [["--stun", RELAY_IPS[0], "--port", str(PORT), "--impatient"]] * 2
    results, _ = ice.meet(flags, [internet.client(user) for user in USERS])
    check_equal("connected without TURN", [r["connected"] for r in results], [False, False])


def check_meet(internet, server, relay, extra):
    """1,000 datagrams each way; returns the selected pairs."""
    flags = [[*extra, *ice.turn_flags(relay, RELAY_IPS[0], PORT, user)] for user in USERS]
    before = relay.stats()
    results, counted = ice.meet(flags, [internet.client(user) for user in USERS])
    ice.check_exchange(results)
    if server.counts:
        after = relay.stats()
        got, was = after["counters"], before["counters"]
        for way in ("up", "down"):
            check_equal(f"{way}_packets of the relay", got[way + "_packets"] - was[way + "_packets"],
                        sum(c[way] for c in counted))
        check_equal("allocations left", after["allocations"], 0)
    return [r["pair"] for r in results]


def cases(server_class, out):
    """Both need the same small world, so they are one case in steps."""

    def test(_server):
        with world(server_class, out) as (internet, server, relay):
            check_symmetric(internet)
            check_apart(internet)
            pairs = check_meet(internet, server, relay, ["--relay-only"])
            check_equal("selected pairs", pairs, [["relay", "relay"]] * 2)
            if server.binds_more_channels:
                pairs = check_meet(internet, server, relay, ["--stun", RELAY_IPS[0]])
                check(all("relay" in pair for pair in pairs), f"a way around the relay: {pairs}")
            relay.check_alive()

    return [Case("aioice", "two symmetric NATs, only the relay between", test)]
