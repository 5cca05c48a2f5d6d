"""What ends ppctl in order: Ctrl-C, and what counts as one, so that nothing is left half-done."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; what systemd, timeout(1) and a shutdown send; the end of the terminal or of the ssh session."""

AGAIN_SECONDS = 0.05

Handler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Let `handler` be called for these signals in a `with` block; those that are ignored (nohup) stay so.

    It is called again where Python drops the KeyboardInterrupt that it raises.
    """
    if threading.current_thread() is not threading.main_thread():  # where they never arrive
        yield
        return
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if number == signal.SIGHUP:  # sent by the kernel and by the shell: once is enough
            signal.signal(number, signal.SIG_IGN)
        handler(number, frame)

    heeded = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, hear)) for number in heeded]
    try:
        with _sending_again(heard, hear):
            yield
    finally:
        for number, old in before:
            # In an outer block what has been heard once stays ignored.
            if old is signal.SIG_DFL or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, old)


@contextlib.contextmanager
def _sending_again(heard: Sequence[int], hear: Handler) -> Iterator[None]:
    """Send the last signal again, a moment later, when the KeyboardInterrupt that it raised was dropped.

    Python passes on nothing that is raised between a fork and its exec, or in a finaliser
    (sys.unraisablehook), and would go on as if nothing had been typed.
    """
    hook = sys.unraisablehook
    timers: list[threading.Timer] = []

    def send_again(dropped: sys.UnraisableHookArgs) -> None:
        if dropped.exc_type is not KeyboardInterrupt or not heard:
            hook(dropped)
            return
        signal.signal(heard[-1], hear)
        main = threading.main_thread().ident
        timers.append(threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, heard[-1])))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for timer in timers:
            timer.cancel()
