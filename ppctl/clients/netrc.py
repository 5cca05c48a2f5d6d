"""`~/.netrc`: the login for a host, which pip, uv and poetry look up.

Format: https://www.gnu.org/software/inetutils/manual/html_node/The-_002enetrc-file.html and the
standard library's `netrc`. Our entry goes to the top: programs that take the first match (curl) never
look below a `default`, and a macro at the end would swallow it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ppctl.clients import blocks
from ppctl.clients.base import Entry, Format, Refused, check_login
from ppctl.errors import UsageError

# What all readers take literally: netrc has no escapes that curl, requests and uv agree on.
_PLAIN = re.compile(r"[!$-\[\]-~][!#-\[\]-~]*")


@dataclass(frozen=True)
class Netrc(Format):
    """The format of `~/.netrc`."""

    name: str = "netrc"
    description: str = "login for pip, uv, poetry, curl: read"

    @property
    def private(self) -> bool:
        """Whether it is only for its owner's eyes: always."""
        return True

    def default_path(self, env: Mapping[str, str], home: Path) -> Path:
        """Return `~/.netrc`, or `NETRC`."""
        return Path(env["NETRC"]) if env.get("NETRC") else home / ".netrc"

    def has_secret(self, entry: Entry) -> bool:  # noqa: ARG002
        """Return True: a password is what it is for."""
        return True

    def merge(self, text: str, entry: Entry) -> str:
        """Return `text` with the login for the index's host at its top. Raises Refused."""
        check_login(entry.user, entry.password)
        _check_words(entry)
        line = f"machine {entry.host} login {entry.user} password {entry.password}"
        if blocks.has(text, entry.name):
            return blocks.update(text, entry.name, [line])
        if entry.host in _machines(text):
            raise Refused(
                f"there is a login for {entry.host} already that ppctl did not write "
                "(netrc knows one for each host, whatever the port)",
                "remove it first, or use another client file",
            )
        return "".join(blocks.insert(blocks.split(text), 0, entry.name, [line]))

    def remove(self, text: str, name: str) -> str:
        """Return `text` without our login."""
        return blocks.take_out(text, name)

    def cautions(self, text: str, entry: Entry) -> list[str]:  # noqa: ARG002
        """Return a warning that the login goes to the whole host."""
        return [f"a netrc login is sent to every service on {entry.host}: it has no ports"]

    def notes(self, entry: Entry, path: Path) -> list[str]:
        """Return who reads it, and who does not."""
        where = "" if path.name == ".netrc" else f"NETRC={path} "
        return [
            f"{where}pip install --index-url {entry.simple_url} PACKAGE",
            "twine and uv publish do not read it: ppctl pypirc, ppctl client uv",
        ]


def _check_words(entry: Entry) -> None:
    for what, word in (("user name", entry.user), ("password", entry.password)):
        if not word:
            raise UsageError(
                f"a netrc entry is nothing but a login, and the {what} is missing",
                "give it: --user NAME --with-password",
            )
        if not _PLAIN.fullmatch(word):
            reason = "blanks" if re.search(r"\s", word) else "only ASCII"
            if word.isascii() and not re.search(r"\s", word):
                reason = 'no " and \\, and no # at the beginning'
            takes = "takes no blanks" if reason == "blanks" else f"takes {reason}"
            raise UsageError(
                f"this {what} cannot stand in a netrc file, which {takes}",
                "choose another one, or another client file (ppctl client --list)",
            )


def _machines(text: str) -> set[str]:
    """Return the hosts that have a login; words in comments and macros do not matter much here."""
    lines = [line for line in blocks.split(text) if not line.lstrip().startswith("#")]
    words = " ".join(lines).split()
    return {after for word, after in itertools.pairwise(words) if word == "machine"}
