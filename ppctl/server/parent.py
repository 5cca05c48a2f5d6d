"""Ending with the process that has started this one, where nobody else would ever stop it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent dies: graceful, as if it had told us to stop itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def end_with_manager() -> None:
    """Do that with the manager for a parent, where the environment says so. Exits when it has ended already.

    The kernel tells of an end that comes after it was asked; who the parent was before, the run script has
    noted, before it became this program.
    """
    if not os.environ.get("PPCTL_ENDS_WITH_MANAGER"):
        return
    end_with_parent()
    parent = str(os.getppid())
    if os.environ.get("PPCTL_MANAGER", parent) != parent:
        sys.exit("error: the manager has ended")
