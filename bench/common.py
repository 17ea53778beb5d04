"""What every part of the comparison needs."""

import os
import sys

OUT = "_build/bench"
TURNBENCH = os.path.join(OUT, "turnbench")
CORE = os.path.join(OUT, "core")


class Failed(Exception):
    """A measurement that came to nothing: others may still succeed."""


def fail(text):
    sys.exit(f"bench: {text}")


def say(text):
    print(text, file=sys.stderr, flush=True)
