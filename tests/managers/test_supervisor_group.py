"""The index's group in supervisord, and what else may have its name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from ppctl.deployment import Deployment
from ppctl.errors import PpctlError
from ppctl.managers.supervisor import Supervisor
from ppctl.settings import ManagerName, Mode
from tests.fake_host import FakeHost


def processes(*infos: dict[str, Any]) -> list[Any]:
    deployment = Deployment(
        "pypi", ManagerName.SUPERVISOR, Mode.EMBEDDED, Path("/srv/pypi"), "127.0.0.1", 3141, 2
    )
    manager = Supervisor(deployment, FakeHost())
    rpc = SimpleNamespace(getAllProcessInfo=lambda: list(infos))
    with mock.patch.object(manager.supervisord, "rpc", lambda: rpc):
        return manager.processes()


def info(group: str, name: str) -> dict[str, Any]:
    return {"group": group, "name": name, "statename": "RUNNING", "pid": 7, "start": 1, "spawnerr": ""}


def test_only_the_own_group_counts() -> None:
    found = processes(info("pypi", "worker-2"), info("other", "worker-1"), info("pypi", "worker-1"))
    assert [process.number for process in found] == [1, 2]


def test_a_program_of_the_same_name_is_told_apart() -> None:
    """A hand-made [program:pypi] in conf.d is usual where ppctl takes over."""
    with pytest.raises(PpctlError, match="a program pypi that is not this index's") as e:
        processes(info("pypi", "pypi"))
    assert "`name` in ppctl.yml" in e.value.hint
