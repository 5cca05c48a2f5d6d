"""`ppctl verify`: does the index work, tried on its own host and with a user made for the purpose."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator

import msgspec

from ppctl import homes, index, passwords, users, verified
from ppctl.clients import check
from ppctl.clients.base import Entry
from ppctl.clients.check import Step
from ppctl.deployment import Deployment, deployed
from ppctl.errors import EXIT_FAILED, EXIT_OK
from ppctl.host import Host
from ppctl.index import Index
from ppctl.machine import Machine
from ppctl.output import Output
from ppctl.server import htpasswd

_OURS = re.compile(r"ppctl-verify-[0-9a-f]{12}")
_COST = 10  # the least that counts as strong; the user lives for a second


def verify(asked: Index, machine: Machine, *, timeout: float, wait: bool) -> int:
    """Ask every worker, then list, upload, download and remove. Returns the exit code."""
    out = machine.out
    # Under the index's lock: no worker restarts meanwhile, and a user left by a killed run is nobody's.
    with index.locked(asked, machine.host, purpose="ppctl verify", wait=wait) as found:
        deployment = deployed(machine.host, found.layout)
        steps = [_worker(number, deployment, machine, found) for number in deployment.numbers]
        for step in steps:
            _tell(step, out)
        with _temporary_user(found, machine.host) as (user, password):
            entry = _entry(found, user, password)
            steps += check.run(entry, lambda step: _tell(step, out), timeout)
    failed = [step for step in steps if step.ok is False]
    if not failed:
        verified.remember(found, machine, deployment)
    out.info(f"{found.settings.name}: {'it does not work' if failed else 'it works'}")
    data = {"url": entry.simple_url, "steps": [step.to_data() for step in steps]}
    return out.result(data, exit_code=EXIT_FAILED if failed else EXIT_OK)


def _worker(number: int, deployment: Deployment, machine: Machine, found: Index) -> Step:
    hint = homes.command(found.home, "logs")
    problem = machine.probe.serves(deployment.layout.worker_socket(number), found.settings.url_prefix)
    return Step(f"worker {number}", not problem, problem or "it answers", hint if problem else "")


def _entry(found: Index, user: str, password: str) -> Entry:
    # The index's own address: the proxy that `public_url` names may be elsewhere, and not be up yet.
    local = msgspec.structs.replace(found.settings, public_url="")
    return Entry(local.name, local.simple_url, local.upload_url, user, password, read_login=True)


@contextlib.contextmanager
def _temporary_user(found: Index, host: Host) -> Iterator[tuple[str, str]]:
    """Make a user with a random password that is gone afterwards."""
    left = [user.name for user in users.users(found, host) if _OURS.fullmatch(user.name)]
    if left:
        users.remove(found, host, left)
    name, password = f"ppctl-verify-{secrets.token_hex(6)}", passwords.generate()
    users.add(found, host, name, htpasswd.hash_password(password, _COST), detail="for ppctl verify")
    try:
        yield name, password
    finally:
        users.remove(found, host, [name])


def _tell(step: Step, out: Output) -> None:
    mark = {True: "ok", False: "failed", None: "-"}[step.ok]
    out.text(f"{mark:7} {step.name}: {step.detail}")
    if step.hint:
        out.text(f"        {step.hint}")
