"""The access log of what is answered in the event loop: gunicorn's lines, several at once, never waiting."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import Any

from ppctl.server.logs import user_of
from ppctl.server.text import printable

_SECONDS = "[%d/%b/%Y:%H:%M:%S %z]"


class AccessLog:
    """Lines in `form` for the first access log of gunicorn's logger `log`."""

    def __init__(self, log: Any, form: str) -> None:
        self._form = form + "\n"
        streams = [handler.stream for handler in log.access_log.handlers if hasattr(handler, "stream")]
        self._file = streams[0].fileno() if streams else -1
        self._poll = select.poll()
        if streams:
            self._poll.register(self._file, select.POLLOUT)
        self._lines: list[str] = []
        self._now = ""
        self._second = 0
        self.is_stuck = False
        """Whether lines wait for whoever reads the log; meanwhile threads should do the waiting."""

    def add(self, environ: dict[str, Any], status: str, sent: int) -> None:
        """Add a line."""
        second = int(time.time())
        if second != self._second:
            self._second, self._now = second, time.strftime(_SECONDS)
        atoms = {
            "h": environ["REMOTE_ADDR"],
            "u": printable(user_of(environ) or "-").replace('"', '\\"'),
            "t": self._now,
            "m": environ["REQUEST_METHOD"],
            "U": environ["PATH_INFO"],
            "H": environ["SERVER_PROTOCOL"],
            "s": status[:3],
            "B": sent,
            "M": 0,
            "a": environ.get("HTTP_USER_AGENT", "-").replace('"', '\\"'),
        }
        self._lines.append(self._form % atoms)

    def write(self, *, wait: bool = False) -> None:
        """Write the lines, as far as that blocks nobody; all of them if it may be waited for."""
        while self._lines and self._file >= 0 and (wait or self._poll.poll(0)):
            # A pipe that can take something takes as much as this (pipe(7)).
            count, size = 0, 0
            while count < len(self._lines) and size + len(self._lines[count]) <= select.PIPE_BUF:
                size += len(self._lines[count])
                count += 1
            count = max(count, 1)
            with contextlib.suppress(OSError):  # nobody reads it any more
                os.write(self._file, "".join(self._lines[:count]).encode("utf-8", "replace"))
            del self._lines[:count]
        self.is_stuck = bool(self._lines)
