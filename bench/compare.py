"""Compares TURN servers with turnbench: in turns, each alone, on one core. See bench/README.md."""

import argparse
import contextlib
import json
import os
import platform
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import namedtuple

OUT = "_build/bench"
TURNBENCH = os.path.join(OUT, "turnbench")
PORTS = (20000, 40000)
SECRET = "benchsecret"
CALM_ROUNDS_MIN = 3
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10

# A row of the table: what turnbench is asked for, and which of its figures counts.
Case = namedtuple("Case", "key label args figure unit")

CPU = ("server_cpu_ns_per_pkt", "ns/packet")
MODES = {
    "up": "client to peer",
    "down": "peer to client",
    "ind": "client to peer, Send indications",
    "echo": "client to peer and back",
    "pair": "relay to relay",
}
CASES = [
    Case(f"{mode}-{rate or 'max'}", f"{mode}, {f'{rate:,}/s' if rate else 'saturated'}: {text}",
         ["-m", mode, "-r", str(rate)], *CPU)
    for mode, text in MODES.items()
    for rate in (0, 20000)
] + [
    Case("alloc", "allocate and release, CPU", ["-m", "alloc"], "server_cpu_us_per_cycle",
         "µs/cycle"),
    Case("memory", "memory per allocation with a channel", ["-m", "hold", "-n", "2000"],
         "rss_kb_per_alloc", "KiB"),
]
FLOOR = [
    Case(f"floor-{rate or 'max'}", f"floor, {f'{rate:,}/s' if rate else 'saturated'}",
         ["-m", "floor", "-r", str(rate)], *CPU)
    for rate in (0, 20000)
]


def fail(text):
    sys.exit(f"bench: {text}")


# ---- servers ----


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
    return fail("the relay has no BEAM above it")


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


def start(argv, cpu, log):
    return subprocess.Popen(["taskset", "-c", cpu] + argv, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=log, start_new_session=True)


def deadline_passed(process, since, name):
    if process.poll() is not None:
        fail(f"{name} ended with status {process.returncode}; see {OUT}/{name}.log")
    if time.monotonic() - since > START_TIMEOUT_S:
        fail(f"{name} was not ready in {START_TIMEOUT_S} s; see {OUT}/{name}.log")


class Coturn:
    """Debian's coturn: UDP only, one relay thread per core it may use, no database, no log."""

    name = "coturn"

    @staticmethod
    def absent():
        return None if shutil.which("turnserver") else "apt-get install coturn"

    @staticmethod
    def version():
        return "coturn " + subprocess.check_output(["turnserver", "--version"], text=True).strip()

    @staticmethod
    @contextlib.contextmanager
    def running(options):
        port = free_port()
        argv = ["turnserver", "-n", "--listening-ip=127.0.0.1", f"--listening-port={port}",
                "--relay-ip=127.0.0.1", "--realm=bench", "--use-auth-secret",
                f"--static-auth-secret={SECRET}", "--allow-loopback-peers", "--no-tcp", "--no-tls",
                "--no-dtls", "--no-cli", f"--min-port={PORTS[0]}", f"--max-port={PORTS[1]}",
                f"--relay-threads={options.workers}", "--log-file=/dev/null", "--no-stdout-log",
                f"--pidfile={os.path.abspath(OUT)}/coturn.pid"]
        with open(f"{OUT}/coturn.log", "wb") as log:
            process = start(argv, options.server_cpu, log)
            try:
                since = time.monotonic()
                while not answers(port):
                    deadline_passed(process, since, "coturn")
                yield port, [process.pid]
            finally:
                stop(process)


class Ours:
    """This relay, as `mix turn.server` runs it; its BEAM's share is counted with it."""

    name = "cromulent_turn"

    @staticmethod
    def absent():
        return None if shutil.which("mix") else "no mix in the path"

    @staticmethod
    def version():
        with open("VERSION", encoding="ascii") as f:
            return "cromulent_turn " + f.read().strip()

    @staticmethod
    @contextlib.contextmanager
    def running(options):
        argv = ["mix", "turn.server", "--listen", f"udp:127.0.0.1:{free_port()}", "--relay-ip",
                "127.0.0.1", "--realm", "bench", "--secret", SECRET, "--ports",
                f"{PORTS[0]}-{PORTS[1]}", "--workers", str(options.workers), "--allow-peer",
                "127.0.0.0/8"]
        with open(f"{OUT}/cromulent_turn.log", "wb") as log:
            process = start(argv, options.server_cpu, log)
            try:
                ready = Ours.await_ready(process)
                port = int(ready["listen"][0].rpartition(":")[2])
                yield port, [ready["pid"], owner(ready["pid"])]
            finally:
                stop(process)

    @staticmethod
    def await_ready(process):
        since, text = time.monotonic(), b""
        while True:
            deadline_passed(process, since, "cromulent_turn")
            if select.select([process.stdout], [], [], 0.2)[0]:
                text += os.read(process.stdout.fileno(), 65536)
            for line in text.split(b"\n")[:-1]:
                if line.startswith(b"ready "):
                    return json.loads(line[len(b"ready "):])


