"""coturn's clients: turnutils_uclient and turnutils_stunclient, with turnutils_peer as echo."""

import contextlib
import os
import re
import signal
import subprocess
from collections import namedtuple

from servers import SECRET, SECURE, rest_credentials
from support import HOST, Case, check, check_equal, echoes, end, free_ports, run, until

TIMEOUT_S = 60

# `flags` as of turnutils_uclient -h; `client` and `relay` are IP versions; `messages` per client;
# `transport` from the client to the server; `needs` as Case has it.
Traffic = namedtuple("Traffic", "name flags client relay clients messages size transport needs",
                     defaults=((), 4, 4, 1, 100, 100, "udp", ()))

TRANSPORT_FLAGS = {"udp": (), "tcp": ("-t",), "tls": ("-t", "-S"), "dtls": ("-S",)}

# They end with the program, and their allocations with them; of DTLS' sessions those that relay.
CONNECTIONS = {"tcp", "tls"}

# Its modes, of `turnutils_uclient -h`, and what each asks of the server: seen on the wire.
MODES = {
    "-t": "TURN over TCP",
    "-S": "TLS over TCP, DTLS over UDP",
    "-T": "REQUESTED-TRANSPORT 6, Connect and ConnectionBind (RFC 6062)",
    "-P": "the same, with peers that connect: ConnectionAttempt",
    "-y": "its clients are each other's peers, by their relayed addresses",
    "-x": "REQUESTED-ADDRESS-FAMILY IPv6",
    "-X": "REQUESTED-ADDRESS-FAMILY IPv4",
    "-Z": "IPv6 beside IPv4 by 0x8032, a draft's ADDITIONAL-ADDRESS-FAMILY; Refresh of both or one",
    "-M": "an empty MOBILITY-TICKET in Allocate; a new socket, before or after the old one is closed; "
          "Refresh from there with the ticket, twice, first with a stale nonce (438)",
    "-J": "ACCESS-TOKEN (RFC 7635)",
    "-g": "DONT-FRAGMENT in Allocate and Send",
    "-G": "permissions and channels for peers at random, among them some of the other family (443)",
    "-R": "random bytes in a tenth of its messages",
    "-N": "channel numbers at random: two for a peer (400); with -T random CONNECTION-IDs",
}

TRAFFIC = [
    Traffic("channels"),
    Traffic("Send indications", ("-s",)),
    Traffic("channels, no RTCP", ("-c",)),
    Traffic("channels, padded, 171 bytes", ("-D",), size=171),
    Traffic("channels, 1400 bytes", size=1400),
    Traffic("channels, IPv6 relay", ("-x",), relay=6),
    Traffic("Send indications, IPv6 relay", ("-x", "-s"), relay=6),
    Traffic("channels, IPv6 client", client=6),
    Traffic("channels, IPv4 relay asked for", ("-X",), client=6),
    Traffic("channels, IPv6 client and relay", ("-x",), client=6, relay=6),
    Traffic("channels, 10 clients", ("-m", "10"), clients=10),
    Traffic("channels, 40 clients, fast", ("-m", "40", "-z", "2"), clients=40, messages=200),
    Traffic("Send indications, 10 clients", ("-m", "10", "-s"), clients=10),
    Traffic("DONT-FRAGMENT", ("-g",)),
    Traffic("DONT-FRAGMENT, Send indications", ("-g", "-s")),
    Traffic("client to client, channels", ("-y",)),
    Traffic("client to client, Send indications", ("-y", "-s")),
    Traffic("client to client, no RTCP", ("-y", "-c")),
    Traffic("client to client, IPv6 relay", ("-y", "-x"), relay=6),
    Traffic("client to client, IPv6 client and relay", ("-y", "-x"), client=6, relay=6),
    Traffic("client to client, 20 clients", ("-y", "-m", "20"), clients=20),
    Traffic("permissions and channels of no use", ("-G",)),
    Traffic("dual allocation, Send indications", ("-Z", "-s"), needs=("dual",)),
    Traffic("dual allocation, client to client", ("-Z", "-y"), needs=("dual",)),
    Traffic("mobility, 20 clients", ("-M", "-m", "20"), clients=20, needs=("mobility",)),
    Traffic("mobility, Send indications", ("-M", "-s"), needs=("mobility",)),
    Traffic("mobility, IPv6 relay", ("-M", "-x"), relay=6, needs=("mobility",)),
] + [row._replace(transport=transport) for transport in ("tcp", "tls", "dtls") for row in (
    Traffic("channels"),
    Traffic("Send indications", ("-s",)),
    Traffic("channels, 171 bytes", size=171),
    Traffic("channels, 1400 bytes", size=1400),
    Traffic("channels, IPv6 client and relay", ("-x",), client=6, relay=6),
    Traffic("channels, 20 clients, fast", ("-m", "20", "-z", "2"), clients=20, messages=200),
    Traffic("channels, IPv6 relay", ("-x",), relay=6),
    Traffic("channels, IPv4 relay asked for", ("-X",), client=6),
    Traffic("client to client, channels", ("-y",)),
    Traffic("client to client, Send indications", ("-y", "-s")),
    Traffic("DONT-FRAGMENT", ("-g",)),
    Traffic("permissions and channels of no use", ("-G",)),
)] + [row._replace(transport=transport) for transport in TRANSPORT_FLAGS for row in (
    Traffic("dual allocation", ("-Z",), needs=("dual",)),
    Traffic("dual allocation, IPv6 used", ("-Z", "-x"), relay=6, needs=("dual",)),
    Traffic("mobility", ("-M", "-c"), needs=("mobility",)),
)] + [
    Traffic("mobility, 20 clients", ("-M", "-m", "20"), clients=20, transport="tcp",
            needs=("mobility",)),
    Traffic("mobility, client to client", ("-M", "-y"), transport="tcp", needs=("mobility",)),
]


