"""What the measurements show: tables in Markdown, and plots beside them."""

import json
import os
import platform
import statistics

import plot
from cases import FLOOR, TARGETS

CALM_ROUNDS_MIN = 3
REFERENCE = "coturn"
CORE_AIMS = {"up_1000": 50e6, "down_1000": 50e6, "pair_1000": 50e6, "allocate_again": 700e3}
WORKERS_AIM = 1.8
IDLE_AIMS_KIB = {("cromulent_turn", "memory"): 1.5, ("cromulent_turn-switch", "memory-pair"): 1.0}


class Results:
    """All measurements of one run."""

    def __init__(self, options, servers, absent, cases):
        self.options, self.servers, self.absent, self.cases = options, servers, absent, cases
        self.taken = {}  # as measure_all() returns them
        self.core = self.workers = self.stall = None

    def index(self, name):
        return next((i for i, s in enumerate(self.servers) if s.name == name), None)

    def of(self, i, key):
        return [result for result in self.taken.get((i, key), []) if result is not None]

    def failures(self):
        """(server index, case key, how many) of measurements that came to nothing."""
        counts = ((i, key, got.count(None)) for (i, key), got in self.taken.items())
        return [failure for failure in counts if failure[2]]

    def rounds(self, i, j, key):
        """Neighbouring results of two servers in rounds that count, and how many were calm.

        A busy neighbour makes packets look cheap: the server wakes up less often, for more of
        them. Rounds with much of that count only where there are too few others.
        """
        both = zip(self.taken.get((i, key), []), self.taken.get((j, key), []))
        pairs = [pair for pair in both if None not in pair]
        calm = [p for p in pairs if all(r["others"] <= self.options.disturbed for r in p)]
        return (calm if len(calm) >= min(CALM_ROUNDS_MIN, len(pairs)) else pairs), len(calm)

    def ratios(self, i, j, key, figure):
        pairs, _ = self.rounds(i, j, key)
        return [a[figure] / b[figure] if b[figure] else float("nan") for a, b in pairs]


# ---- small things ----


def table(rows):
    head, *body = rows
    return ["| " + " | ".join(map(str, cells)) + " |"
            for cells in [head, ["---"] * len(head), *body]] + [""]


def amount(value, unit):
    digits = 2 if value < 10 else 1 if value < 1000 else 0
    return f"{value:,.{digits}f} {unit}"


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def median_of(results, figure):
    return statistics.median(result[figure] for result in results)


# ---- the tables ----


def conditions(r):
    rounds = f"{r.options.rounds} round{'s' if r.options.rounds > 1 else ''}"
    yield (f"{cpu_model()}, {os.cpu_count()} CPUs, Linux {platform.release()}; "
           + ", ".join(s.version() for s in r.servers if "switch" not in s.name)
           + f"; {rounds} of {r.options.seconds} s, payloads of 160 bytes, 64 clients; medians.")
    yield ""
    for server, why in r.absent:
        yield f"- **{server.name} is absent**: {why}"
    for i, key, count in r.failures():
        name = "floor" if i is None else r.servers[i].name
        yield f"- **{count} of {len(r.taken[(i, key)])} measurements of {name}, {key}, failed**"
    others = [one["others"] for i, key in r.taken if i is not None for one in r.of(i, key)]
    if others:
        yield (f"- Other programs used {statistics.median(others):.0%} of the two cores (median), "
               f"{max(others):.0%} at most.")
    yield ""


def row(r, case):
    ours, reference = r.index("cromulent_turn"), r.index(REFERENCE)
    cells = [case.label]
    for i, server in enumerate(r.servers):
        got = r.of(i, case.key)
        cells.append(amount(median_of(got, case.figure), case.unit) if got else "")
    if None not in (ours, reference) and r.rounds(ours, reference, case.key)[0]:
        ratios = r.ratios(ours, reference, case.key, case.figure)
        _, calm = r.rounds(ours, reference, case.key)
        cells += [f"**{statistics.median(ratios):.2f}**", f"{min(ratios):.2f}–{max(ratios):.2f}",
                  f"{calm} of {len(r.of(ours, case.key))}"]
    return cells + [""] * (1 + len(r.servers) + 3 - len(cells))


def main_table(r):
    head = ["case"] + [s.name for s in r.servers] + [f"ratio to {REFERENCE}", "min–max", "calm rounds"]
    rows = [head] + [row(r, case) for case in r.cases if not case.sweep]
    for case in FLOOR:
        got = r.of(None, case.key)
        cells = [case.label] + [""] * (len(head) - 1)
        cells[1] = amount(median_of(got, case.figure), case.unit) if got else ""
        rows.append(cells)
    return table(rows)