SERVERS = {server.name: server for server in (Ours, Coturn)}


# ---- measuring ----


def busy_s(cpus):
    """Seconds that these CPUs have not been idle."""
    total = 0
    with open("/proc/stat", encoding="ascii") as f:
        for line in f:
            name, *fields = line.split()
            if name in cpus:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
                total += user + nice + system + irq + softirq + steal
    return total / os.sysconf("SC_CLK_TCK")


def cpu_s(pid):
    """Seconds of CPU that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        user, system = f.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def turnbench(case, port, pids, options):
    """One measurement: turnbench's line."""
    argv = [TURNBENCH, "-W", SECRET, "-c", options.generator_cpu, "-f", options.server_cpu,
            "-t", str(options.seconds), *case.args]
    if pids:
        argv += ["-s", f"127.0.0.1:{port}", "-P", ",".join(map(str, pids))]
    run = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False,
                         timeout=120 + options.seconds)
    if run.returncode:
        fail(f"{' '.join(argv)} ended with status {run.returncode}")
    result = json.loads(run.stdout)
    if case.key == "memory":
        # a BEAM's heap comes and goes by more than all allocations need: it is told apart
        result[case.figure] = result["by_process"][0]
        total = result["warm"] + result["allocations"]
        if result["carried"] < 0.95 * total:
            fail(f"memory: only {result['carried']} of {total} allocations carried a packet")
    if result.get("bad"):
        fail(f"{case.key}: {result['bad']} packets arrived that nobody sent")
    return result


class Disturbance:
    """Which part of the two cores was used by neither server nor generator."""

    def __init__(self, options, pids):
        self.cpus, self.pids = {"cpu" + options.server_cpu, "cpu" + options.generator_cpu}, pids
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.children = children.ru_utime + children.ru_stime
        self.servers = sum(map(cpu_s, pids))
        self.at, self.busy = time.monotonic(), busy_s(self.cpus)

    def share(self):
        seconds = time.monotonic() - self.at
        used = busy_s(self.cpus) - self.busy
        ours = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = ours.ru_utime + ours.ru_stime - self.children
        ours += sum(map(cpu_s, self.pids)) - self.servers
        return max(0.0, used - ours) / seconds / len(self.cpus)


def measure(server, case, options):
    """Measures a server fresh from its start; again when others disturbed it much."""
    for _ in range(options.tries):
        with server.running(options) as (port, pids):
            disturbance = Disturbance(options, pids)
            result = turnbench(case, port, pids, options)
            result["others"] = round(disturbance.share(), 3)
        if result["others"] <= options.disturbed:
            break
    return result


def measure_all(servers, cases, options):
    """{(server index, case key): [one result a round]}; who comes first alternates."""
    results = {}
    for turn in range(options.rounds):
        order = list(enumerate(servers))
        for case in cases:
            for i, server in order if turn % 2 == 0 else reversed(order):
                result = measure(server, case, options)
                results.setdefault((i, case.key), []).append(result)
                say(f"round {turn + 1} {case.key:9} {server.name:15} "
                    f"{result[case.figure]:10.1f} {case.unit}")
        for case in FLOOR:
            results.setdefault((None, case.key), []).append(turnbench(case, 0, [], options))
    return results


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- the report ----


def figures(results, i, case):
    return [result[case.figure] for result in results.get((i, case.key), [])]


def counting_rounds(results, servers, case, options):
    """Rounds in which nobody was disturbed much; all of them when there are too few of those.

    A busy neighbour makes packets look cheap: the server wakes up less often, for more of them.
    """
    rounds = list(zip(*(results[(i, case.key)] for i in range(len(servers)))))
    calm = [r for r in rounds if all(one["others"] <= options.disturbed for one in r)]
    return (calm if len(calm) >= CALM_ROUNDS_MIN else rounds), len(calm)


