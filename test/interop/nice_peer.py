"""Two agents of libnice that meet through a TURN server only: started by nice.py.

libnice's public C API, by ctypes: libnice10 is 150 kB, libnice-dev with all that it needs 35 MB.
Writes one line of JSON: the selected pairs, and how many datagrams each end got.
"""

import argparse
import ctypes as c
import json
import os

GLIB, GOBJECT, NICE = (c.CDLL(name) for name in
                       ("libglib-2.0.so.0", "libgobject-2.0.so.0", "libnice.so.10"))

RFC5245, UDP_RELAY, TCP_RELAY, FULL = 0, 0, 1, 1  # libnice's agent.h
READY, FAILED = 4, 5  # NiceComponentState
KINDS = ("host", "srflx", "prflx", "relay")  # NiceCandidateType
STREAM_STATE = c.CFUNCTYPE(None, c.c_void_p, c.c_uint, c.c_uint, c.c_uint, c.c_void_p)
GATHERED = c.CFUNCTYPE(None, c.c_void_p, c.c_uint, c.c_void_p)
RECEIVED = c.CFUNCTYPE(None, c.c_void_p, c.c_uint, c.c_uint, c.c_uint, c.POINTER(c.c_char),
                       c.c_void_p)
CLOSED = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_void_p)
TIMER = c.CFUNCTYPE(c.c_int, c.c_void_p)
WINDOW = 16  # datagrams under way: far less than any socket buffer holds
PATIENCE_MS = 40_000


class Candidate(c.Structure):
    """The beginning of NiceCandidate."""

    _fields_ = [("type", c.c_int), ("transport", c.c_int)]


