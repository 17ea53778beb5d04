"""libnice, the ICE library of GStreamer and Janus: two agents that meet through the relay."""

import ctypes
import json
import os
import sys

from support import HOST, Case, Failure, check, check_equal, missing, run, until

HERE = os.path.dirname(os.path.abspath(__file__))
DATAGRAMS = 1000
RUN_S = 60


def require():
    try:
        ctypes.CDLL("libnice.so.10")
    except OSError:
        missing("libnice", "libnice10")


def meet(relay, at, login=None):
    """What the two agents report."""
    ip, port = relay.at(*at)
    username, credential = login or relay.credentials("alice")
    status, text = run([sys.executable, "-B", os.path.join(HERE, "nice_peer.py"), "--local",
                        HOST[at[0]], "--turn", ip, "--port", str(port), "--transport", at[1],
                        "--username", username, "--credential", credential,
                        "--datagrams", str(DATAGRAMS)], RUN_S)
    try:
        return json.loads(text.splitlines()[-1])
    except (IndexError, ValueError):
        raise Failure(f"libnice ended with status {status}: {text.strip()[-200:]!r}") from None


def check_counters(relay, report):
    """libnice does not tell of its own checks, so at least the datagrams were counted."""
    until(5, "no allocation left", lambda: relay.stats()["allocations"] == 0)
    counters = relay.stats()["counters"]
    check(counters["up_packets"] >= sum(report["got"]) <= counters["down_packets"],
          f"fewer packets relayed than came: {counters}")
    check(counters["allocations_created"] >= 2, f"fewer allocations than agents: {counters}")
    wanted = dict.fromkeys(("drop_malformed", "drop_send", "drop_no_channel", "allocations_expired",
                            "unauthenticated", "forbidden"), 0)
    wanted["allocations_released"] = counters["allocations_created"]
    check_equal("the relay's counters", {key: counters[key] for key in wanted}, wanted)


def relay_only(version, transport):
    def test(server):
        require()
        with server.running() as relay:
            report = meet(relay, (version, transport))
            check(report.get("connected"), f"ICE found no way: {report}")
            check_equal("datagrams that came", report["got"], [DATAGRAMS, DATAGRAMS])
            check_equal("datagrams that nobody sent", report["strange"], [0, 0])
            check_equal("selected pairs", report["pairs"], [["relay", "relay"]] * 2)
            check("late" not in report, "libnice did not end its allocations")
            if server.counts:
                check_counters(relay, report)
            relay.check_alive()
    return test


def wrong_password(server):
    require()
    with server.running() as relay:
        report = meet(relay, (4, "udp"), (relay.credentials("alice")[0], "wrong"))
        check_equal("candidates", report["candidates"], [0, 0])
        if server.counts:
            counters = relay.stats()["counters"]
            check(counters["unauthenticated"] >= 2, "the relay counted no refusal")
            check_equal("allocations created", counters["allocations_created"], 0)
        relay.check_alive()


CASES = [
    *(Case("libnice", what, relay_only(version, transport), transport)
      for transport in ("udp", "tcp")
      for what, version in (("relay to relay, IPv4", 4), ("relay to relay, IPv6 clients", 6))),
    Case("libnice", "a wrong password is refused", wrong_password),
]
