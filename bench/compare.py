"""Compares TURN servers with turnbench: in turns, each alone, on one core. See bench/README.md."""

import argparse
import os
import signal
import subprocess
import sys

import measure
import report
from cases import CASES, QUICK, quickened
from common import OUT, fail, say
from servers import SERVERS, Ours

EXTRAS = ("core", "workers", "stall")
DEFAULT_SERVERS = "cromulent_turn-switch,cromulent_turn,coturn,eturnal"


def parse():
    keys = ", ".join([case.key for case in CASES] + list(EXTRAS))
    p = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    p.add_argument("--quick", action="store_true",
                   help="one short round of the most telling cases: to see that everything works")
    p.add_argument("--rounds", type=int, help="5, or 1 with --quick")
    p.add_argument("--seconds", type=int, help="of each measurement: 2, or 1 with --quick")
    p.add_argument("--only", help="with commas: " + keys)
    p.add_argument("--servers", default=DEFAULT_SERVERS,
                   help=f"with commas, in this order ({DEFAULT_SERVERS}); "
                        "coturn,coturn shows the noise")
    p.add_argument("--out", help="where report.md and its plots go: bench after a full run, "
                                 f"else {OUT}")
    p.add_argument("--workers", type=int, default=1, help="threads that relay (1)")
    p.add_argument("--worker-rate", type=int, default=20000,
                   help="workers: packets a second for each (20000)")
    p.add_argument("--server-cpu", default="0")
    p.add_argument("--generator-cpu", default="1")
    p.add_argument("--tries", type=int, default=1,
                   help="measurements at most while others disturb them (1)")
    p.add_argument("--disturbed", type=float, default=0.1,
                   help="the share of the two cores that others may use in a calm round (0.1)")
    return p.parse_args()


def completed(options):
    """Options with their defaults, which depend on each other."""
    full = not (options.quick or options.only or options.servers != DEFAULT_SERVERS)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.out = options.out or ("bench" if full and options.rounds >= 5 else OUT)
    return options


def choose(names, table, what):
    unknown = [name for name in names if name not in table]
    if unknown:
        fail(f"no {what} is called {unknown[0]}; there are {', '.join(table)}")
    return [table[name] for name in names]


def chosen_cases(options):
    """The cases, and which of the extras."""
    by_key = {case.key: case for case in CASES}
    if options.only:
        names = options.only.split(",")
        extras = [name for name in names if name in EXTRAS]
        cases = choose([name for name in names if name not in EXTRAS], by_key, "case")
    else:
        extras = list(EXTRAS)
        cases = [case for case in CASES if case.usual and (case.key in QUICK or not options.quick)]
    return [quickened(case) if options.quick else case for case in cases], extras


def present(servers):
    """Those that are here, and those that are not with the reason."""
    absent = [(server, server.absent()) for server in servers]
    for server, why in absent:
        if why:
            say(f"bench: {server.name} is absent: {why}")
    return ([server for server, why in absent if not why],
            [(server, why) for server, why in absent if why])


def main():
    options = completed(parse())
    cases, extras = chosen_cases(options)
    wanted = choose(options.servers.split(","), SERVERS, "server")
    if any(issubclass(server, Ours) for server in wanted):
        subprocess.run(["mix", "compile"], check=True, stdout=sys.stderr)
    servers, absent = present(wanted)
    if not servers:
        fail("no server is left")
    # a signal ends the servers too: it becomes an exception, and they are stopped on the way out
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, _frame: sys.exit(128 + number))
    results = report.Results(options, servers, absent, cases)
    if "core" in extras:
        results.core = measure.attempt(measure.core, options)
    if "workers" in extras and Ours in servers:
        results.workers = measure.workers(Ours, options)
    if "stall" in extras and Ours in servers:
        results.stall = measure.attempt(measure.stall)
    if cases:
        results.taken = measure.measure_all(servers, cases, options)
    os.makedirs(OUT, exist_ok=True)
    report.save_raw(results, f"{OUT}/results.json")
    print(report.save(results, options.out))
    say(f"bench: {options.out}/report.md; every measurement in {OUT}/results.json")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
