"""What every part of the comparison needs."""

import contextlib
import os
import resource
import sys

OUT = "_build/bench"
TURNBENCH = os.path.join(OUT, "turnbench")
CORE = os.path.join(OUT, "core")
DESCRIPTORS_WANTED = 131072


def raise_descriptors():
    """How many sockets a server may have: each allocation takes one."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS_WANTED, DESCRIPTORS_WANTED))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return DESCRIPTORS_WANTED if most == resource.RLIM_INFINITY else most


DESCRIPTORS = raise_descriptors()


class Failed(Exception):
    """A measurement that came to nothing: others may still succeed."""


def fail(text):
    sys.exit(f"bench: {text}")


def say(text):
    print(text, file=sys.stderr, flush=True)