# ---- programs ----


@contextlib.contextmanager
def echo_peer(version):
    """The port of a turnutils_peer, which answers on the next port too."""
    port = free_ports(2)
    with open(os.devnull, "wb") as null:
        process = subprocess.Popen(["turnutils_peer", "-p", str(port), "-L", HOST[version]],
                                   stdin=subprocess.DEVNULL, stdout=null, stderr=null,
                                   start_new_session=True)
        try:
            until(10, "turnutils_peer",
                  lambda: all(echoes((HOST[version], p)) for p in (port, port + 1)))
            yield port
        finally:
            end(process)


def uclient(relay, flags, at=(4, "udp"), peer=None, login=("-W", SECRET, "-u", "tester"),
            timeout=TIMEOUT_S):
    """(exit status, output); `at` is how to reach the relay, `peer` an echo peer's IP version and
    port."""
    ip, port = relay.at(*at)
    to = ["-e", HOST[peer[0]], "-r", str(peer[1])] if peer else []
    argv = ["turnutils_uclient", "-p", str(port), *TRANSPORT_FLAGS[at[1]], *login, *flags, *to, ip]
    return run(argv, timeout)


def figure(pattern, text, what):
    """The last number that an expression finds."""
    found = re.findall(pattern, text)
    check(found, f"uclient does not tell {what}; it ends with {text[-300:]!r}")
    return int(found[-1])


# ---- what must hold ----

NO_RTCP = {"-c", "-Z"}  # the second implies the first


