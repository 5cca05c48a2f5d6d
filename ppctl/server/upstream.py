"""What happens with a name that is not in this index: the one place where it is decided.

A name may be asked about elsewhere only if nobody here can have meant a project of this index: it is not
private, it was never here, and it is a name in its normal form.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from fnmatch import fnmatchcase
from urllib.parse import quote

from ppctl.server.answers import Answer, plain
from ppctl.server.known import ORDINARY, Known
from ppctl.server.owners import THROW_AWAY

POLICIES = ("none", "redirect", "cache")


class Verdict(Enum):
    """Whether a name may be asked about elsewhere, or why not."""

    ASK = ""
    NOWHERE = "it does not exist"
    PRIVATE = "it is private: no other index is asked"
    KNOWN = "it was here, so no other index is asked"


class Upstream:
    """The policy of one index. `private`: patterns of normalised names (fnmatch: * and ?)."""

    def __init__(self, policy: str, url: str, private: Iterable[str], known: Known) -> None:
        self.policy = policy
        self._url = url.rstrip("/")
        self._private = tuple(private)
        self._known = known

    def judge(self, project: str) -> Verdict:
        """Return whether a project that has no files here may be asked about elsewhere."""
        if self.policy == "none" or not ORDINARY.fullmatch(project):
            return Verdict.NOWHERE
        if is_private(project, self._private):
            return Verdict.PRIVATE
        return Verdict.KNOWN if self._known.has(project) else Verdict.ASK

    def redirect(self, project: str, protocol: str) -> Answer:
        """Return the answer that sends a client to the other index, as pypiserver does."""
        status = "302 Found" if protocol == "HTTP/1.0" else "303 See Other"
        location = ("Location", f"{self._url}/{quote(project)}/")
        return Answer(status, [location, ("Content-Length", "0")], [])


def is_private(project: str, patterns: Iterable[str]) -> bool:
    """Return whether a normalised name is private. Those of our own trials always are."""
    return project.startswith(THROW_AWAY) or any(fnmatchcase(project, pattern) for pattern in patterns)


def unknown(project: str, verdict: Verdict) -> Answer:
    """Return the answer for a project that is not here and not asked about elsewhere."""
    why = f"{project} does not exist" if verdict is Verdict.NOWHERE else f"{project}: {verdict.value}"
    return plain(404, f"Not Found ({why})")