def declare(library, name, result, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


POINTER, INT, TEXT = c.c_void_p, c.c_uint, c.c_char_p
loop_new = declare(GLIB, "g_main_loop_new", POINTER, POINTER, c.c_int)
loop_run = declare(GLIB, "g_main_loop_run", None, POINTER)
loop_quit = declare(GLIB, "g_main_loop_quit", None, POINTER)
timeout_add = declare(GLIB, "g_timeout_add", INT, INT, TIMER, POINTER)
free = declare(GLIB, "g_free", None, POINTER)
connect = declare(GOBJECT, "g_signal_connect_data", c.c_ulong, POINTER, TEXT, POINTER, POINTER,
                  POINTER, c.c_int)
set_property = declare(GOBJECT, "g_object_set", None, POINTER, TEXT, c.c_int, POINTER)
agent_new = declare(NICE, "nice_agent_new", POINTER, POINTER, c.c_int)
add_stream = declare(NICE, "nice_agent_add_stream", INT, POINTER, INT)
address_new = declare(NICE, "nice_address_new", POINTER)
address_set = declare(NICE, "nice_address_set_from_string", c.c_int, POINTER, TEXT)
add_address = declare(NICE, "nice_agent_add_local_address", c.c_int, POINTER, POINTER)
set_relay = declare(NICE, "nice_agent_set_relay_info", c.c_int, POINTER, INT, INT, TEXT, INT, TEXT,
                    TEXT, c.c_int)
gather = declare(NICE, "nice_agent_gather_candidates", c.c_int, POINTER, INT)
name_stream = declare(NICE, "nice_agent_set_stream_name", c.c_int, POINTER, INT, TEXT)
local_sdp = declare(NICE, "nice_agent_generate_local_sdp", POINTER, POINTER)
remote_sdp = declare(NICE, "nice_agent_parse_remote_sdp", c.c_int, POINTER, TEXT)
attach = declare(NICE, "nice_agent_attach_recv", c.c_int, POINTER, INT, INT, POINTER, RECEIVED,
                 POINTER)
send = declare(NICE, "nice_agent_send", c.c_int, POINTER, INT, INT, INT, TEXT)
selected = declare(NICE, "nice_agent_get_selected_pair", c.c_int, POINTER, INT, INT,
                   c.POINTER(c.POINTER(Candidate)), c.POINTER(c.POINTER(Candidate)))
close_async = declare(NICE, "nice_agent_close_async", None, POINTER, CLOSED, POINTER)


def datagram(number):
    return b"%08d" % number + bytes(number % 900)


class Agent:
    """One end: gathers, connects, and sends numbered datagrams a window ahead of what comes."""

    def __init__(self, args, controlling):
        self.count = args.datagrams
        self.gathered = self.ready = self.failed = self.closed = False
        self.sent, self.got, self.strange = 0, set(), 0
        self.agent = agent_new(None, RFC5245)
        for name, value in ((b"controlling-mode", controlling), (b"force-relay", 1), (b"upnp", 0),
                            (b"ice-tcp", 0)):
            set_property(self.agent, name, value, None)
        self.stream = add_stream(self.agent, 1)
        name_stream(self.agent, self.stream, b"application")
        address = address_new()
        address_set(address, args.local.encode())  # libnice does not offer loopback by itself
        add_address(self.agent, address)
        set_relay(self.agent, self.stream, 1, args.turn.encode(), args.port,
                  args.username.encode(), args.credential.encode(),
                  UDP_RELAY if args.transport == "udp" else TCP_RELAY)
        self.callbacks = (GATHERED(self.on_gathered), STREAM_STATE(self.on_state),
                          RECEIVED(self.on_received), CLOSED(self.on_closed))
        for name, callback in zip((b"candidate-gathering-done", b"component-state-changed"),
                                  self.callbacks):
            connect(self.agent, name, c.cast(callback, c.c_void_p), None, None, 0)
        attach(self.agent, self.stream, 1, None, self.callbacks[2], None)

    def gather(self):
        gather(self.agent, self.stream)

    def sdp(self):
        text = local_sdp(self.agent)
        try:
            return c.string_at(text)
        finally:
            free(text)

    def meet(self, sdp):
        remote_sdp(self.agent, sdp)

    def on_gathered(self, _agent, _stream, _data):
        self.gathered = True

    def on_state(self, _agent, _stream, _component, state, _data):
        self.ready = self.ready or state == READY
        self.failed = state == FAILED

    def on_received(self, _agent, _stream, _component, size, buffer, _data):
        data = buffer[:size]
        if data[:8].isdigit() and data == datagram(int(data[:8])):
            self.got.add(int(data[:8]))
        else:
            self.strange += 1
        self.push()

    def push(self):
        while self.ready and self.sent < self.count and self.sent - len(self.got) < WINDOW:
            data = datagram(self.sent)
            if send(self.agent, self.stream, 1, len(data), data) != len(data):
                break  # the timer tries again
            self.sent += 1

    def pair(self):
        """The types of the selected candidates."""
        ends = c.POINTER(Candidate)(), c.POINTER(Candidate)()
        if not selected(self.agent, self.stream, 1, c.byref(ends[0]), c.byref(ends[1])):
            return None
        return [KINDS[end.contents.type] for end in ends]

    def is_done(self):
        return self.failed or (self.sent == self.count and len(self.got) >= self.count)

    def close(self):
        close_async(self.agent, self.callbacks[3], None)

    def on_closed(self, _agent, _result, _data):
        self.closed = True


class Meeting:
    """Both agents in one loop, from gathering to the end of their allocations."""

    def __init__(self, args):
        self.loop, self.steps, self.report = loop_new(None, 0), self.course(), {}
        self.agents = [Agent(args, controlling) for controlling in (1, 0)]
        self.timers = TIMER(self.on_tick), TIMER(self.on_timeout)

    def all(self, name):
        return all(getattr(agent, name) for agent in self.agents)

    def course(self):
        """Yields what to wait for: libnice is not called from within its own signals."""
        for agent in self.agents:
            agent.gather()
        yield lambda: self.all("gathered")
        offers = [agent.sdp() for agent in self.agents]
        self.report["candidates"] = [offer.count(b"a=candidate") for offer in offers]
        if 0 in self.report["candidates"]:
            return
        for agent, offer in zip(self.agents, reversed(offers)):
            agent.meet(offer)
        yield lambda: self.all("ready") or any(agent.failed for agent in self.agents)
        for agent in self.agents:
            agent.push()
        yield lambda: all(agent.is_done() for agent in self.agents)
        self.tell()
        for agent in self.agents:
            agent.close()
        yield lambda: self.all("closed")

    def tell(self):
        self.report.update(
            connected=self.all("ready"), pairs=[agent.pair() for agent in self.agents],
            got=[len(agent.got) for agent in self.agents],
            strange=[agent.strange for agent in self.agents])

    def on_tick(self, _data):
        for agent in self.agents:
            agent.push()
        while self.waits_for():
            try:
                self.waits_for = next(self.steps)
            except StopIteration:
                loop_quit(self.loop)
                return 0
        return 1

    def on_timeout(self, _data):
        self.tell()
        self.report["late"] = True
        loop_quit(self.loop)
        return 0

    def run(self):
        self.waits_for = next(self.steps)
        timeout_add(10, self.timers[0], None)
        timeout_add(PATIENCE_MS, self.timers[1], None)
        loop_run(self.loop)
        return self.report


def parse():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--local", required=True, help="this host's IP")
    p.add_argument("--turn", required=True)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--transport", choices=("udp", "tcp"), default="udp")
    p.add_argument("--username", required=True)
    p.add_argument("--credential", required=True)
    p.add_argument("--datagrams", type=int, default=1000)
    return p.parse_args()


if __name__ == "__main__":
    print(json.dumps(Meeting(parse()).run()), flush=True)
    os._exit(0)  # not through the callbacks that libnice still holds
