"""Which home a command means, and the register of the indexes on this machine.

The register is a directory of links, one for each index, named like the index and pointing at its
home: `~/.config/ppctl/indexes` for one user's, `/etc/ppctl/indexes` for the machine's.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ppctl import xdg
from ppctl.errors import PpctlError, UsageError
from ppctl.host import Host, is_trusted
from ppctl.layout import SETTINGS_NAME
from ppctl.settings import Mode

SYSTEM_REGISTER = Path("/etc/ppctl/indexes")
SYSTEM_HOMES = Path("/srv")
"""Where homes of the machine's indexes go by default: data that is served (FHS 3.0, section 3.17)."""


def user_register() -> Path:
    """Return the directory of links to this user's homes (XDG base directory specification)."""
    return xdg.config(os.environ, Path.home()) / "ppctl" / "indexes"


def register_of(mode: Mode) -> Path:
    """Return the register that an index of `mode` is entered in."""
    return SYSTEM_REGISTER if mode is Mode.SYSTEM else user_register()


def default_home() -> Path:
    """Return the home that is used when nothing else says which (XDG base directory specification)."""
    return xdg.data(os.environ, Path.home()) / "ppctl" / "pypi"


def command(home: Path, *words: str) -> str:
    """Return what to type for `ppctl WORDS` to mean the index at `home`; the first word may be several."""
    option = [] if home == default_home() else ["-C", str(home)]
    return shlex.join(["ppctl", *words[0].split(), *option, *words[1:]])


def registered(host: Host) -> dict[str, Path]:
    """Return the homes of the indexes registered on this machine that are still there, by name.

    Those that this user may not look into are left out.
    """
    return {name: home for name, home in _entries(host) if _is_there(host, home)}


def _entries(host: Host) -> list[tuple[str, Path]]:
    found = []
    for register in (SYSTEM_REGISTER, user_register()):
        for name in host.list(register):
            entry = host.stat(register / name)
            if entry and entry.kind == "link":
                found.append((name, Path(entry.target)))
    return found


def _is_there(host: Host, home: Path) -> bool | None:
    """Return whether there is an index at `home`; None when this user may not know."""
    try:
        return host.stat(home / SETTINGS_NAME) is not None
    except PpctlError:
        return None


def find(host: Host, asked: Path | None) -> Path:
    """Return the home a command means, as an absolute path.

    In this order: `asked` (`-C HOME`), `PPCTL_HOME`, the working directory if it has a `ppctl.yml`, the
    only index registered on this machine, `~/.local/share/ppctl/pypi`. Raises UsageError when several
    indexes are registered and nothing says which is meant, or when the one in the working directory is
    somebody else's.
    """
    if asked is None and os.environ.get("PPCTL_HOME"):
        asked = Path(os.environ["PPCTL_HOME"])
    if asked is not None:
        return absolute(asked)
    if here := _working_directory(host):
        return here
    known = registered(host)
    if len(known) > 1:
        listed = ", ".join(f"{name} ({home})" for name, home in sorted(known.items()))
        raise UsageError(f"several indexes are registered on this machine: {listed}", "say which: -C HOME")
    if not known and host.stat(default_home() / SETTINGS_NAME) is None:
        # The machine's index, closed to this user: better told so than that there is none.
        closed = [home for _, home in _entries(host) if _is_there(host, home) is None]
        return closed[0] if len(closed) == 1 else default_home()
    return next(iter(known.values()), default_home())


def _working_directory(host: Host) -> Path | None:
    """Return the working directory if it is a home. Raises UsageError where somebody else has written it.

    What a `ppctl.yml` in /tmp says is not done because somebody happens to be there.
    """
    # It has been removed, or is closed to this user (`sudo -u` in somebody's home).
    try:
        here = Path.cwd()
        found = host.stat(here / SETTINGS_NAME)
    except (FileNotFoundError, PermissionError, PpctlError):
        return None
    if found and not is_trusted(host, found.owner):
        raise UsageError(
            f"{here}: the {SETTINGS_NAME} here belongs to {found.owner}",
            f"if this index is meant, say so: -C {shlex.quote(str(here))}",
        )
    return here if found else None


def absolute(path: Path) -> Path:
    """Return `path` made absolute, without `..`; links in it stay, so that messages show what was typed.

    Raises UsageError for a path that means nothing.
    """
    try:
        return Path(os.path.abspath(path.expanduser()))
    except FileNotFoundError as e:
        raise UsageError(f"{path}: the working directory has been removed", "give an absolute path") from e
    except RuntimeError as e:
        raise UsageError(f"{path}: there is no such user", "give an absolute path") from e
