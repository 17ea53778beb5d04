"""pion's TURN client, as Debian packages it, in a small program of ours: test/interop/pion."""

import contextlib
import functools
import json
import os
import shutil
import threading

from support import HOST, Case, Failure, check, check_equal, missing, run, until

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARIES = "/usr/share/gocode"
PACKAGE = "cromulent/interop/pion"
BUILD_S, RUN_S = 300, 60
DATAGRAMS = 1000
_building = threading.Lock()


def program(out="_build/interop"):
    """The built program. Go gets it all from Debian's packages, and asks no network."""
    with _building:
        return _program(os.path.abspath(out))


def prepare():
    """Builds while other cases run. What goes wrong is for the cases to tell."""
    def build():
        with contextlib.suppress(Exception):
            program()
    threading.Thread(target=build, daemon=True).start()


@functools.lru_cache(None)
def _program(out):
    if not shutil.which("go"):
        missing("go", "golang-go")
    for library in ("turn", "dtls"):
        if not os.path.isdir(f"{LIBRARIES}/src/github.com/pion/{library}/v2"):
            missing(f"pion's {library}", f"golang-github-pion-{library}.v2-dev")
    path, binary = os.path.join(out, "go"), os.path.join(out, "pion")
    source = os.path.join(path, "src", PACKAGE)
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(os.path.join(HERE, "pion"), source)
    environment = [f"GOPATH={path}:{LIBRARIES}", f"GOCACHE={path}/cache", "GO111MODULE=off",
                   "CGO_ENABLED=0", "GOFLAGS=", "GOTOOLCHAIN=local"]
    status, text = run(["env", "-C", source, *environment, "go", "build", "-o", binary, PACKAGE],
                       BUILD_S)
    check(status == 0, f"go does not build the client: {text.strip()[-400:]}")
    return binary


def client(relay, at, flags=(), login=None):
    """What the client reports, {"error": text} included."""
    (ip, port), transport = relay.at(*at), at[1]
    username, password = login or relay.credentials("alice")
    server = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    status, text = run([program(), "-transport", transport, "-server", server,
                        "-username", username, "-password", password,
                        "-datagrams", str(DATAGRAMS), *flags], RUN_S)
    try:
        return json.loads(text.splitlines()[-1])
    except (IndexError, ValueError):
        raise Failure(f"pion ended with status {status}: {text.strip()[-200:]!r}") from None


def check_counters(relay, report, allocations):
    wanted = {key: report[key] for key in ("up_packets", "down_packets", "up_bytes", "down_bytes")}
    wanted.update(allocations_created=allocations, allocations_released=allocations, errors=0,
                  unauthenticated=0, stale_nonces=0, drop_malformed=0, drop_send=0)
    until(5, "no allocation left", lambda: relay.stats()["allocations"] == 0)
    counters = relay.stats()["counters"]
    check_equal("the relay's counters", {key: counters[key] for key in wanted}, wanted)


def exchange(at, family, relayed_peer):
    """The whole life of an allocation, or of two that are each other's peer."""
    flags = ["-ipv6"] * (family == 6) + ["-relayed-peer"] * relayed_peer

    def test(server):
        with server.running() as relay:
            report = client(relay, at, flags)
            check("error" not in report, report.get("error"))
            check_equal("datagrams that came", report["got"], [DATAGRAMS, DATAGRAMS])
            check_equal("lifetime after the refresh", report["lifetime"], 900)
            check(report["up_indications"] and report["up_channels"],
                  f"not by indications and channels both: {report}")
            for address in (*report["relayed"], report["mapped"]):
                version = at[0] if address == report["mapped"] else family
                check(HOST[version] in address, f"{address} is not of IPv{version}")
            if server.counts:
                check_counters(relay, report, 2 if relayed_peer else 1)
            relay.check_alive()
    return test


def wrong_password(at):
    def test(server):
        with server.running() as relay:
            report = client(relay, at, login=(relay.credentials("alice")[0], "wrong"))
            check("401" in report.get("error", ""), f"pion was not told 401: {report}")
            if server.counts:
                counters = relay.stats()["counters"]
                check_equal("refusals", counters["unauthenticated"], 1)
                check_equal("allocations created", counters["allocations_created"], 0)
            relay.check_alive()
    return test


def private_peer(server):
    """Private peers are refused unless they were allowed."""
    with server.running(allow=()) as relay:
        report = client(relay, (4, "udp"), ["-peer-ip", "127.0.0.2"])
        check("403" in report.get("error", ""), f"pion was not told 403: {report}")
        if server.counts:
            check_equal("forbidden", relay.stats()["counters"]["forbidden"], 1)


# What is done, with clients of an IP version, relayed addresses of another, and a peer that is one.
EXCHANGES = (
    ("whole life of an allocation, IPv4", 4, 4, False),
    ("whole life of an allocation, IPv6 relay", 4, 6, False),
    ("whole life of an allocation, IPv6 client", 6, 4, False),
    ("relay to relay, IPv4", 4, 4, True),
    ("relay to relay, IPv6 clients and relay", 6, 6, True),
)

CASES = [
    *(Case("pion", what, exchange((client_version, transport), family, relayed_peer), transport)
      for transport in ("udp", "tcp", "tls", "dtls")
      for what, client_version, family, relayed_peer in EXCHANGES),
    *(Case("pion", "a wrong password is refused", wrong_password((4, transport)), transport)
      for transport in ("udp", "tcp", "tls", "dtls")),
    Case("pion", "private peers are refused by default", private_peer),
]
