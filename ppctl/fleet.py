"""The only code that runs ansible-playbook; inventory, vault, become and jump hosts stay Ansible's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppctl.errors import PpctlError

COLLECTION = Path(__file__).parent / "ansible"
OK, FAILED, UNREACHABLE, NOT_BEGUN = "ok", "failed", "unreachable", "not begun"


@dataclass(frozen=True)
class Target:
    """Which hosts: an Ansible pattern, in an inventory (none: Ansible's own default)."""

    pattern: str
    inventory: str = ""
    index: str = ""
    home: str = ""
    ask_become_password: bool = False
    ask_vault_password: bool = False

    @property
    def options(self) -> list[str]:
        """The options for ansible-playbook."""
        options = ["--inventory", self.inventory] if self.inventory else []
        options += ["--ask-become-pass"] if self.ask_become_password else []
        return options + (["--ask-vault-pass"] if self.ask_vault_password else [])


@dataclass
class HostResult:
    """How it went on one host. `parts`: what the modules returned, one for each index."""

    host: str
    state: str = NOT_BEGUN
    changed: bool = False
    message: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)


def run(
    playbook: str,
    target: Target,
    variables: Mapping[str, Any],
    tell: Callable[[HostResult], None],
    *,
    options: Sequence[str] = (),
) -> list[HostResult]:
    """Run a playbook of the collection and return how it went, host by host in the play's order.

    `tell` is called whenever a host has come a step further. `variables` may be secret: they travel in a file
    that only this user can read, and that is gone afterwards. Raises PpctlError when Ansible itself fails.
    """
    found: dict[str, HostResult] = {}
    with _variables_file(variables) as path:
        argv = [_ansible_playbook(), str(COLLECTION / playbook), *target.options, *options]
        code, errors = _play([*argv, "--extra-vars", f"@{path}"], found, tell)
    if not found:
        reason = errors.strip() or f"ansible-playbook ended with exit code {code}"
        if code == 0:
            reason = f"no host of the inventory matches {target.pattern!r}\n{reason}".strip()
        raise PpctlError(
            reason, "name the inventory: -i INVENTORY; `ansible-inventory --graph` shows its hosts"
        )
    return list(found.values())


def _play(
    argv: list[str], found: dict[str, HostResult], tell: Callable[[HostResult], None]
) -> tuple[int, str]:
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment()
        ) as process,
    ):
        assert process.stdout  # noqa: S101 - asked for above
        for line in process.stdout:
            with contextlib.suppress(ValueError):  # a warning of somebody's plugin
                _take(json.loads(line), found, tell)
        code = process.wait()
        errors.seek(0)
        return code, errors.read()


def _take(event: Any, found: dict[str, HostResult], tell: Callable[[HostResult], None]) -> None:
    if not isinstance(event, dict):
        return
    if event.get("event") == "hosts":
        for name in event["hosts"]:
            found.setdefault(name, HostResult(name))
    elif event.get("event") == "result":
        result = found.setdefault(event["host"], HostResult(event["host"]))
        if event["state"] != OK and event["action"] == "ansible.builtin.fail" and result.state == NOT_BEGUN:
            return  # the play tells this host that an earlier one has failed
        result.state = event["state"]
        result.changed = result.changed or event["changed"]
        result.message = event["message"] if event["state"] != OK else ""
        if event["action"].startswith("ppctl.fleet.") or event["state"] != OK:
            result.parts += event["parts"]
            tell(result)


def _ansible_playbook() -> str:
    beside = Path(sys.executable).with_name("ansible-playbook")
    found = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    if not found:
        raise PpctlError("--on needs Ansible, and it is not installed", "pip install 'ppctl[fleet]'")
    return found


def _environment() -> dict[str, str]:
    paths = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "")
    ours = {
        "ANSIBLE_STDOUT_CALLBACK": "ppctl.fleet.events",
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(filter(None, [str(COLLECTION / "collections"), paths])),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
    }
    # Five at a time is Ansible's default, and made for longer tasks than ours.
    return {"ANSIBLE_FORKS": "20", **os.environ, **ours}


@contextlib.contextmanager
def _variables_file(variables: Mapping[str, Any]) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ppctl-"))  # 0700
    try:
        path = folder / "variables.json"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(dict(variables), file)
        yield path
    finally:
        shutil.rmtree(folder)