def quiet_table(r):
    """Throughput, loss and latency, which say little on a machine that is shared."""
    rows = [["case", "server", "packets/s", "lost", "p50", "p99", "p99.9", "server's CPU"]]
    for case in r.cases:
        for i, server in enumerate(r.servers):
            got = r.of(i, case.key)
            if not got or "pps" not in got[0]:
                continue
            p50, p99, p999 = (median_of(got, k) for k in ("p50_us", "p99_us", "p999_us"))
            rows.append([case.key, server.name, f"{median_of(got, 'pps'):,.0f}",
                         f"{median_of(got, 'loss_pct'):.1f} %", f"{p50:,.0f} µs", f"{p99:,.0f} µs",
                         f"{p999:,.0f} µs", f"{median_of(got, 'server_cpu_pct'):.0f} %"])
    return table(rows) if len(rows) > 1 else []


# ---- targets ----


def verdict(met):
    return "met" if met else "**not met**"


def judge(r, target, key):
    """One line: a median ratio against what it may be at most."""
    case = next((c for c in r.cases if c.key == key), None)
    i, j = r.index(target.server), r.index(target.peer)
    label = f"{target.text} (`{key}`)"
    if case is None:
        return [label, f"≤ {target.most}", "", "not measured in this run"]
    missing = [name for name, at in ((target.server, i), (target.peer, j)) if at is None]
    if missing:
        return [label, f"≤ {target.most}", "", f"{missing[0]} is absent"]
    if not r.rounds(i, j, key)[0]:
        return [label, f"≤ {target.most}", "", "not measured in this run"]
    ratios = r.ratios(i, j, key, target.figure or case.figure)
    value = statistics.median(ratios)
    spread = f" ({min(ratios):.2f}–{max(ratios):.2f})" if len(ratios) > 1 else ""
    return [label, f"≤ {target.most}", f"{value:.2f}{spread}", verdict(value <= target.most)]


def judge_absolute(r):
    for (name, key), most in IDLE_AIMS_KIB.items():
        i = r.index(name)
        got = r.of(i, key) if i is not None else []
        label = f"an allocation with a channel in {name} (`{key}`)"
        if got:
            value = median_of(got, "rss_kb_per_alloc")
            yield [label, f"≤ {most} KiB", f"{value:.2f} KiB", verdict(value <= most)]
        else:
            yield [label, f"≤ {most} KiB", "", "absent" if i is None else "not measured in this run"]
    for key, least in CORE_AIMS.items() if r.core else ():
        value = r.core.get(key)
        if value is None:
            yield [f"engine alone, `{key}`", f"≥ {least:,.0f}/s", "", "the engine has no short cut"]
        else:
            yield [f"engine alone, `{key}`", f"≥ {least:,.0f}/s", f"{value:,.0f}/s", verdict(value >= least)]
    if r.workers:
        value = statistics.median(scales(r))
        yield ["two workers against one", f"≥ {WORKERS_AIM}", f"{value:.2f}", verdict(value >= WORKERS_AIM)]


def targets_table(r):
    rows = [["figure", "aim", "measured", ""]]
    rows += [judge(r, target, key) for target in TARGETS for key in target.cases]
    return table(rows + list(judge_absolute(r)))


# ---- the engine, workers, a worker that stands still ----


def core_section(r):
    if not r.core:
        return []
    names = {"up": "ChannelData from a client", "down": "datagram from a peer",
             "pair": "ChannelData to another allocation, in memory"}
    rows = [["per second of CPU time, one thread, no sockets", "64 clients", "1,000", "50,000"]]
    for key, text in names.items():
        got = [r.core.get(f"{key}_{n}") for n in (64, 1000, 50000)]
        rows.append([text] + ["no short cut" if v is None else f"{v:,.0f}" for v in got])
    users = [["per second of CPU time", "the same 512 users again", "32,768 users in turn"]]
    for key, text in (("allocate", "authenticated Allocate"), ("release", "Refresh with lifetime 0"),
                      ("cycle", "both, one after the other")):
        users.append([text] + [f"{r.core[f'{key}_{kind}']:,.0f}" for kind in ("again", "new")])
    return ["## The engine alone", "", *table(rows), *table(users)]


def scales(r):
    return [two["capacity"] / one["capacity"] for one, two in r.workers]


def workers_section(r):
    lines = []
    if r.workers:
        values = scales(r)
        evenness = statistics.median(two["evenness"] for _, two in r.workers)
        lines += [f"Two workers carry {statistics.median(values):.2f} times what one does "
                  f"({min(values):.2f}–{max(values):.2f}): packets per second of CPU time of the busiest worker, "
                  f"{r.options.worker_rate:,} packets/s for each, 512 clients. The load was spread over them to "
                  f"{evenness:.0%}.", ""]
    if r.stall:
        lines += list(stall_lines(r.stall))
    return ["## Workers", "", *lines] if lines else []


