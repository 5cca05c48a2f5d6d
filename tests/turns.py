"""Two ppctl at once, of which one has to wait for the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ppctl.local_host import LocalHost
from tests.fake_host import FakeHost


def behind_another(
    monkeypatch: pytest.MonkeyPatch, host: type[FakeHost | LocalHost], other: Callable[[], object]
) -> None:
    """Let `other` happen, once, before whoever comes next to a lock gets it."""
    lock, others = host.lock, [other]

    def wait(*of: Any, **options: Any) -> Any:
        if others:
            others.pop()()
        return lock(*of, **options)

    monkeypatch.setattr(host, "lock", wait)
