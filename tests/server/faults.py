"""Faults while something is written: each call that changes the disk is a step, and one goes wrong."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from ppctl.server import store

STEPS = ("mkdir", "open", "write", "ftruncate", "fsync", "link", "rename", "replace", "unlink", "rmdir")
"""The functions of `os` that change something; `open` counts when it makes a file."""


class Steps:
    """Counts the steps, and calls `fault` instead of the one with a number. 0: never."""

    def __init__(self, number: int, fault: Callable[[], None]) -> None:
        self._number = number
        self._fault = fault
        self.count = 0

    def step(self, *_: object) -> None:
        self.count += 1
        if self.count == self._number:
            self._fault()

    @contextlib.contextmanager
    def watching(self, names: tuple[str, ...] = STEPS, *, statements: bool = False) -> Iterator[None]:
        """Count the calls of these functions meanwhile, and the `statements` that change the catalogue."""
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(mock.patch.object(os, name, self._watched(name, getattr(os, name))))
            if statements:
                connect = store.connect

                def traced(path: Any) -> Any:
                    made = connect(path)
                    made.set_trace_callback(
                        lambda sql: None if sql.startswith(("SELECT", "PRAGMA")) else self.step()
                    )
                    return made

                stack.enter_context(mock.patch.object(store, "connect", traced))
            yield

    def _statement(self, sql: str) -> None:
        if not sql.startswith(("SELECT", "PRAGMA")):
            self.step()

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            makes = name != "open" or (len(args) > 1 and args[1] & os.O_CREAT)
            if makes:
                self.step()
            return real(*args, **more)

        return call