def expected_clients(case):
    """(clients, probes): how many allocations uclient uses, and how many more it leaves behind.

    It works in sets: a client, with another for RTCP, with both again for client to client; and
    makes one allocation per set only to see whether it is sent elsewhere.
    """
    of_set = (1 if NO_RTCP & set(case.flags) else 2) * (2 if "-y" in case.flags else 1)
    sets = -(-case.clients // of_set)
    return sets * of_set, sets


def check_output(status, text, total):
    check(status == 0, f"uclient ended with status {status}: {text.strip()[-200:]!r}")
    check_equal("messages sent", figure(r"tot_send_msgs=(\d+)", text, "what it sent"), total)
    check_equal("messages received", figure(r"tot_recv_msgs=(\d+)", text, "what came"), total)
    check_equal("lost", figure(r"Total lost packets (\d+)", text, "what was lost"), 0)
    check_equal("dropped", figure(r"total send dropped (\d+)", text, "what it dropped"), 0)


def reused_ports(text):
    """How often the system gave uclient the port of an allocation that it had left behind.

    Such a client is told 437, waits, and tries from another port with the nonce of the first, which
    is stale there (RFC 8656 §7.2; nonces are bound to the client's address).
    """
    return text.count("trying allocate again")


def check_counters(relay, case, text, total, clients, probes):
    """The relay counted what the client did, and nothing else."""
    again = reused_ports(text)
    counters = relay.stats()["counters"]
    released, moved = counters["allocations_released"], counters["allocations_moved"]
    # Each client moves once, and sends two Refresh requests with the nonce that it had elsewhere.
    moves = clients + probes if "-M" in case.flags else 0
    check(moved <= moves and moved >= min(moves, clients), f"moves: {moved} of {moves}")
    wanted = {
        "up_packets": total, "down_packets": total,
        "up_bytes": total * case.size, "down_bytes": total * case.size,
        "allocations_created": clients + probes,
        # Of a dual allocation uclient may let go one address only, as chance has it.
        "allocations_released": min(released, clients) if "-Z" in case.flags else clients,
        "allocations_expired": 0, "stale_nonces": again + 2 * moves, "unauthenticated": 0,
        "drop_malformed": 0, "drop_no_allocation": 0, "drop_no_permission": 0,
        "drop_no_channel": 0, "drop_send": 0, "drop_receive": 0, "drop_rate_limited": 0,
    }
    if "-G" not in case.flags:
        wanted.update(errors=again, forbidden=0)
    check_equal("the relay's counters", {k: counters.get(k) for k in wanted}, wanted)
    left = probes
    if case.transport == "udp":
        left += clients - released
    elif case.transport in CONNECTIONS and not moves:  # who has a ticket may come back
        left = 0
    elif case.transport == "dtls":  # a client whom the system gave the port of a probe takes its place
        left -= max(0, counters["allocations_closed"] - (clients - released))
    until(5, f"{left} allocations left, which uclient never releases",
          lambda: relay.stats()["allocations"] == left)
    check_equal("allocations ended by hand", relay.kill_all(), left)
    check_equal("allocations in the end", relay.stats()["allocations"], 0)


def fell_over(case, status, text):
    """Whether uclient was brought down by its own doing.

    To move it ends its TLS session, in one of four cases by SSL_free(), after which it ends and frees
    the same once more: it crashes, or closes the session that has got that memory, its new one.
    """
    secure = case.transport in SECURE and "-M" in case.flags
    return secure and (status in (-signal.SIGSEGV, -signal.SIGABRT) or "send: Success" in text)


def met_itself(relay, status, text):
    """Whether uclient drew the same channel number for two peers.

    It draws one of 16,384 for each of two peers of an allocation. Who is told 400 then is right to
    be, and nothing else is wrong.
    """
    if status == 0 or "error 400" not in text:
        return False
    stats = relay.stats()
    return not stats or stats["counters"]["errors"] == 1


def traffic_once(case, server):
    """False when uclient failed by its own doing."""
    clients, probes = expected_clients(case)
    total = clients * case.messages
    flags = ["-n", str(case.messages), "-l", str(case.size), *case.flags]
    if "-z" not in flags:
        flags += ["-z", "5"]
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(server.running())
        peer = None
        if "-y" not in case.flags:
            peer = case.relay, stack.enter_context(echo_peer(case.relay))
        status, text = uclient(relay, flags, (case.client, case.transport), peer)
        relay.check_alive()
        if fell_over(case, status, text) or met_itself(relay, status, text):
            return False
        check_output(status, text, total)
        if server.counts:
            check_counters(relay, case, text, total, clients, probes)
        return True


def traffic(case):
    def test(server):
        # With two TLS sessions to move it stays on its feet in nine of sixteen cases. To draw one
        # number twice, twice in a row, is no chance any more.
        tries = 20 if "-M" in case.flags and case.transport in SECURE else 2
        check(any(traffic_once(case, server) for _ in range(tries)), "uclient failed each time")
    return test


# ---- credentials ----


def check_refused(relay, login, counter):
    status, text = uclient(relay, ["-y", "-c", "-n", "1"], login=login)
    check(status not in (0, None), f"uclient got in: {text[-200:]!r}")
    stats = relay.stats()
    if stats:
        check(stats["counters"][counter] > 0, f"the relay counted no {counter}")
        check_equal("allocations created", stats["counters"]["allocations_created"], 0)
    relay.check_alive()


def refused(login):
    def test(server):
        with server.running() as relay:
            check_refused(relay, login(), "unauthenticated")
    return test


def static_login(make):
    """-u and -w with the username and password that `make` gives."""
    def login(*args):
        username, password = make(*args)
        return ["-u", username, "-w", password]
    return login


def own_credentials(server):
    """Username and password from the Elixir side, as a browser would get them."""
    with server.running() as relay:
        login = static_login(relay.credentials)("alice")
        status, text = uclient(relay, ["-y", "-c", "-n", "20", "-z", "5"], login=login)
        check_output(status, text, 40)


def two_users(server):
    """A second user on the same relay, while the first one's allocations are still there."""
    with server.running() as relay:
        for user in ("alice", "bob"):
            login = static_login(relay.credentials)(user)
            status, text = uclient(relay, ["-y", "-n", "5", "-z", "5"], login=login)
            check_output(status, text, 20)


def loopback_peers(server):
    """Private peers are refused unless they were allowed."""
    with server.running(allow=()) as relay, echo_peer(4) as port:
        status, text = uclient(relay, ["-n", "1"], peer=(4, port))
        check(status not in (0, None), f"uclient reached it: {text[-200:]!r}")
        check("error 403" in text, f"uclient was not told 403: {text[-200:]!r}")
        stats = relay.stats()
        if stats:
            check(stats["counters"]["forbidden"] > 0, "the relay counted nothing forbidden")
            check_equal("packets relayed", stats["counters"]["up_packets"], 0)


def option(flags, total, transport="udp", version=4):
    """An option of uclient's that changes what it asks for, between clients of its own."""
    def test(server):
        with server.running() as relay:
            argv = ["-y", "-n", "10", "-z", "5", *flags]
            status, text = uclient(relay, argv, (version, transport))
            check_output(status, text, total)
            relay.check_alive()
    return test


# What uclient seals its tokens with (-J); its own list has A256GCM, A128GCM, A256GCM.
TOKEN_KEYS = {"north": b"01234567890123456789012345678901", "union": b"1234567890123456",
              "oldempire": b"12345678901234567890123456789012"}


def tokens(flags, transport):
    """Third-party authorization (RFC 7635): uclient has no secret here, and makes its own tokens.

    It takes another key for each Allocate and Refresh, by chance: all are met with 20 clients.
    """
    def test(server):
        with server.running(token_keys=TOKEN_KEYS) as relay:
            flags_all = ["-y", "-J", "-m", "20", "-n", "20", "-z", "5", *flags]
            status, text = uclient(relay, flags_all, (4, transport), login=())
            check_output(status, text, 400)
            counters = relay.stats()["counters"]
            check_equal("unauthenticated", counters["unauthenticated"], 0)
            check_equal("packets up", counters["up_packets"], 400)
            check_equal("packets down", counters["down_packets"], 400)
            check(counters["allocations_created"] >= 20, "fewer allocations than clients")
            named = {allocation["username"] for allocation in relay.list()}
            check(named <= set(TOKEN_KEYS), f"allocations of {named}")
            relay.check_alive()
    return test


def foreign_tokens(server):
    """The ids are uclient's, the keys are not."""
    with server.running(token_keys={kid: b"x" * 32 for kid in TOKEN_KEYS}) as relay:
        status, text = uclient(relay, ["-y", "-J", "-n", "1"], login=())
        check(status not in (0, None), f"uclient got in: {text[-200:]!r}")
        counters = relay.stats()["counters"]
        check(counters["unauthenticated"] > 0, "the relay counted nobody unauthenticated")
        check_equal("allocations created", counters["allocations_created"], 0)
        relay.check_alive()


def modes(transport, flags):
    """Those of its flags that are modes, with what the transport takes."""
    return [flag for flag in (*TRANSPORT_FLAGS[transport], *flags) if flag in MODES]


def two_numbers(server):
    """With -N it asks for a second channel number for the same peer, and gives up."""
    with server.running() as relay, echo_peer(4) as port:
        status, text = uclient(relay, ["-N", "-c", "-n", "1"], peer=(4, port))
        check(status not in (0, None), f"uclient went on: {text[-200:]!r}")
        check("error 400" in text, f"uclient was not told 400: {text[-200:]!r}")
        relay.check_alive()


def harmless(transport, flags, times):
    """Clients that do harm, by flags of uclient's; the relay stays, and serves the next one."""
    def test(server):
        with server.running() as relay:
            for _ in range(times):
                uclient(relay, flags, (4, transport), timeout=8)
            relay.check_alive()
            status, text = uclient(relay, ["-y", "-c", "-n", "20", "-z", "5"], (4, transport))
            check_output(status, text, 40)
    return test


DAMAGED = ["-R", "-y", "-n", "50", "-z", "2"]  # a tenth of the messages
HIT_AND_RUN = ["-O", "-y", "-m", "100"]  # allocations by clients that go at once


# ---- STUN ----


def stun(argv, version):
    """A program that asks for its address once or more."""
    def test(server):
        with server.running() as relay:
            ip, port = relay.at(version)
            status, text = run([*argv, "-p", str(port), ip], 10)
            check_equal("exit status", status, 0)
            mapped = re.search(r"UDP reflexive addr: (.*):\d+", text)
            check(mapped, f"no mapped address: {text!r}")
            check_equal("mapped address", mapped[1], ip)
            stats = relay.stats()
            if stats:
                check(stats["counters"]["bindings"] > 0, "the relay counted no binding")
                check_equal("errors", stats["counters"]["errors"], 0)
    return test


def discovery(server):
    """RFC 5780 with all four addresses, and with padding; there is no NAT here."""
    with server.running(alternate="127.0.0.2") as relay:
        ip, port = relay.at(4)
        status, text = run(["turnutils_natdiscovery", "-m", "-f", "-P", "-p", str(port),
                            "-L", ip, ip], 30)
        check_equal("exit status", status, 0)
        check("Other addr: : 127.0.0.2:" in text, f"no other address: {text[-300:]!r}")
        for behaviour in ("Mapping", "Filtering"):
            check(f"NAT with Endpoint Independent {behaviour}!" in text,
                  f"{behaviour} is not told: {text[-300:]!r}")


CASES = [
    *(Case("uclient", row.name, traffic(row), row.transport, row.needs,
           modes(row.transport, row.flags)) for row in TRAFFIC),
    *(Case("uclient", what, test) for what, test in (
        ("credentials from ice_servers/2", own_credentials),
        ("two users", two_users),
        ("a wrong secret is refused", refused(lambda: ["-W", "wrong", "-u", "tester"])),
        ("expired credentials are refused",
         refused(static_login(lambda: rest_credentials("tester", lifetime=-60)))),
        ("somebody else's password is refused",
         refused(static_login(lambda: (rest_credentials("alice")[0], rest_credentials("bob")[1])))),
        ("private peers are refused by default", loopback_peers),
    )),
    *(Case("uclient", what, test, transport, (), modes(transport, flags))
      for transport in TRANSPORT_FLAGS for what, test, flags in (
        ("damaged messages do no harm", harmless(transport, DAMAGED, 3), DAMAGED),
        ("a flood of short visits does no harm", harmless(transport, HIT_AND_RUN, 1), HIT_AND_RUN),
        ("negative tests of its own", option(["-N", "-c"], 20, transport), ["-N", "-y"]),
    )),
    Case("uclient", "two channel numbers for a peer are refused", two_numbers, flags=["-N"]),
    # Not -P: of two passive clients neither connects, also with coturn.
    *(Case("uclient", f"TCP allocations{what}", option(["-T", *flags], total, transport, version),
           transport, ["tcp-relay"], modes(transport, ["-T", "-y", *flags]))
      for transport in ("tcp", "tls") for what, flags, total, version in (
          ("", (), 20, 4), (", IPv6 client and relay", ("-x",), 20, 6),
          (", 10 clients", ("-m", "10"), 100, 4))),
    *(Case("uclient", "access tokens", tokens([], transport), transport, ["tokens"],
           modes(transport, ["-J", "-y"])) for transport in TRANSPORT_FLAGS),
    Case("uclient", "access tokens, Send indications", tokens(["-s"], "udp"), "udp", ["tokens"],
         ["-J", "-y"]),
    Case("uclient", "access tokens under other keys are refused", foreign_tokens, "udp", ["tokens"],
         ["-J", "-y"]),
    Case("stunclient", "Binding, IPv4", stun(["turnutils_stunclient"], 4)),
    Case("stunclient", "Binding, IPv6", stun(["turnutils_stunclient"], 6)),
    Case("natdiscovery", "Binding, IPv4", stun(["turnutils_natdiscovery", "-m"], 4)),
    Case("natdiscovery", "Binding, IPv6", stun(["turnutils_natdiscovery", "-m"], 6)),
    Case("natdiscovery", "mapping, filtering, padding", discovery, "udp", ["discovery"]),
    Case("natdiscovery", "hairpinning", stun(["turnutils_natdiscovery", "-H"], 4)),
]
