"""How processes under supervisor are stopped: asked until they have heard it, and waited for.

It is not supervisord's answer that is waited for: workers and the cache program finish their transfers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TypeVar

from ppctl.errors import PpctlError
from ppctl.managers import Process, label
from ppctl.managers.supervisor_rpc import Ending, Silent
from ppctl.managers.supervisord import SHUTDOWN_TIMEOUT

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds for which a supervisord that does not answer is asked again: on a busy machine it answers late."""

YOUNG, AGAIN, GIVE_UP = 2.0, 0.5, 10.0
"""Seconds: who is so young is asked again, how often, and for how long."""


def patiently(ask: Callable[[], T]) -> T:
    """Return what `ask` returns; it may be asked more than once. Raises PpctlError."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except Ending:
            raise
        except Silent:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def end(
    ask: Callable[[], object], listed: Callable[[], list[Process]], term: Callable[[int], object]
) -> None:
    """Ask the processes that `listed` returns to stop, with `ask`, and wait until they have.

    One that has just died is not asked, and supervisord starts it again: then it is. Raises PpctlError.
    """
    patiently(ask)
    wait(listed, term, again=ask)


def wait(
    listed: Callable[[], list[Process]],
    term: Callable[[int], object],
    again: Callable[[], object] | None = None,
) -> None:
    """Wait until those of the processes that are about to stop have; with `again` also for those that run.

    A TERM in the instant between fork and exec is caught by supervisord's own handler and lost, and
    supervisord would send KILL only after an hour (stopwaitsecs): the young are sent one again, with `term`,
    for some seconds, as on a busy machine that instant is long. Raises PpctlError.
    """
    asked, begun, told = time.time(), time.monotonic(), time.monotonic()
    woken: set[int] = set()
    while left := [each for each in patiently(listed) if each.state == "stopping" or (again and each.is_up)]:
        now = time.monotonic()
        stopping = [process for process in left if process.state == "stopping"]
        for process in stopping:
            if process.pid not in woken:
                woken.add(process.pid)
                _wake(process.pid)
        if again and len(stopping) < len(left):
            patiently(again)
        if told + AGAIN < now < begun + GIVE_UP:
            told = now
            for process in stopping:
                if process.since > asked - YOUNG:
                    term(process.number)
        if now > begun + SHUTDOWN_TIMEOUT:
            raise PpctlError(f"{label(left[0].number)} does not end")
        time.sleep(0.03)


def _wake(pid: int) -> None:
    """Let a worker go on that somebody has frozen (SIGSTOP): it would not hear that it is to stop."""
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGCONT)  # supervisord gives each of its processes a group
