"""One index: its settings and where its files are."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ppctl import homes
from ppctl import settings as settings_module
from ppctl.errors import PpctlError, UsageError
from ppctl.host import Host
from ppctl.layout import MAX_HOME_BYTES, Layout
from ppctl.settings import Mode, Settings

# What needs no quoting in a shell script, a supervisor section and a systemd unit alike.
SAFE_PATH = re.compile(r"/[A-Za-z0-9._/@+~-]+")

FILE_MODE = 0o640
"""Mode of the home's files: the service account (by its group) may read them, others may not."""


@dataclass(frozen=True)
class Index:
    """One private package index: what the operator asked for (`settings`) and its paths (`layout`)."""

    layout: Layout
    settings: Settings

    @property
    def home(self) -> Path:
        """The index's directory."""
        return self.layout.home

    @property
    def is_system(self) -> bool:
        """Whether the index belongs to the machine (and only root changes it)."""
        return self.settings.mode is Mode.SYSTEM

    @property
    def owner(self) -> str | None:
        """Owner of the home's files: root in system mode; None: whoever runs ppctl."""
        return "root" if self.is_system else None

    def group(self, host: Host) -> str | None:
        """Return the group that the workers read the home's files by; None in embedded mode."""
        return host.primary_group(self.settings.account) if self.is_system else None

    def write(self, host: Host, path: Path, content: bytes, mode: int = FILE_MODE) -> None:
        """Replace a file of the home atomically, with the owner and group that such files have."""
        host.write(path, content, mode=mode, owner=self.owner, group=self.group(host))


def check_home(host: Host, home: Path) -> None:
    """Check that `home` can be the home of an index, whether there is one or not. Raises UsageError."""
    length = len(os.fsencode(home))
    if length > MAX_HOME_BYTES:
        raise UsageError(
            f"{home}: too long for a home: {length} bytes, at most {MAX_HOME_BYTES}"
            " (its UNIX sockets must fit into 108)",
            "choose a shorter path with -C",
        )
    if not SAFE_PATH.fullmatch(str(home)):
        raise UsageError(
            f"{home}: a home's path may hold letters, digits and . _ - + @ ~ only"
            " (it goes into a shell script and the manager's configuration)",
            "choose another path with -C",
        )
    for path in (home, *home.parents):
        found = host.stat(path)
        if found and found.kind not in ("directory", "link"):
            raise UsageError(
                f"{home}: a home is a directory, and {path} is a file", "choose another path with -C"
            )
        if found:
            return


def load(host: Host, home: Path) -> Index:
    """Return the index at `home`. Raises UsageError when there is none or its settings are wrong."""
    check_home(host, home)
    layout = Layout(home)
    content = host.read(layout.settings)
    if content is None:
        raise UsageError(
            f"{home}: there is no index here (no ppctl.yml)",
            f"say where yours is: -C HOME; or create one: {homes.command(home, 'init')}",
        )
    return Index(layout, settings_module.load(layout.settings, content))


def load_to_look(host: Host, home: Path) -> Index:
    """Return the index at `home`, with default settings where only its users are left. Raises UsageError.

    It is for dry runs: a playbook tells in one what it will do to the users after it has mended `ppctl.yml`.
    """
    try:
        return load(host, home)
    except UsageError:
        if host.stat(Layout(home).htpasswd) is None:
            raise
        return with_settings(host, home, b"{}")


@contextlib.contextmanager
def locked(index: Index, host: Host, *, purpose: str, wait: bool) -> Iterator[Index]:
    """Hold the lock of `index`, and give it as it is then: whoever was waited for may have changed it."""
    with host.lock(index.layout.lock, purpose=purpose, wait=wait):
        yield load(host, index.home)


def with_settings(host: Host, home: Path, content: bytes) -> Index:
    """Return the index at `home` as it will be when its `ppctl.yml` has this content. Raises UsageError."""
    check_home(host, home)
    layout = Layout(home)
    return Index(layout, settings_module.load(layout.settings, content))


def require_access(index: Index, host: Host) -> None:
    """Check that this user may change the index. Raises PpctlError."""
    if index.is_system and not host.is_root():
        raise PpctlError(
            f"{index.home}: this index belongs to the machine (mode: system), and you are {host.user()}",
            "run the command with sudo",
        )
    home = host.stat(index.home)
    if not index.is_system and host.is_root() and home and home.owner != host.user():
        # Files that root makes here would be closed to the index's owner and to its workers.
        raise PpctlError(
            f"{index.home}: this index belongs to {home.owner} (mode: embedded), and you are {host.user()}",
            f"run the command as that user: sudo -u {home.owner} ppctl ...",
        )


def require_account(index: Index, host: Host) -> None:
    """Check that the account is there that is to read what is written. Raises PpctlError."""
    account = index.settings.account
    if index.is_system and not host.account_exists(account):
        raise PpctlError(
            f"{index.home}: there is no account {account} yet: this index was never up",
            f"make both: {homes.command(index.home, 'up')}",
        )
