"""Checks of the names that never come from another index."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

from ppctl.checks.base import CannotCheck, Finding, NotApplicable, Subject, listed, problem, warning
from ppctl.server import known
from ppctl.server.permissions import check_pattern
from ppctl.server.upstream import is_private
from ppctl.settings import Upstream


def names(subject: Subject) -> Iterator[Finding]:
    """The list of the names that were ever here; without it no name is looked for upstream."""
    path = subject.layout.names
    content = subject.host.read(path, foreign=True)
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
        listed_there = known.parse(content)
    except ValueError as e:
        yield problem(f"broken: {e}{closed}", where=path, mend=_restore(subject))
        return
    yield from _lost(subject, listed_there)


def _lost(subject: Subject, there: frozenset[str]) -> Iterator[Finding]:
    """Names that are known to be missing in the list, and a list of which nobody knows what is missing."""
    copied = subject.host.read(subject.layout.names_copy, foreign=True)
    with contextlib.suppress(ValueError):
        missing = sorted(known.parse(copied) - there) if copied is not None else []
        if missing:
            yield warning(
                f"names that were here are missing in it ({len(missing)}): {listed(missing)}",
                where=subject.layout.names,
                mend=f"{subject.ppctl('restart')}: then they are in it again; "
                f"to let one go: {subject.ppctl('packages forget', 'NAME')}",
            )
    if subject.settings.upstream is not Upstream.NONE and subject.host.stat(subject.layout.names_lost):
        yield warning(
            "it was made of the projects that were here: what had no files any more is not in it, and may "
            f"come from {subject.settings.upstream_url}",
            where=subject.layout.names,
            mend=f"restore {subject.layout.names.name} from a backup and type {subject.ppctl('restart')}, or "
            f"add the names to `private` in {subject.layout.settings}; then: "
            + subject.as_root(f"rm {shlex.quote(str(subject.layout.names_lost))}"),
        )


def elsewhere(subject: Subject) -> Iterator[Finding]:
    """Names of this index that the other one has, too; only with --upstream, since it needs a network."""
    if not subject.ask_upstream:
        raise NotApplicable
    url = subject.settings.upstream_url
    found = subject.machine.names_at(url, subject.host.read(subject.layout.upstream_login))
    content = subject.host.read(subject.layout.names, foreign=True)
    try:
        here = known.parse(content) if content is not None else frozenset()
    except ValueError as e:
        raise CannotCheck(f"{subject.layout.names}: {e}") from e
    for name in sorted(here & found):
        yield warning(
            f"{name} is here and at {url}: a client that asks both may install that one",
            mend="if that one is not yours, let clients ask this index alone "
            f"({subject.ppctl('client', 'pip')}), and register the name there or give yours another one",
        )
    # For each pattern one: what begins like an ordinary word is somebody's many times over.
    others = found - here
    for pattern in subject.settings.private:
        checked = [check_pattern(pattern)]
        names = sorted(name for name in others if is_private(name, checked))
        others -= set(names)
        if names:
            yield warning(
                f"private by {pattern}, never here, and at {url} somebody's ({len(names)}): {listed(names)}",
                mend="if they are not yours, let clients ask this index alone "
                f"({subject.ppctl('client', 'pip')}), and do not use these names",
            )


def _restore(subject: Subject) -> str:
    path = subject.layout.names
    again = (
        f"move it away and type {subject.ppctl('restart')}: then it has what its copy has and what is here"
    )
    return f"restore {path.name} from a backup, or {again}"
