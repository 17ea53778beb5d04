"""The servers that are compared: how each is started, and what is missing where it cannot be."""

import contextlib
import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time

from common import OUT, Failed

# Relayed ports: below those that the kernel gives to others; clients have addresses of their own.
PORTS = (8000, 32000)
MANY_PORTS = (1024, 65000)
SECRET = "benchsecret"
REALM = "bench"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    """Whether something answers a STUN Binding request there."""
    request = bytes.fromhex("000100002112a442") + os.urandom(12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.2)
        try:
            s.connect(("127.0.0.1", port))
            s.send(request)
            return s.recv(1500)[4:20] == request[4:20]
        except OSError:
            return False


def parent(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return int(f.read().rpartition(")")[2].split()[1])


def command(pid):
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
        return f.read().strip()


def owner(pid):
    """The BEAM that a relay belongs to."""
    while pid > 1:
        pid = parent(pid)
        if command(pid) == "beam.smp":
            return pid
    raise Failed("the relay has no BEAM above it")


def stop(process):
    """Ends a server and all that it started: they share a process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def process(name, argv, cpu, env=None):
    """A server while it runs; what it says on standard error goes to a file."""
    with open(f"{OUT}/{name}.log", "wb") as log:
        started = subprocess.Popen(["taskset", "-c", cpu] + argv, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                                   env={**os.environ, **(env or {})})
        try:
            yield started
        finally:
            stop(started)


def await_ready(name, started, is_ready):
    """Asks until it is; what is_ready() returned."""
    since = time.monotonic()
    while True:
        ready = is_ready()
        if ready:
            return ready
        if started.poll() is not None:
            raise Failed(f"{name} ended with status {started.returncode}; see {OUT}/{name}.log")
        if time.monotonic() - since > START_TIMEOUT_S:
            raise Failed(f"{name} was not ready in {START_TIMEOUT_S} s; see {OUT}/{name}.log")


class Coturn:
    """Debian's coturn: UDP only, one relay thread per core it may use, no database, no log."""

    name = "coturn"

    @staticmethod
    def absent():
        return None if shutil.which("turnserver") else "bin/setup installs Debian's coturn"

    @staticmethod
    def version():
        return "coturn " + subprocess.check_output(["turnserver", "--version"], text=True).strip()

    @classmethod
    @contextlib.contextmanager
    def running(cls, options, _case):
        port = free_port()
        argv = ["turnserver", "-n", "--listening-ip=127.0.0.1", f"--listening-port={port}",
                "--relay-ip=127.0.0.1", f"--realm={REALM}", "--use-auth-secret",
                f"--static-auth-secret={SECRET}", "--allow-loopback-peers", "--no-tcp", "--no-tls",
                "--no-dtls", "--no-cli", f"--min-port={PORTS[0]}", f"--max-port={PORTS[1]}",
                f"--relay-threads={options.workers}", "--log-file=/dev/null", "--no-stdout-log",
                f"--pidfile={os.path.abspath(OUT)}/coturn.pid"]
        with process(cls.name, argv, options.server_cpu) as started:
            await_ready(cls.name, started, lambda: answers(port))
            yield port, [started.pid]


class Eturnal:
    """The TURN server within eturnal and ejabberd, on the BEAM (bench/eturnal.escript)."""

    name = "eturnal"
    LIBRARY = "/usr/lib/erlang/lib/p1_stun-*"

    @classmethod
    def absent(cls):
        return None if glob.glob(cls.LIBRARY) else "bin/setup --bench installs Debian's erlang-p1-stun"

    @classmethod
    def version(cls):
        return "eturnal's stun " + glob.glob(cls.LIBRARY)[0].rpartition("-")[2]

    @classmethod
    @contextlib.contextmanager
    def running(cls, options, _case):
        port = free_port()
        argv = ["escript", "bench/eturnal.escript", str(port), SECRET, REALM, *map(str, PORTS)]
        with process(cls.name, argv, options.server_cpu) as started:
            await_ready(cls.name, started, lambda: answers(port))
            yield port, [started.pid]


class Ours:
    """This relay, as `mix turn.server` runs it; its BEAM's share is counted with it."""

    name = "cromulent_turn"
    flags = []

    @classmethod
    def absent(cls):
        return None if shutil.which("mix") else "no mix in the path"

    @staticmethod
    def version():
        with open("VERSION", encoding="ascii") as f:
            return "cromulent_turn " + f.read().strip()

    @classmethod
    def argv(cls, options, case):
        """One relayed IP has too few ports for very many allocations."""
        many = case.allocations > PORTS[1] - PORTS[0]
        ports = MANY_PORTS if many else PORTS
        ips = 1 + case.allocations // (ports[1] - ports[0])
        relays = [word for i in range(ips) for word in ("--relay-ip", f"127.0.0.{i + 1}")]
        return ["mix", "turn.server", "--listen", f"udp:127.0.0.1:{free_port()}", *relays,
                "--realm", REALM, "--secret", SECRET, "--ports", f"{ports[0]}-{ports[1]}",
                "--workers", str(options.workers), "--allow-peer", "127.0.0.0/8", *cls.flags]

    @classmethod
    @contextlib.contextmanager
    def running(cls, options, case):
        # no flag has it: the application's own setting does
        env = {}
        if case.allocations:
            limit = f"-cromulent_turn max_allocations {case.allocations}"
            env["ERL_FLAGS"] = f"{os.environ.get('ERL_FLAGS', '')} {limit}"
        with process(cls.name, cls.argv(options, case), options.server_cpu, env) as started:
            ready = await_ready(cls.name, started, cls.line_of(started))
            port = int(ready["listen"][0].rpartition(":")[2])
            yield port, [ready["pid"], owner(ready["pid"])]

    @staticmethod
    def line_of(started):
        """The `ready` line as it comes, within 0.2 s or next time."""
        text = b""

        def look():
            nonlocal text
            if select.select([started.stdout], [], [], 0.2)[0]:
                text += os.read(started.stdout.fileno(), 65536)
            for line in text.split(b"\n")[:-1]:
                if line.startswith(b"ready "):
                    return json.loads(line[len(b"ready "):])
            return None

        return look


class Switch(Ours):
    """This relay without relay sockets: allocations reach each other, and nobody else."""

    name = "cromulent_turn-switch"
    flags = ["--mode", "switch"]

    @classmethod
    def absent(cls):
        if Ours.absent():
            return Ours.absent()
        # a wrong value is refused by a relay that knows the flag, and nothing is started
        probe = subprocess.run(["mix", "turn.server", "--mode", "none-such"], text=True,
                               capture_output=True, check=False)
        known = "unknown flag" not in probe.stderr
        return None if known else "this relay does not know `--mode switch` yet"


SERVERS = {server.name: server for server in (Ours, Switch, Coturn, Eturnal)}
