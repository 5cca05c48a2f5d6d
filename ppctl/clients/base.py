"""What all client files have in common: the entry that is written, and what a format can do."""

from __future__ import annotations

import abc
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from ppctl.errors import PpctlError, UsageError

RESERVED_NAMES = frozenset({"pypi", "testpypi", "main", "test"})
"""Names that mean something else: the public indexes to twine and poetry, repositories to hatch."""

HIDDEN = "HIDDEN"
"""Stands for the password wherever a text is shown that must not hold it."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Priority(str, Enum):
    """How an index stands beside the public one, in the clients that know the difference."""

    PRIMARY = "primary"
    SUPPLEMENTAL = "supplemental"
    EXPLICIT = "explicit"


@dataclass(frozen=True)
class Entry:
    """What a client file says about one index.

    `read_login`: listing or downloading needs a login. `replace`: another index in the same place is
    put aside (as a comment, so that `remove` brings it back) instead of being refused.
    """

    name: str
    simple_url: str
    upload_url: str
    user: str = ""
    password: str = ""
    read_login: bool = False
    priority: Priority = Priority.PRIMARY
    replace: bool = False

    @property
    def host(self) -> str:
        """The host name or address of the index."""
        return urlsplit(self.simple_url).hostname or ""

    @property
    def is_plain_http(self) -> bool:
        """Whether what is sent can be read on the way: http to another machine."""
        return urlsplit(self.simple_url).scheme == "http" and not is_loopback(self.host)

    @property
    def environment_name(self) -> str:
        """The name as it stands in environment variables."""
        return re.sub(r"[^A-Z0-9]", "_", self.name.upper())

    @property
    def reading_url(self) -> str:
        """The URL to install from, with the login in it if reading needs one (RFC 3986, percent-encoded)."""
        return self.with_login(self.simple_url) if self.read_login else self.simple_url

    def with_login(self, url: str) -> str:
        """Return `url` with the user and the password that are known in it, percent-encoded."""
        if not self.user:
            return url
        login = quote(self.user, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        return url.replace("://", f"://{login}@", 1)

    def hidden(self) -> Entry:
        """Return the entry with the password hidden, to be shown."""
        return replace(self, password=HIDDEN) if self.password else self


class Client(Protocol):
    """One format of client files. All methods are pure: text in, text out."""

    @property
    def name(self) -> str:
        """What is typed: `ppctl client NAME`."""

    @property
    def description(self) -> str:
        """What the file is for, in one line."""

    @property
    def private(self) -> bool:
        """Whether such files are only for their owner's eyes, whatever we write into them."""

    @property
    def must_exist(self) -> bool:
        """Whether the file belongs to something else (a project) and is not created."""

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:
        """Return the file that is written without --file."""

    def at(self, path: Path) -> Client:
        """Return the format for the file `path`: some clients have several kinds of files."""

    def has_secret(self, entry: Entry) -> bool:
        """Return whether what is written for `entry` holds a password."""

    def render(self, entry: Entry) -> str:
        """Return the text of our section, a valid file when alone. Raises Refused."""

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with our section in it and all else as it was. Raises Refused."""

    def remove(self, text: str, name: str) -> str:
        """Return `text` as it was before `merge` put in the section of the index `name`."""

    def cautions(self, text: str, entry: Entry) -> list[str]:
        """Return what in the file `text` a person should be warned of."""

    def notes(self, entry: Entry, path: Path) -> list[str]:
        """Return what else to do or to type, for people."""


class Refused(PpctlError):
    """The section cannot go into this file as it is; nothing was changed."""


class Format(abc.ABC):
    """What most formats have in common: one kind of file, the user's own, that may hold a password."""

    name: str
    description: str

    @property
    def private(self) -> bool:
        """Whether such files are only for their owner's eyes: no."""
        return False

    @property
    def must_exist(self) -> bool:
        """Whether the file belongs to something else: no."""
        return False

    @abc.abstractmethod
    def default_path(self, env: Mapping[str, str], home: Path) -> Path:
        """Return the file that is written without --file."""

    def at(self, path: Path) -> Client:  # noqa: ARG002
        """Return this format: there is only one."""
        return self

    def has_secret(self, entry: Entry) -> bool:
        """Return whether there is a password to write."""
        return bool(entry.user and entry.password)

    def render(self, entry: Entry) -> str:
        """Return our section, a valid file when alone. Raises Refused."""
        return self.merge("", entry)

    @abc.abstractmethod
    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with our section. Raises Refused."""

    @abc.abstractmethod
    def remove(self, text: str, name: str) -> str:
        """Return `text` without our section."""

    def cautions(self, text: str, entry: Entry) -> list[str]:  # noqa: ARG002
        """Return no warnings."""
        return []

    @abc.abstractmethod
    def notes(self, entry: Entry, path: Path) -> list[str]:
        """Return what else to do or to type."""


@dataclass(frozen=True)
class FormatWithProjects(Format):
    """A format of the user's own file and, `in_project`, of a `pyproject.toml`, which holds no password."""

    in_project: bool = False

    @property
    def must_exist(self) -> bool:
        """Whether it is a project's file."""
        return self.in_project

    def at(self, path: Path) -> Client:
        """Return the format for a project if `path` is a `pyproject.toml`."""
        return replace(self, in_project=path.name == "pyproject.toml")

    def has_secret(self, entry: Entry) -> bool:
        """Return whether there is a password to write; a project's file never has one."""
        return not self.in_project and super().has_secret(entry)


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine, for pip too (its list of secure origins)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def client_name(index_name: str) -> str:
    """Return the name of an index in client files: its own, unless a client means something else by it."""
    return f"private-{index_name}" if index_name in RESERVED_NAMES else index_name


def from_url(url: str, name: str) -> Entry:
    """Return the entry for the index at `url` (with or without `/simple`). Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for an index: small letters, digits and -, beginning with a letter",
            "choose another: --name NAME",
        )
    if name in RESERVED_NAMES:
        raise UsageError(
            f"the name {name} means something else to the clients (twine, poetry, hatch)",
            f"choose another, such as --name {client_name(name)}",
        )
    base = _checked_url(url)
    return Entry(name, f"{base}/simple/", f"{base}/")


def _checked_url(url: str) -> str:
    hint = "give the URL of the index, such as https://pypi.example.com"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        valid = False
    if not valid or parts.query or parts.fragment or re.search(r"[^\x21-\x7e]|[\"'<>\\^`{|}$]", url):
        raise UsageError(f"{_without_login(url)!r} is not the URL of an index", hint)
    if "@" in parts.netloc:
        raise UsageError(
            "a login does not belong into --url (others can see the arguments of a process)",
            "give it with --user NAME --with-password",
        )
    return url.rstrip("/").removesuffix("/simple").rstrip("/")


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def check_login(user: str, password: str) -> None:
    """Check that HTTP can carry this login at all (RFC 7617). Raises UsageError."""
    if _CONTROL.search(user + password):
        raise UsageError("user names and passwords cannot hold control characters (RFC 7617)")
    if ":" in user:
        raise UsageError(f"{user!r}: a user name cannot hold a colon (RFC 7617)")
    if user != user.strip():
        raise UsageError(f"{user!r}: a user name cannot begin or end with a blank")


def login_cautions(entry: Entry) -> list[str]:
    """Return warnings for a login that some clients cannot send."""
    if entry.password.isascii() and entry.user.isascii():
        return []
    return [
        "pip, twine and poetry send letters outside of ASCII in a way that the index does not understand "
        "(Latin-1 for UTF-8): such a login works with uv only"
    ]
