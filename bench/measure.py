"""Takes the measurements: servers in turns, each alone, and how much others disturbed them."""

import json
import os
import resource
import subprocess
import time

from cases import CASES, FLOOR
from common import CORE, TURNBENCH, Failed, say
from servers import SECRET

TURNBENCH_TIMEOUT_S = 900
FAILURES_MAX = 2


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


class Disturbance:
    """Which part of the two cores was used by neither server nor generator."""

    def __init__(self, options, pids):
        self.cpus = {"cpu" + cpu for cpu in
                     (options.server_cpu + "," + options.generator_cpu).split(",")}
        self.pids = pids
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


def turnbench(arguments, port, pids, options, more=()):
    """One measurement: turnbench's line."""
    argv = [TURNBENCH, "-W", SECRET, "-c", options.generator_cpu, "-t", str(options.seconds),
            *arguments, *more]
    if pids:
        argv += ["-s", f"127.0.0.1:{port}", "-P", ",".join(map(str, pids))]
    try:
        run = subprocess.run(argv, capture_output=True, text=True, check=False,
                             timeout=TURNBENCH_TIMEOUT_S + options.seconds)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(argv)} did not end") from error
    if run.returncode:
        raise Failed(f"{' '.join(argv)} ended with status {run.returncode}: {run.stderr.strip()}")
    return json.loads(run.stdout.splitlines()[-1])


def checked(case, result):
    """The same, unless it cannot be what was asked for."""
    if "curve" in result:
        # a BEAM's heap comes and goes by more than all allocations need: it is told apart
        result[case.figure] = result["by_process"][0]
        total = result["warm"] + result["allocations"]
        if result["carried"] < 0.95 * total:
            raise Failed(f"{case.key}: only {result['carried']} of {total} allocations carried a packet")
    if result.get("bad"):
        raise Failed(f"{case.key}: {result['bad']} packets arrived that nobody sent")
    return result


def once(server, case, options):
    """All runs of a case with a server fresh from its start: a list of results."""
    with server.running(options, case) as (port, pids):
        results = []
        for arguments in case.runs:
            disturbance = Disturbance(options, pids)
            result = checked(case, turnbench(arguments, port, pids, options))
            result["others"] = round(disturbance.share(), 3)
            results.append(result)
        return results


def measure(server, case, options):
    """Again when others disturbed it much, as often as is allowed. A sweep's runs lie in "runs"."""
    for _ in range(options.tries):
        results = once(server, case, options)
        others = max(result["others"] for result in results)
        if others <= options.disturbed:
            break
    return {"runs": results, "others": others} if case.sweep else results[0]


def attempt(what, *arguments):
    """What it returns; None when it has failed too often, which the report tells."""
    for _ in range(FAILURES_MAX):
        try:
            return what(*arguments)
        except (Failed, subprocess.SubprocessError) as error:
            say(f"bench: {error}")
    return None


def told(case, result):
    if result is None:
        return "failed"
    if case.sweep:
        return " ".join(f"{one[case.figure]:.0f}" for one in result["runs"]) + f" {case.unit}"
    return f"{result[case.figure]:10.1f} {case.unit}"


def measure_all(servers, cases, options):
    """{(server index, case key): [one result a round, None where it failed]}.

    Who comes first alternates.
    """
    results = {}
    for turn in range(options.rounds):
        order = list(enumerate(servers))[::-1 if turn % 2 else 1]
        for case in cases:
            if turn >= case.rounds_max:
                continue
            for i, server in order:
                if server.name not in case.servers:
                    continue
                result = attempt(measure, server, case, options)
                results.setdefault((i, case.key), []).append(result)
                say(f"round {turn + 1} {case.key:12} {server.name:21} {told(case, result)}")
        for case in FLOOR:
            result = attempt(turnbench, case.runs[0], 0, [], options, ("-f", options.server_cpu))
            results.setdefault((None, case.key), []).append(result)
    return results


# ---- the engine alone, and workers ----


def core(options):
    """bench/core.c's line, and whether it was disturbed does not matter: it counts its own CPU."""
    argv = [CORE, "-n", "3" if options.quick else "5", "-c", options.server_cpu]
    run = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    return json.loads(run.stdout)


class WorkerOptions:
    """The options of a run in which server and generator have all cores."""

    def __init__(self, options, workers, cpus):
        self.workers, self.seconds = workers, options.seconds
        self.server_cpu = self.generator_cpu = cpus


def stall():
    """What bench/stall.exs saw: two lines of JSON, as one."""
    run = subprocess.run(["mix", "run", "bench/stall.exs"], stdout=subprocess.PIPE, text=True,
                         check=True, timeout=120)
    result = {}
    for line in run.stdout.splitlines():
        if line.startswith("{"):
            result |= json.loads(line)
    return result


def carried(server, options, count, cpus):
    """What `count` workers would carry with a core each: packets per second of the busiest one."""
    asked = WorkerOptions(options, count, cpus)
    arguments = ("-m", "up", "-n", "512", "-r", str(options.worker_rate * count), "-j", "2")
    with server.running(asked, CASES[0]) as (port, pids):
        result = turnbench(arguments, port, pids, asked)
    busiest = sorted(result["server_cpu_pct_by_thread"])[-count:]
    if len(busiest) < count:
        raise Failed(f"workers: only {len(busiest)} of {count} did anything")
    result["capacity"] = 100 * result["pps"] / busiest[-1]
    result["evenness"] = sum(busiest) / count / busiest[-1]
    return result


def workers(server, options):
    """One worker and two in turn: [(one, two)], a pair a round."""
    cpus = ",".join(sorted({*options.server_cpu.split(","), *options.generator_cpu.split(",")}))
    rounds = []
    for _ in range(options.rounds):
        pair = [attempt(carried, server, options, count, cpus) for count in (1, 2)]
        if None in pair:
            continue
        rounds.append(pair)
        say(f"workers {pair[1]['capacity'] / pair[0]['capacity']:.2f} times as much with two")
    return rounds
