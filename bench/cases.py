"""What is measured: the rows of the report, and the figures that this relay is to reach."""

from dataclasses import dataclass, field, replace

from common import DESCRIPTORS

CPU = ("server_cpu_ns_per_pkt", "ns/packet")
RATES = (2000, 5000, 10000, 20000, 40000, 60000)
FLOOD = ("-H", "-I")
# Allocations that are held: 20,000, or a little fewer than a process may have sockets.
HELD = min(20000, (DESCRIPTORS - 500) // 1000 * 1000)
OPEN = ("cromulent_turn", "coturn", "eturnal")
ALL = ("cromulent_turn", "cromulent_turn-switch", "coturn", "eturnal")


@dataclass(frozen=True)
class Case:
    """A row: what turnbench is asked for, and which of its figures counts.

    A sweep asks several times of one and the same server; it makes a plot, not a row.
    """

    key: str
    label: str
    runs: tuple  # of turnbench's arguments, one tuple each
    figure: str
    unit: str
    servers: tuple = OPEN
    sweep: bool = False
    usual: bool = True  # measured unless --only says otherwise
    rounds_max: int = 1000
    allocations: int = 0  # that a server must have room for; 0: its default will do


def rate_name(rate):
    return f"{rate:,}/s" if rate else "saturated"


def packets(mode, rate, text, burst=(), name="", **more):
    key = f"{mode}{name}-{rate or 'max'}"
    args = ("-m", mode, "-r", str(rate), *burst)
    return Case(key, f"`{mode}`{text}, {rate_name(rate)}", (args,), *CPU, **more)


def flood(mode, text="", burst=(), name="", **more):
    """As many as a generator can send that costs less than a server."""
    args = ("-m", mode, "-r", "0", *FLOOD, *burst)
    return Case(f"{mode}{name}-flood", f"`{mode}`{text}, flooded", (args,), *CPU, **more)


def sweep(mode, rates, text, **more):
    runs = tuple(("-m", mode, "-r", str(rate)) for rate in rates)
    return Case(f"sweep-{mode}", text, runs, *CPU, sweep=True, **more)


def memory(key, mode, allocations, **more):
    arguments = ("-m", mode, "-n", str(allocations - 256))
    return Case(key, f"memory per allocation, {allocations:,} of them" +
                (", paired" if mode == "holdpair" else ""),
                (arguments,), "rss_kb_per_alloc", "KiB", allocations=allocations + 256, **more)


BURST = ("-b", "16")
GSO = ("-b", "16", "-g", "-G")
CASES = [
    *(packets(mode, rate, "") for mode in ("up", "down") for rate in (0, 20000)),
    *(flood(mode) for mode in ("up", "down")),
    packets("ind", 0, ""),
    packets("ind", 20000, "", usual=False),
    *(packets(mode, 0, ", bursts of 16", BURST, "-b16") for mode in ("up", "down")),
    *(flood(mode, ", bursts of 16", BURST, "-b16") for mode in ("up", "down")),
    *(packets(mode, 20000, ", bursts of 16", BURST, "-b16", usual=False) for mode in ("up", "down")),
    *(packets(mode, 0, ", bursts of 16 with GSO and GRO", GSO, "-gso") for mode in ("up", "down")),
    *(packets(mode, 20000, ", bursts of 16 with GSO and GRO", GSO, "-gso", usual=False)
      for mode in ("up", "down")),
    *(packets("pair", rate, "", servers=ALL) for rate in (0, 20000)),
    flood("pair", servers=ALL),
    packets("pair", 0, ", bursts of 16 with GSO and GRO", GSO, "-gso", servers=ALL, usual=False),
    *(packets("echo", rate, "", usual=False) for rate in (0, 20000)),
    Case("alloc", "allocate and release, one by one", (("-m", "alloc"),),
         "server_cpu_us_per_cycle", "µs/cycle"),
    Case("storm", "allocate and release, 256 at once", (("-m", "storm", "-n", "256"),),
         "server_cpu_us_per_cycle", "µs/cycle"),
    memory("memory", "hold", HELD, rounds_max=2),
    memory("memory-pair", "holdpair", HELD, servers=ALL[:3], rounds_max=2),
    memory("memory-100k", "holdpair", 100000, servers=("cromulent_turn-switch",), rounds_max=1),
    sweep("up", RATES, "CPU and latency against the rate", rounds_max=3),
    sweep("pair", RATES[:-1], "the same, relay to relay", servers=ALL, rounds_max=3, usual=False),
]
FLOOR = [
    Case(f"floor-{rate or 'max'}", f"`floor`, {rate_name(rate)}",
         (("-m", "floor", "-r", str(rate)),), *CPU)
    for rate in (0, 20000)
]
QUICK = ("up-max", "up-20000", "down-20000", "up-b16-max", "up-gso-max", "pair-max", "alloc",
         "storm", "memory", "memory-pair", "sweep-up")


def quickened(case):
    """The same case, smaller: for a run of minutes, whose figures are not for quoting."""
    if case.key in ("memory", "memory-pair"):
        return memory(case.key, "hold" if case.key == "memory" else "holdpair", 3000,
                      servers=case.servers)
    return replace(case, runs=case.runs[1::2]) if case.sweep else case


@dataclass(frozen=True)
class Target:
    """A median ratio of one of our figures to another server's that must not be exceeded."""

    text: str
    cases: tuple
    most: float
    server: str = "cromulent_turn"
    peer: str = "coturn"
    figure: str = field(default="")  # another than the case's own


TARGETS = [
    Target("`up` and `down`, saturated", ("up-max", "down-max"), 0.85),
    Target("`up` and `down`, flooded", ("up-flood", "down-flood"), 0.85),
    Target("`up` and `down`, 20,000 packets/s", ("up-20000", "down-20000"), 0.85),
    Target("bursts of 16", ("up-b16-max", "down-b16-max"), 0.5),
    Target("bursts of 16, flooded", ("up-b16-flood", "down-b16-flood"), 0.5),
    Target("bursts of 16, GSO-capable traffic", ("up-gso-max", "down-gso-max"), 0.25),
    Target("`pair`", ("pair-max", "pair-flood", "pair-20000"), 0.33),
    Target("`pair`, switch mode", ("pair-max", "pair-flood", "pair-20000"), 0.25,
           "cromulent_turn-switch"),
    Target("allocate and release", ("alloc", "storm"), 0.33),
    Target("memory per allocation", ("memory",), 0.1),
    Target("p99 latency at 20,000 packets/s", ("up-20000", "down-20000"), 1.0, figure="p99_us"),
]
