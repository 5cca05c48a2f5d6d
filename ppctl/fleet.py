"""The only code that runs ansible-playbook; inventory, vault, become and jump hosts stay Ansible's."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
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
INTERRUPTED = "interrupted"
_LOOK, _GROUP = "ppctl.fleet.ppctl_pending", "ansible.builtin.add_host"
DEFAULTS = {
    # Hosts at a time. Ansible's own five are made for longer tasks than ours.
    "ANSIBLE_FORKS": ("defaults", "forks", "20"),
    # Ansible's own, and: a host that is gone in the middle is given up after 15 seconds, not never.
    "ANSIBLE_SSH_ARGS": (
        "ssh_connection",
        "ssh_args",
        "-C -o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=5 -o ServerAliveCountMax=3",
    ),
}
"""What Ansible is told unless the operator's ansible.cfg or environment says so: section, option, value."""

SILENT = {"ANSIBLE_VERBOSITY": "0", "ANSIBLE_DEBUG": "0"}
"""With -vvv Ansible logs what modules answer as it comes over the connection."""


_OF_ANSIBLE = re.compile(r"^(Task failed: |The (filter|lookup) plugin '[^']+' failed: )*")
"""What Ansible says before it comes to what is wrong."""


@dataclass(frozen=True)
class Target:
    """Which hosts: an Ansible pattern, in an inventory (none: Ansible's own default)."""

    pattern: str
    inventory: tuple[str, ...] = ()
    index: str = ""
    home: str = ""
    ask_become_password: bool = False
    ask_vault_password: bool = False

    @property
    def options(self) -> list[str]:
        """The options for ansible-playbook."""
        options = [option for path in self.inventory for option in ("--inventory", path)]
        options += ["--ask-become-pass"] if self.ask_become_password else []
        return options + (["--ask-vault-pass"] if self.ask_vault_password else [])

    def command(self, words: Sequence[str], hosts: Sequence[str]) -> str:
        """Return what to type for `ppctl WORDS` on some of these hosts."""
        options = [option for path in self.inventory for option in ("-i", path)]
        options += ["--index", self.index] if self.index else []
        options += ["-C", self.home] if self.home else []
        options += ["-K"] if self.ask_become_password else []
        options += ["--ask-vault-pass"] if self.ask_vault_password else []
        return shlex.join(["ppctl", *words, "--on", ",".join(hosts), *options])


@dataclass
class HostResult:
    """How it went on one host. `parts`: what the modules returned for each index.

    `step`: what came last, and `step_changed` whether that changed anything; `doing`: what it is at now, and
    "" when that is done.
    """

    host: str
    state: str = NOT_BEGUN
    changed: bool = False
    message: str = ""
    step: str = ""
    step_changed: bool = False
    doing: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)


def run(
    playbook: str,
    target: Target,
    variables: Mapping[str, Any],
    tell: Callable[[HostResult], None],
    *,
    options: Sequence[str] = (),
    is_secret: bool = False,
) -> list[HostResult]:
    """Run a playbook of the collection and return how it went, host by host in the play's order.

    `tell` is called whenever a host has come a step further. `variables` may be secret: they travel in a file
    that only this user can read, and that is gone afterwards. After Ctrl-C, hosts that have not answered are
    INTERRUPTED. `is_secret`: so is what the hosts answer, and Ansible logs nothing of it, with -vvv neither.
    Raises PpctlError when Ansible itself fails, KeyboardInterrupt when it had not begun.
    """
    found: dict[str, HostResult] = {}
    with _variables_file(variables) as path:
        argv = [_ansible_playbook(), str(COLLECTION / playbook), *target.options, *options]
        environment = {**_environment(), **(SILENT if is_secret else {})}
        code, errors = _play([*argv, "--extra-vars", f"@{path}"], environment, found, tell)
    if code is None:
        if not found:
            raise KeyboardInterrupt
        for result in found.values():
            if result.state == NOT_BEGUN:
                result.state = INTERRUPTED
    elif not found:
        raise _no_hosts(target, code, errors)
    return list(found.values())


