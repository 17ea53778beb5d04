"""One end of an ICE connection, with Debian's aioice: started by ice.py, told what to do by lines.

It writes one line of JSON with its candidates, reads one with the other end's, connects, exchanges
datagrams, writes a line with what happened, waits for a line, and ends. It counts on the way what
it sends to the TURN server for peers, and what comes back from there.
"""

import argparse
import asyncio
import json
import os
import struct
import sys

import aioice
from aioice import stun, turn
from aioice.ice import TransportPolicy

WINDOW = 16  # datagrams under way, twice at most: less than any socket buffer holds
EXCHANGE_S = 30


def relayed(data):
    """How many bytes a datagram from or to the TURN server carries for a peer; None if not any."""
    if turn.is_channel_data(data):
        return struct.unpack_from("!H", data, 2)[0]
    at = 20
    while data[:2] == b"\x00\x17" and at + 4 <= len(data):  # a Data indication
        kind, length = struct.unpack_from("!HH", data, at)
        if kind == 0x0013:
            return length
        at += 4 + length + -length % 4
    return None


class Counted:
    """Counts relayed datagrams of aioice's TURN clients."""

    def __init__(self):
        self.up = self.down = self.up_bytes = self.down_bytes = 0
        for client in (turn.TurnClientUdpProtocol, turn.TurnClientTcpProtocol):
            self.count_sent(client)
            self.count_received(client)

    def count_sent(self, client):
        send = client._send

        def counted_send(protocol, data):
            size = relayed(data)
            if size is not None:
                self.up += 1
                self.up_bytes += size
            send(protocol, data)

        client._send = counted_send

    def count_received(self, client):
        received = client.datagram_received

        def counted_received(protocol, data, addr):
            size = relayed(data)
            if size is not None:
                self.down += 1
                self.down_bytes += size
            received(protocol, data, addr)

        client.datagram_received = counted_received


def say(value):
    print(json.dumps(value), flush=True)


async def hear():
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return json.loads(line)


def connection(args):
    policy = TransportPolicy.RELAY if args.relay_only else TransportPolicy.ALL
    return aioice.Connection(
        ice_controlling=args.controlling, use_ipv6=False, transport_policy=policy,
        stun_server=(args.stun, args.port) if args.stun else None,
        turn_server=(args.turn, args.port) if args.turn else None,
        turn_username=args.username, turn_password=args.credential,
        turn_transport="udp" if args.transport == "udp" else "tcp",
        turn_ssl=args.transport == "tls")


async def signal(connection):
    """Candidates and ICE credentials, there and back."""
    await connection.gather_candidates()
    say({"username": connection.local_username, "password": connection.local_password,
         "candidates": [candidate.to_sdp() for candidate in connection.local_candidates]})
    other = await hear()
    connection.remote_username = other["username"]
    connection.remote_password = other["password"]
    for text in other["candidates"]:
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(text))
    await connection.add_remote_candidate(None)


async def exchange(connection, count, got):
    """Numbered datagrams both ways, a window of them ahead of the other end, into the set `got`."""
    for number in range(count):
        while len(got) < number - WINDOW:
            got.add(int((await connection.recv())[:8]))
        await connection.send(b"%08d" % number + bytes(number % 900))
    while len(got) < count:
        got.add(int((await connection.recv())[:8]))


async def main(args):
    counted = Counted()
    ice = connection(args)
    await signal(ice)
    result, got = {"connected": True}, set()
    try:
        await ice.connect()
        pair = ice._nominated[1]
        result["pair"] = [pair.local_candidate.type, pair.remote_candidate.type]
        await asyncio.wait_for(exchange(ice, args.datagrams, got), EXCHANGE_S)
    except ConnectionError:
        result["connected"] = False
    except asyncio.TimeoutError:
        pass
    result["got"] = len(got.intersection(range(args.datagrams)))
    result["missing"] = sorted(set(range(args.datagrams)) - got)[:5]
    say(result)
    await hear()
    await ice.close()
    say({"up": counted.up, "down": counted.down, "up_bytes": counted.up_bytes,
         "down_bytes": counted.down_bytes})


def parse():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--controlling", action="store_true")
    p.add_argument("--relay-only", action="store_true")
    p.add_argument("--stun")
    p.add_argument("--turn")
    p.add_argument("--port", type=int)
    p.add_argument("--username")
    p.add_argument("--credential")
    p.add_argument("--transport", choices=("udp", "tcp", "tls"), default="udp")
    p.add_argument("--trust", help="the file of a certificate that TLS may meet")
    p.add_argument("--datagrams", type=int, default=1000)
    p.add_argument("--impatient", action="store_true", help="give checks up after 3.5 s, not 32")
    return p.parse_args()


if __name__ == "__main__":
    arguments = parse()
    if arguments.impatient:
        stun.RETRY_MAX = 2
    if arguments.trust:
        os.environ["SSL_CERT_FILE"] = arguments.trust
    asyncio.run(main(arguments))
