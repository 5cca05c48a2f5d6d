"""Checks of the settings, of the address they ask for, and of what differs from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ppctl import homes, plan, ports
from ppctl import settings as settings_module
from ppctl.checks.base import CannotCheck, Finding, Subject, is_refusal, listed, problem, warning
from ppctl.errors import PpctlError
from ppctl.host import Host
from ppctl.layout import Layout
from ppctl.settings import Settings


def valid(subject: Subject) -> Iterator[Finding]:
    """ppctl.yml has been read already, or there would be no subject: can this machine provide it?"""
    try:
        _ = subject.desired
    except PpctlError as e:
        if is_refusal(e):
            raise
        yield problem(e.message, mend=e.hint)


def port(subject: Subject) -> Iterator[Finding]:
    """The port is ours, or nobody's."""
    settings = subject.settings
    ours = subject.deployment
    unmoved = ours and (ours.host, ours.port) == (settings.address, settings.port)
    if ours and unmoved and (subject.reports or subject.machine.manager_of(ours).holds_socket()):
        return
    try:
        subject.machine.check_port(settings.address, settings.port)
    except PpctlError as e:
        yield problem(e.message, where=subject.layout.settings, mend=e.hint)


def shared_port(subject: Subject) -> Iterator[Finding]:
    """Whichever of two indexes starts first would keep the other one down."""
    mine = subject.settings
    for name, home in sorted(homes.registered(subject.host).items()):
        if home == subject.layout.home:
            continue
        theirs = _settings_of(subject.host, home)
        if theirs and ports.overlap(_listen(mine), _listen(theirs)):
            yield problem(
                f"the index {name} in {home} has port {theirs.port} too",
                where=f"{subject.layout.settings}: port",
                mend=subject.edit("set another `port`"),
            )


def _settings_of(host: Host, home: Path) -> Settings | None:
    """Return the settings of another index; None where they cannot be read, which is not our business."""
    path = Layout(home).settings
    try:
        content = host.read(path)
        return None if content is None else settings_module.load(path, content)
    except PpctlError:
        return None


def _listen(settings: Settings) -> str:
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    return f"{host}:{settings.port}"


def drift(subject: Subject) -> Iterator[Finding]:
    """What `ppctl up` would change."""
    _ = subject.running  # before the first `up` everything differs
    try:
        wanted = subject.desired
    except PpctlError as e:
        if is_refusal(e):
            raise
        raise CannotCheck("the settings have to be mended first") from e
    try:
        made = plan.make(subject.index, wanted, subject.machine)
    except PpctlError as e:
        if is_refusal(e):
            raise
        yield problem(f"the index cannot be brought to its settings: {e.message}", mend=e.hint)
        return
    if made.visible:
        changes = listed(" ".join(plan.describe(change).split()) for change in made.visible)
        yield warning(
            f"not as the settings say; `up` would: {changes}",
            where=subject.layout.settings,
            mend=subject.ppctl("up"),
        )