def _play(
    argv: list[str],
    environment: Mapping[str, str],
    found: dict[str, HostResult],
    tell: Callable[[HostResult], None],
) -> tuple[int | None, str]:
    """Return Ansible's exit code, None after Ctrl-C, and what it said on stderr."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        assert process.stdout  # noqa: S101 - asked for above
        code: int | None = None
        try:
            for line in process.stdout:
                with contextlib.suppress(ValueError):  # a warning of somebody's plugin
                    _take(json.loads(line), found, tell)
            code = process.wait()
        except KeyboardInterrupt:
            # A terminal has told Ansible, too. Its connections end with it; nothing may go on unseen.
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()
        errors.seek(0)
        return code, errors.read()


def _no_hosts(target: Target, code: int, errors: str) -> PpctlError:
    """Return why Ansible had no host to work on, in its own words where there are no better ones."""
    hint = "name the inventory: -i INVENTORY; `ansible-inventory --graph` shows its hosts"
    if unknown := re.search(r"Could not match supplied host pattern, ignoring: (.*)", errors):
        return PpctlError(f"no host and no group of the inventory matches {unknown[1]!r}", hint)
    if "Unable to parse" in errors or "Failed to parse inventory" in errors:
        shown = [line for line in errors.splitlines() if "implicit localhost" not in line]
        return PpctlError("the inventory cannot be read:\n" + "\n".join(shown).strip(), hint)
    if "No inventory was parsed" in errors:
        return PpctlError("there is no inventory to look for hosts in", hint)
    if code == 0 or "leaves us with no hosts" in errors:
        return PpctlError(f"no host of the inventory matches {target.pattern!r}", hint)
    return PpctlError(errors.strip() or f"ansible-playbook ended with exit code {code}", hint)


def _take(event: Any, found: dict[str, HostResult], tell: Callable[[HostResult], None]) -> None:
    if not isinstance(event, dict):
        return
    if event.get("event") == "hosts":
        for name in event["hosts"]:
            found.setdefault(name, HostResult(name))
    elif event.get("event") == "start":
        result = found.setdefault(event["host"], HostResult(event["host"]))
        result.doing = event["step"]
        tell(result)
    elif event.get("event") == "skipped" and event["host"] in found:
        found[event["host"]].doing = ""
    elif event.get("event") == "result":
        result = found.setdefault(event["host"], HostResult(event["host"]))
        result.doing = ""
        if event["action"] == _GROUP:
            return
        if event["state"] != OK and event["action"] == "ansible.builtin.fail" and result.state == NOT_BEGUN:
            return  # the play tells this host that an earlier one has failed
        # A host that was only looked at, and where something is to be done, waits for its turn.
        is_look = event["action"] == _LOOK and any(part.get("pending") for part in event["parts"])
        result.state = NOT_BEGUN if is_look else event["state"]
        result.changed = result.changed or event["changed"]
        result.message = _OF_ANSIBLE.sub("", event["message"]) if event["state"] != OK else ""
        if event["action"].startswith("ppctl.fleet.") or event["state"] != OK:
            result.step = event.get("step", "")
            result.step_changed = event["changed"]
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
    ours["ANSIBLE_HOST_PATTERN_MISMATCH"] = "error"  # a name with a typo is no host that is done
    theirs = _ansible_cfg()
    defaults = {
        name: value
        for name, (section, option, value) in DEFAULTS.items()
        if not theirs.has_option(section, option)
    }
    return {**defaults, **os.environ, **ours}


def _ansible_cfg() -> configparser.RawConfigParser:
    """Return the operator's ansible.cfg, found where Ansible finds it; empty where there is none."""
    parser = configparser.RawConfigParser(strict=False)
    paths = [
        os.environ.get("ANSIBLE_CONFIG", ""),
        "ansible.cfg",
        "~/.ansible.cfg",
        "/etc/ansible/ansible.cfg",
    ]
    found = next((path for each in paths if each and (path := Path(each).expanduser()).is_file()), None)
    if found:
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read(found, encoding="utf-8")
    return parser


@contextlib.contextmanager
def _variables_file(variables: Mapping[str, Any]) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ppctl-"))  # 0700
    try:
        path = folder / "variables.json"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(_as_texts(dict(variables)), file)
        yield path
    finally:
        shutil.rmtree(folder)


def _as_texts(value: Any) -> Any:
    """Return `value` so that Ansible takes its texts for what they are, and none for a template.

    Names come from hosts (`users copy`): `{{ lookup(…) }}` in one would run on this machine.
    """
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, dict):
        return {name: _as_texts(each) for name, each in value.items()}
    return [_as_texts(each) for each in value] if isinstance(value, (list, tuple)) else value
