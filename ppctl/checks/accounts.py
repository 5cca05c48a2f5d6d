"""Checks of the users and their password hashes."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone

from ppctl import audit
from ppctl.checks.base import CannotCheck, Finding, NotApplicable, Subject, listed, problem, warning
from ppctl.server import htpasswd, refused
from ppctl.server.htpasswd import Line
from ppctl.settings import Action

RECENT_SECONDS = 3600.0
MANY_REFUSED = 200
"""More than one program with an old password makes: each of two workers notes it once a minute."""


def _lines(subject: Subject) -> list[Line]:
    content = subject.host.read(subject.layout.htpasswd)
    if content is None:
        raise CannotCheck("there is no htpasswd", subject.ppctl("up"))
    return htpasswd.parse(htpasswd.decode(content))


def lines(subject: Subject) -> Iterator[Finding]:
    """Lines that name nobody, users given twice, damage."""
    path = subject.layout.htpasswd
    found = subject.host.stat(path)
    if found and found.kind == "link":
        copy = shlex.join(["cp", "--remove-destination", found.target, str(path)])
        yield problem(
            f"is a link to {found.target}; ppctl keeps the users in a file of its own",
            where=path,
            mend=subject.as_root(copy),
        )
    parsed = _lines(subject)
    if any("\0" in line.raw for line in parsed):
        yield problem(
            "damaged: there are NUL bytes in it, as a crash of the machine can leave them",
            where=path,
            mend=subject.as_root(f"sed -i 's/\\x00//g' {shlex.quote(str(path))}"),
        )
        return
    broken = [number for number, line in enumerate(parsed, 1) if _is_broken(line)]
    if broken:
        script = ";".join(f"{number}d" for number in broken)
        yield warning(
            f"not a user, not a comment: line {listed(broken)}; it counts for nothing",
            where=path,
            mend=subject.as_root(f"sed -i '{script}' {shlex.quote(str(path))}"),
        )
    yield from _duplicates(subject, parsed)


def _is_broken(line: Line) -> bool:
    text = line.raw.strip()
    return line.name is None and bool(text) and not text.startswith("#")


def _duplicates(subject: Subject, parsed: list[Line]) -> Iterator[Finding]:
    places = defaultdict(list)
    for number, line in enumerate(parsed, 1):
        if line.name is not None:
            places[line.name].append(number)
    for name, numbers in places.items():
        if len(numbers) > 1:
            yield warning(
                f"the user {name} is given {len(numbers)} times (lines {listed(numbers)}); the first counts",
                where=subject.layout.htpasswd,
                mend=_passwd(subject, name),
            )


def hashes(subject: Subject) -> Iterator[Finding]:
    """Hashes that are easily guessed from, or that no password fits."""
    for name, line in htpasswd.users(_lines(subject)).items():
        scheme = htpasswd.scheme_of(line.hash)
        if scheme == "plaintext":
            found = problem(f"the password of {name} is stored as plain text")
        elif scheme == "unknown":
            found = warning(f"{name} cannot log in: the hash is of no known scheme")
        elif htpasswd.is_weak(line.hash):
            cost = " of a low cost" if scheme == "bcrypt" else ""
            found = warning(f"the password of {name} is stored with a weak hash: {scheme}{cost}")
        else:
            continue
        where, mend = str(subject.layout.htpasswd), _passwd(subject, name)
        yield Finding(found.severity, found.message, where, mend)


def users(subject: Subject) -> Iterator[Finding]:
    """Somebody must be able to do what needs a login."""
    needed = subject.settings.login
    if not needed:
        raise NotApplicable
    known = htpasswd.users(_lines(subject))
    if any(not line.disabled for line in known.values()):
        return
    actions = ", ".join(action.value for action in Action if action in needed)
    why = "every user is disabled" if known else "there is no user"
    mend = subject.ppctl("enable", next(iter(known))) if known else subject.ppctl("adduser", "NAME")
    yield warning(f"{why}, so nobody can: {actions}", where=subject.layout.htpasswd, mend=mend)


def guesses(subject: Subject) -> Iterator[Finding]:
    """Many refused logins in the last hour: somebody guesses, or a program has an old password."""
    since = datetime.fromtimestamp(subject.now - RECENT_SECONDS, timezone.utc)
    recent = [
        entry
        for entry in audit.refused_logins(subject.index, subject.host)
        if entry.action != audit.UNREADABLE and entry.time >= since.strftime(audit.TIME)
    ]
    if len(recent) < MANY_REFUSED:
        return
    (address, count), (name, tries) = (
        Counter(each).most_common(1)[0] for each in zip(*((e.by, e.user) for e in recent), strict=True)
    )
    yield warning(
        f"{len(recent)} logins were refused in the last hour, {count} of them from {address}, {tries} for "
        + ("names of nobody" if name == refused.NOBODY else f"the user {name}")
        + ": somebody guesses, or a program has an old password",
        where=subject.layout.refused_logins,
        mend=f"look who it is: {subject.ppctl('audit', '--logins')}; keep that out, or mend the program",
    )


def _passwd(subject: Subject, name: str) -> str:
    # There may be names in old files that begin with a dash.
    return subject.ppctl("passwd", *(["--"] if name.startswith("-") else []), name)