def stall_lines(stall):
    during, after = stall["during"], stall["after"]
    total, served = stall["clients"], during["clients_served"]
    yield (f"One of two workers was stopped for {stall['seconds']} s: of {total} clients {served} were served all "
           f"the time, {max(0.0, during['loss_pct_of_served']):.2f} % of their packets lost; after it {after['clients_served']}.")
    yield ""
    yield (f"Statistics were asked for {stall['asked']} times meanwhile; {stall['answered']} answers came within "
           f"{stall['patience_ms']} ms (the slowest {stall['slowest_ms']:.1f} ms).")
    yield ""


# ---- plots ----


def spread(values):
    return statistics.median(values), min(values), max(values)


def sweep_lines(r, key, figure, lost_max=100.0):
    """{server: [(rate, median, lowest, highest)]}, without rates that a server cannot carry."""
    lines = {}
    for i, server in enumerate(r.servers):
        rounds = [got["runs"] for got in r.of(i, key)]
        for runs in zip(*rounds):
            if statistics.median(run["loss_pct"] for run in runs) > lost_max:
                continue
            point = (runs[0]["asked_pps"], *spread([run[figure] for run in runs]))
            lines.setdefault(server.name, []).append(point)
    return lines


def in_thousands(lines):
    return {name: [(x, *(y / 1000 for y in ys)) for x, *ys in line] for name, line in lines.items()}


def cpu_plot(r):
    lines = in_thousands(sweep_lines(r, "sweep-up", "server_cpu_ns_per_pkt", 1.0))
    return lines and plot.svg([plot.Panel("CPU per relayed packet", lines, "packets per second", "µs")],
                              "CPU time of the server per relayed packet, against the rate")


def latency_plot(r):
    panels = [plot.Panel(f"Latency, {name}", in_thousands(sweep_lines(r, "sweep-up", figure, 1.0)),
                         "packets per second", "ms")
              for name, figure in (("median", "p50_us"), ("99 %", "p99_us"), ("99.9 %", "p999_us"))]
    return panels[0].lines and plot.svg(panels, "Latency through the server, against the rate", log_y=True)


def memory_plot(r):
    lines = {}
    for name, key in (("cromulent_turn", "memory"), ("coturn", "memory"), ("eturnal", "memory"),
                      ("cromulent_turn-switch", "memory-pair")):
        i = r.index(name)
        curves = [got["curve"] for got in r.of(i, key)] if i is not None else []
        for points in zip(*curves):
            grown = [(p[1] - curve[0][1]) / 1024 for p, curve in zip(points, curves)]
            if points[0][0] > 0:
                lines.setdefault(name, []).append((points[0][0], *(max(v, 0.01) for v in spread(grown))))
    return lines and plot.svg([plot.Panel("Memory over that of the idle server", lines, "allocations", "MiB")],
                              "Memory against the number of allocations", log_y=True)


PLOTS = (("cpu.svg", "CPU time per relayed packet against the rate", cpu_plot),
         ("latency.svg", "Latency against the rate", latency_plot),
         ("memory.svg", "Memory against the number of allocations", memory_plot))


# ---- the whole ----


def plots(r, directory):
    lines = []
    for name, text, draw in PLOTS:
        picture = draw(r)
        if not picture:
            continue
        with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
            f.write(picture)
        lines += [f"![{text}]({name})", ""]
    return ["## Plots", "", "Medians; the shades reach from the lowest to the highest. A rate that a server lost more "
            "than 1 % of is not shown.", "", *lines] if lines else []


def text_of(r, directory):
    return "\n".join([
        "# Benchmark report", "",
        "Written by `make bench`; [README.md](README.md) says what is measured, and how.", "",
        *conditions(r), "## What it is to show", "", *targets_table(r),
        "## All cases", "", "A ratio compares neighbours of one round; below 1, this relay needs less.", "",
        *main_table(r), *plots(r, directory), *core_section(r), *workers_section(r),
        "## Throughput and latency", "", *quiet_table(r)]).rstrip() + "\n"


def save(r, directory):
    """report.md and its plots; every single measurement goes to results.json."""
    os.makedirs(directory, exist_ok=True)
    text = text_of(r, directory)
    with open(os.path.join(directory, "report.md"), "w", encoding="utf-8") as f:
        f.write(text)
    return text


def save_raw(r, path):
    named = {f"{'floor' if i is None else r.servers[i].name}/{key}": got for (i, key), got in r.taken.items()}
    named |= {"core": r.core, "workers": r.workers, "stall": r.stall}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(named, f, indent=1)
