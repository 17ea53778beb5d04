"""The table in docs/interop.md: written by a run, and checked by the others against their cases."""

import importlib.metadata
import re
import shutil
import subprocess

from support import check, check_equal

FILE = "docs/interop.md"
# How uclient is started for each; what is run where is told of its modes.
TRANSPORTS = ("udp", "tcp", "tls", "dtls")
BEGIN, END = "<!-- begin: test/interop/run --table -->", "<!-- end -->"
COLUMNS = ("client", "version", "transport", "what is done", "result")
MODE_COLUMNS = ("mode", "what it asks of the server", "cases that passed")
VERSION = re.compile(r"\d+(\.\d+)+\S*")


def said(*argv):
    """The version in the last line that has one of what a program says."""
    if not shutil.which(argv[0]):
        return "-"
    text = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False).stdout
    found = [VERSION.search(line) for line in text.splitlines()]
    return next((match[0] for match in reversed(found) if match), "-")


def packaged(package):
    """Of libraries that do not say their version themselves."""
    return said("dpkg-query", "-W", "-f", "${Version}\n", package)


def coturn():
    return said("turnserver", "--version")


VERSIONS = {
    "uclient": coturn, "stunclient": coturn, "natdiscovery": coturn,
    "aioice": lambda: importlib.metadata.version("aioice"),
    "libnice": lambda: packaged("libnice10"),
    "pion": lambda: packaged("golang-github-pion-turn.v2-dev"),
    "Firefox": lambda: said("firefox-esr", "--version"),
}


def system():
    with open("/etc/os-release", encoding="utf-8") as f:
        return re.search(r'^PRETTY_NAME="?([^"\n]*)', f.read(), re.M)[1]


def row(cells):
    return f"| {' | '.join(cells)} |\n"


def rows(outcomes):
    """`outcomes` is [(case, verdict and why)]."""
    versions = {client: VERSIONS[client]() for client in {case.client for case, _ in outcomes}}
    yield row(COLUMNS)
    yield row(["---"] * len(COLUMNS))
    for case, result in outcomes:
        yield row((case.client, versions[case.client], case.transport.upper(), case.what, result))


def passed(outcomes):
    """How many cases, by transport; and how many of how many where one did not pass."""
    for transport in TRANSPORTS:
        results = [result for case, result in outcomes if case.transport == transport]
        good = results.count("ok")
        if results:
            total = "" if good == len(results) else f" of {len(results)}"
            yield f"{good}{total} over {transport.upper()}"


def mode_rows(modes, outcomes):
    yield row(MODE_COLUMNS)
    yield row(["---"] * len(MODE_COLUMNS))
    for mode, asks in modes.items():
        of_mode = [(case, result) for case, result in outcomes if mode in case.flags]
        yield row((f"`{mode}`", asks, ", ".join(passed(of_mode)) or "not run"))


def split(text):
    """What comes before the table, the table, and what comes after."""
    check(BEGIN in text and END in text, f"{FILE} has not both of {BEGIN} and {END}")
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    return before, table, after


def write(file, outcomes, modes):
    with open(file, encoding="utf-8") as f:
        before, _, after = split(f.read())
    with open(file, "w", encoding="utf-8") as f:
        f.write(f"{before}{BEGIN}\nOn {system()}:\n\n{''.join(rows(outcomes))}\n"
                "The modes of turnutils_uclient, and how many of those cases are in each:\n\n"
                f"{''.join(mode_rows(modes, outcomes))}{END}{after}")


def check_cases(cases):
    """Versions and results are of the machine that wrote the table; the cases are everybody's."""
    with open(FILE, encoding="utf-8") as f:
        _, table, _ = split(f.read())
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")]
             for line in table.splitlines() if line.startswith("|")]
    lines = [line for line in lines if len(line) == len(COLUMNS)]
    listed = {(line[0], line[2].lower(), line[3]) for line in lines[2:]}
    run = {(case.client, case.transport, case.what) for case in cases}
    how = f"{FILE}: test/interop/run --table {FILE} writes it anew; cases"
    check_equal(f"{how} that it lacks", sorted(run - listed), [])
    check_equal(f"{how} that are no more", sorted(listed - run), [])
