"""Checks of the names that never come from another index."""

from __future__ import annotations

from collections.abc import Iterator

from ppctl.checks.base import Finding, NotApplicable, Subject, problem
from ppctl.server import known
from ppctl.settings import Upstream


def names(subject: Subject) -> Iterator[Finding]:
    """The list of the names that were ever here; without it no name is looked for upstream."""
    path = subject.layout.names
    content = subject.host.read(path)
    if subject.deployment is None or (content is None and not subject.reports):
        raise NotApplicable
    closed = (
        ""
        if subject.settings.upstream is Upstream.NONE
        else ": until it is mended, no name is looked for upstream"
    )
    if content is None:
        yield problem(
            f"the list of names that were ever here is gone{closed}", where=path, mend=_restore(subject)
        )
        return
    try:
        known.parse(content)
    except ValueError as e:
        yield problem(f"broken: {e}{closed}", where=path, mend=_restore(subject))


def _restore(subject: Subject) -> str:
    path = subject.layout.names
    again = f"move it away and type {subject.ppctl('restart')}: then it has what is here now"
    return f"restore {path.name} from a backup, or {again}"
