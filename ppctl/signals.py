"""What ends ppctl in order: Ctrl-C, and what counts as one, so that nothing is left half-done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; what systemd, timeout(1) and a shutdown send; the end of the terminal or of the ssh session."""

Handler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Let `handler` be called for these signals in a `with` block; those that are ignored (nohup) stay so."""
    if threading.current_thread() is not threading.main_thread():  # where they never arrive
        yield
        return

    def hear(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:  # sent by the kernel and by the shell: once is enough
            signal.signal(number, signal.SIG_IGN)
        handler(number, frame)

    heeded = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, hear)) for number in heeded]
    try:
        yield
    finally:
        for number, old in before:
            # In an outer block what has been heard once stays ignored.
            if old is signal.SIG_DFL or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, old)