def row(results, servers, case, options):
    rounds, calm = counting_rounds(results, servers, case, options)
    values = [[one[case.figure] for one in r] for r in rounds]
    cells = [case.label]
    cells += [f"{statistics.median(v):,.1f} {case.unit}" for v in zip(*values)]
    if len(servers) == 2:
        ratios = [a / b if b else float("nan") for a, b in values]
        cells += [f"**{statistics.median(ratios):.2f}**", f"{min(ratios):.2f}–{max(ratios):.2f}"]
    return cells + [f"{calm} of {options.rounds}"]


def notes(results, servers, cases):
    """What the table leaves out: memory by process, throughput and latency, disturbances."""
    for i, server in enumerate(servers):
        held = [r["by_process"] for r in results.get((i, "memory"), [])]
        if held and len(held[0]) > 1:
            beam = statistics.median(by_process[1] for by_process in held)
            yield (f"- {server.name}: the table has the relay's memory; its BEAM's changed by "
                   f"{beam:.2f} KiB per allocation meanwhile.")
    for i, server in enumerate(servers):
        for case in cases:
            got = results[(i, case.key)]
            if "pps" in got[0]:
                pps, loss, p50, p99 = (statistics.median(r[k] for r in got)
                                       for k in ("pps", "loss_pct", "p50_us", "p99_us"))
                yield (f"- {server.name}, {case.key}: {pps:,.0f} packets/s, {loss:.1f} % lost, "
                       f"latency {p50:,.0f} µs (median), {p99:,.0f} µs (99 %).")
    others = [r["others"] for (i, _), got in results.items() if i is not None for r in got]
    yield (f"- Other programs used {statistics.median(others):.0%} of the two cores (median), "
           f"{max(others):.0%} at most.")


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def report(results, servers, cases, options):
    head = ["case"] + [server.name for server in servers]
    if len(servers) == 2:
        head += ["ratio", "min–max"]
    head += ["calm rounds"]
    lines = [f"{cpu_model()}, {os.cpu_count()} CPUs, Linux {platform.release()}; "
             + ", ".join(server.version() for server in servers)
             + f"; {options.rounds} rounds of {options.seconds} s, medians.", ""]
    table = [head, ["---"] * len(head)] + [row(results, servers, case, options) for case in cases]
    lines += ["| " + " | ".join(cells) + " |" for cells in table]
    for case in FLOOR:
        median = statistics.median(figures(results, None, case))
        cells = [case.label, f"{median:,.1f} {case.unit}"] + [""] * (len(head) - 2)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines + [""] + list(notes(results, servers, cases))) + "\n"


def save(results, servers, text):
    with open(f"{OUT}/results.md", "w", encoding="utf-8") as f:
        f.write(text)
    named = {f"{'floor' if i is None else f'{i}-{servers[i].name}'}/{key}": got
             for (i, key), got in results.items()}
    with open(f"{OUT}/results.json", "w", encoding="utf-8") as f:
        json.dump(named, f, indent=1)


# ---- the command line ----


def parse():
    p = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=int, default=3, help="of each measurement (3)")
    p.add_argument("--only", help="cases, with commas: " + ", ".join(c.key for c in CASES))
    p.add_argument("--servers", default="cromulent_turn,coturn",
                   help="one or two; the same one twice shows the noise")
    p.add_argument("--workers", type=int, default=1, help="threads that relay (1)")
    p.add_argument("--server-cpu", default="0")
    p.add_argument("--generator-cpu", default="1")
    p.add_argument("--tries", type=int, default=1,
                   help="measurements at most while others disturb them (1)")
    p.add_argument("--disturbed", type=float, default=0.1,
                   help="the share of the two cores that others may use in a calm round (0.1)")
    return p.parse_args()


def choose(names, table, what):
    unknown = [name for name in names if name not in table]
    if unknown:
        fail(f"no {what} is called {unknown[0]}; there are {', '.join(table)}")
    return [table[name] for name in names]


def present(servers):
    for server in servers:
        if server.absent():
            say(f"bench: {server.name} is absent: {server.absent()}")
    return [server for server in servers if not server.absent()]


def main():
    options = parse()
    by_key = {case.key: case for case in CASES}
    cases = choose(options.only.split(","), by_key, "case") if options.only else CASES
    servers = present(choose(options.servers.split(","), SERVERS, "server"))
    if not 1 <= len(servers) <= 2:
        fail("one or two servers, please")
    if Ours in servers:
        subprocess.run(["mix", "compile"], check=True, stdout=sys.stderr)
    # a signal ends the servers too: it becomes an exception, and they are stopped on the way out
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, _frame: sys.exit(128 + number))
    results = measure_all(servers, cases, options)
    text = report(results, servers, cases, options)
    save(results, servers, text)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
