"""Debian's aioice as ICE and TURN client: two ends that meet through the relay only."""

import contextlib
import json
import os
import subprocess
import sys

from support import Case, Failure, check, check_equal, end, readline, under, until

HERE = os.path.dirname(os.path.abspath(__file__))
DATAGRAMS = 1000
STEP_S = 60


class Peer:
    """A process of ice_peer.py."""

    def __init__(self, flags, namespace=None):
        argv = [sys.executable, "-B", os.path.join(HERE, "ice_peer.py"), *flags]
        self.process = subprocess.Popen(under(namespace, argv), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True)
        self.buffered = bytearray()

    def hear(self):
        try:
            return json.loads(readline(self.process, self.buffered, STEP_S, "aioice"))
        except Failure as failure:
            end(self.process)
            words = self.process.stderr.read().decode("utf-8", "replace").strip()
            raise Failure(f"{failure}: {words.splitlines()[-1] if words else 'no words'}") from None

    def say(self, value):
        self.process.stdin.write(json.dumps(value).encode() + b"\n")
        self.process.stdin.flush()

    def close(self):
        end(self.process)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def meet(flags, namespaces=(None, None)):
    """Two peers with these command lines: what each says at the end, and what each counted."""
    peers = [Peer([*own, "--datagrams", str(DATAGRAMS)], namespace)
             for own, namespace in zip((["--controlling", *flags[0]], flags[1]), namespaces)]
    try:
        offers = [peer.hear() for peer in peers]
        for peer, offer in zip(peers, reversed(offers)):
            peer.say(offer)
        results = [peer.hear() for peer in peers]
        for peer in peers:
            peer.say("close")
        return results, [peer.hear() for peer in peers]
    finally:
        for peer in peers:
            peer.close()


def check_exchange(results):
    for result in results:
        check(result["connected"], "ICE found no way")
        check(result["got"] == DATAGRAMS,
              f"{result['got']} of {DATAGRAMS} datagrams arrived, not {result['missing']}")


def check_counters(relay, counted):
    """Every relayed datagram of both ends, ICE's own checks included, was counted once."""
    wanted = {f"{way}_{unit}": sum(c[way + suffix] for c in counted)
              for way in ("up", "down") for unit, suffix in (("packets", ""), ("bytes", "_bytes"))}
    wanted.update(allocations_created=2, allocations_released=2, drop_send=0, drop_malformed=0)

    def counters():
        got = relay.stats()["counters"]
        return {k: got[k] for k in wanted}

    check_equal("the relay's counters", counters(), wanted)
    until(5, "no allocation left", lambda: relay.stats()["allocations"] == 0)


def turn_flags(relay, ip, port, user, transport="udp"):
    username, credential = relay.credentials(user)
    flags = ["--turn", ip, "--port", str(port), "--username", username, "--credential", credential,
             "--transport", transport]
    return flags + (["--trust", relay.host.certificate] if transport == "tls" else [])


def relay_only(version, transport="udp"):
    def test(server):
        with server.running() as relay:
            flags = [["--relay-only", *turn_flags(relay, *relay.at(version, transport), user,
                                                  transport)]
                     for user in ("alice", "bob")]
            results, counted = meet(flags)
            check_exchange(results)
            check_equal("selected pairs", [r["pair"] for r in results], [["relay", "relay"]] * 2)
            if server.counts:
                check_counters(relay, counted)
            relay.check_alive()
    return test


def wrong_password(server):
    with server.running() as relay:
        ip, port = relay.at()
        username, _ = relay.credentials("alice")
        peer = Peer(["--relay-only", "--turn", ip, "--port", str(port), "--username", username,
                     "--credential", "wrong"])
        try:
            # Up to 0.9 aioice says 401 and ends; newer ones go on without a relayed candidate.
            check_equal("candidates", peer.hear()["candidates"], [])
        except Failure as failure:
            check("401" in str(failure), str(failure))
        finally:
            peer.close()
        if server.counts:
            counters = relay.stats()["counters"]
            check(counters["unauthenticated"] > 0, "the relay counted no refusal")
            check_equal("allocations created", counters["allocations_created"], 0)


CASES = [
    *(Case("aioice", what, relay_only(version, transport), transport)
      for transport in ("udp", "tcp", "tls")
      for what, version in (("relay to relay, IPv4", 4), ("relay to relay, IPv6 clients", 6))),
    Case("aioice", "a wrong password is refused", wrong_password),
]
