"""What every case needs: failures, free ports, programs that end, STUN questions."""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import namedtuple

HOST = {4: "127.0.0.1", 6: "::1"}
COOKIE = 0x2112A442




class Case(namedtuple("Case", "client what test transport needs flags",
                      defaults=("udp", (), ()))):
    """`test(server)` with a client, over a transport between it and the server.

    `needs` names what the server must speak beside: see `speaks` in servers.py. `flags` are the
    modes of uclient's that it is in, for the table of those.
    """

    @property
    def name(self):
        over = "" if self.transport == "udp" else f", over {self.transport.upper()}"
        return f"{self.client}: {self.what}{over}"

    def suits(self, server_class):
        return {self.transport, *self.needs} <= server_class.speaks


class Failure(Exception):
    """A case that does not hold, and why."""


class Skip(Exception):
    """A case that cannot be tried here, and why."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def check_equal(what, got, expected):
    check(got == expected, f"{what}: {got}, expected {expected}")


def missing(what, package):
    """A client that is not here is a failure where bin/setup installs it, and that is on Debian."""
    if os.path.exists("/etc/debian_version"):
        raise Failure(f"{what} is not installed: bin/setup installs {package}")
    raise Skip(f"{what} is not where Debian has it (in its package {package})")


def until(seconds, what, ask):
    """What `ask` gives, once that is something; polls."""
    deadline = time.monotonic() + seconds
    while True:
        result = ask()
        if result:
            return result
        check(time.monotonic() < deadline, f"{what}: not within {seconds} s")
        time.sleep(0.02)


def under(namespace, argv):
    """The command line that runs in a network namespace; None is this one."""
    return ["ip", "netns", "exec", namespace, *argv] if namespace else list(argv)


def end(process):
    """Ends a program that was started in a session of its own, and all that it started."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(argv, timeout, namespace=None):
    """(exit status, output) of a program; status None when it had to be ended."""
    with tempfile.TemporaryFile() as out:
        try:
            process = subprocess.Popen(under(namespace, argv), stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=subprocess.STDOUT,
                                       start_new_session=True)
        except FileNotFoundError:
            raise Failure(f"{argv[0]} is not installed: bin/setup installs it") from None
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
        out.seek(0)
        return status, out.read().decode("utf-8", "replace")


# Ports are found by binding them for a moment. Cases run side by side: none is given twice.
_given, _lock = set(), threading.Lock()


def _is_free(port):
    try:
        for family, host in ((socket.AF_INET, HOST[4]), (socket.AF_INET6, HOST[6])):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(family, kind) as s:
                    s.bind((host, port))
    except OSError:
        return False
    return True


def free_ports(count):
    """The first of so many free ports in a row, an even number."""
    with _lock:
        for first in range(10000 + os.getpid() % 4000 * 2, 20000, 2):
            row = range(first, first + count)
            if not _given.intersection(row) and all(map(_is_free, row)):
                _given.update(row)
                return first
    raise Failure(f"no {count} free ports in a row")


# ---- STUN, as little as it takes ----


def binding(server, local=None, timeout=0.2):
    """The mapped address (IPv4) that a server tells, or None when it does not answer."""
    request = struct.pack("!HHI", 1, 0, COOKIE) + os.urandom(12)
    with socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET,
                       socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        try:
            if local:
                s.bind(local)
            s.sendto(request, server)
            reply = s.recv(1500)
        except OSError:
            return None
    if len(reply) < 20 or reply[4:20] != request[4:20]:
        return None
    return _mapped(reply) or ("", 0)


def _mapped(reply):
    at = 20
    while at + 4 <= len(reply):
        kind, length = struct.unpack_from("!HH", reply, at)
        if kind == 0x0020 and length == 8:
            port, ip = struct.unpack_from("!HI", reply, at + 6)
            return socket.inet_ntoa(struct.pack("!I", ip ^ COOKIE)), port ^ COOKIE >> 16
        at += 4 + length + -length % 4
    return None


def echoes(address):
    """Whether a datagram sent there comes back."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
                       socket.SOCK_DGRAM) as s:
        s.settimeout(0.2)
        try:
            s.connect(address)
            s.send(b"echo?")
            return s.recv(100) == b"echo?"
        except OSError:
            return False


def readline(process, buffered, timeout, what):
    """The next line of a program's output; `buffered` is a bytearray that stays with it."""
    deadline = time.monotonic() + timeout
    while b"\n" not in buffered:
        left = deadline - time.monotonic()
        check(left > 0, f"{what}: no answer within {timeout} s")
        if not select.select([process.stdout], [], [], left)[0]:
            continue
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            raise Failure(f"{what}: the program ended with status {process.wait(10)}")
        buffered += data
    line, _, rest = bytes(buffered).partition(b"\n")
    buffered[:] = rest
    return line.decode("utf-8", "replace")
