"""Checks of who can reach the index, and with what rights."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from ppctl.checks.base import Finding, Subject, problem, warning
from ppctl.settings import Action, Settings, Upstream


def user(subject: Subject) -> Iterator[Finding]:
    """An embedded index runs as whoever types `ppctl up`: that should be its owner, and not root."""
    if subject.index.is_system:
        return
    me, owner = subject.host.user(), subject.account
    if me != owner:
        yield warning(
            f"this index belongs to {owner}, and you are {me}: what you start or change becomes yours",
            where=subject.layout.home,
            mend=f"sudo -u {owner} {subject.ppctl('doctor')}",
        )
    elif subject.host.is_root():
        yield warning(
            "an embedded index of root's: its workers run as root",
            where=f"{subject.layout.settings}: mode",
            mend=subject.edit("set `mode: system`"),
        )


def access(subject: Subject) -> Iterator[Finding]:
    """What everybody in the network may do without a login."""
    settings = subject.settings
    if not is_exposed(settings):
        return
    where = f"{subject.layout.settings}: login"
    if Action.UPLOAD not in settings.login:
        yield problem(
            f"everybody who reaches {_address(settings)} may upload packages",
            where=where,
            mend=subject.edit("add `upload` to `login`"),
        )
    open_actions = [a.value for a in (Action.LIST, Action.DOWNLOAD) if a not in settings.login]
    if open_actions:
        yield warning(
            f"everybody who reaches {_address(settings)} may {' and '.join(open_actions)} packages",
            where=where,
            mend=subject.edit(f"if that is not meant, add {', '.join(open_actions)} to `login`"),
        )


def tls(subject: Subject) -> Iterator[Finding]:
    """HTTP sends the password with every request, readable to everybody on the way."""
    settings = subject.settings
    if not settings.login or not is_exposed(settings) or settings.public_url.startswith("https://"):
        return
    yield warning(
        f"passwords travel in clear: {_address(settings)} is open to other machines, and not https",
        where=f"{subject.layout.settings}: public_url",
        mend=subject.edit("put a reverse proxy with TLS in front and set `public_url: https://…`"),
    )


def upstream(subject: Subject) -> Iterator[Finding]:
    """Who takes a name there that nobody has uploaded here yet is installed here (dependency confusion)."""
    settings = subject.settings
    if settings.upstream is not Upstream.NONE and not settings.private:
        yield warning(
            f"names that were never here come from {settings.upstream_url}, and none is private: whoever "
            "registers your next project's name there gets installed (dependency confusion)",
            where=f"{subject.layout.settings}: private",
            mend=subject.edit("say how your projects' names begin, such as `private: [corp-*]`"),
        )


def _address(settings: Settings) -> str:
    # Not the URL that clients type: 0.0.0.0 tells more than 127.0.0.1 about who gets in.
    return settings.public_url or f"{settings.host}, port {settings.port},"


def is_exposed(settings: Settings) -> bool:
    """Return whether other machines reach the index, directly or through a proxy."""
    public = urlsplit(settings.public_url).hostname or "localhost"
    return not (_is_loopback(settings.address) and _is_loopback(public))


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
