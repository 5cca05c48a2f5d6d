"""What `ppctl verify` has found working, remembered in the home: a fleet tries an index once, not always."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ppctl.deployment import Deployment
from ppctl.host import Host
from ppctl.index import Index
from ppctl.machine import Machine


def is_verified(found: Index, host: Host, generation: str, release: str) -> bool:
    """Return whether the index was found to work as it is now: started from these settings and release."""
    return host.read(found.layout.verified) == _record([(generation, release)])


def remember(found: Index, machine: Machine, deployment: Deployment) -> None:
    """Record that the index works with what its workers run now."""
    content = _record((each.generation, each.release) for each in machine.reports(deployment).values())
    if machine.host.read(found.layout.verified) != content:
        found.write(machine.host, found.layout.verified, content)


def _record(started_from: Iterable[tuple[str, str]]) -> bytes:
    return (json.dumps(sorted(set(started_from))) + "\n").encode()
