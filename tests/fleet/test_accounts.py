"""Users, passwords and tokens of hosts: secrets are told to nobody, and the hosts are brought in line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import hosts
from tests.fleet.support import Fleet, check_frozen_workers, inventory
from tests.fleet.watch import Watch

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("fleet")]

DECLARED = "Zebra-staple-9-fleet"
TYPED = "Yak-button-7-fleet"
CHANGED = "Quail-teapot-4-fleet"
BECOME = "Ibis-lantern-2-fleet"
PLACES = ("/etc", "/opt", "/srv", "/tmp", "/var", "/home", "/root", "/run")


class Talkative(Fleet):
    """Hosts, and Ansible that says, logs and keeps whatever it can."""

    @property
    def aloud(self) -> dict[str, str]:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            "ANSIBLE_VERBOSITY": "4",
            "ANSIBLE_LOG_PATH": str(self.folder / "ansible.log"),
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.folder / "facts"),
            "TMPDIR": str(temporary),
        }

    def watch(self) -> Watch:
        return Watch(self.machines, [Path(self.aloud["TMPDIR"])])

    def talk(self, *argv: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command with all of Ansible's talk."""
        return self.ppctl(*argv, stdin=stdin, **self.aloud, **more)

    def kept(self) -> dict[str, str]:
        """Return what is kept here: logs, facts, temporary files; not the inventory with its passwords."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path): path.read_text(errors="replace") for path in files if path.suffix != ".yml"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Iterator[Talkative]:
    hosts.ensure_tools()
    machines = [*hosts.boot("ac1"), *hosts.boot("ac2", suite="trixie")]
    try:
        user = {"name": "ci-bot", "password": DECLARED}
        folder = tmp_path_factory.mktemp("accounts")
        yield Talkative(machines, folder, wheelhouse, user, manager="supervisor", ppctl_users_exclusive=True)
    finally:
        for host in machines:
            host.destroy()


def assert_nobody_knows(fleet: Talkative, watch: Watch, *secrets: str) -> None:
    """The secrets are in no process, no temporary file, no log and no fact cache, and on no host."""
    assert len(watch.processes) > 20 and watch.files, "nothing was looked at"
    assert watch.found(*secrets) == []
    kept = fleet.kept()
    assert any("ansible.log" in path and "ESTABLISH SSH" in text for path, text in kept.items())
    assert [path for path, text in kept.items() if any(secret in text for secret in secrets)] == []
    patterns = [f"--regexp={secret}" for secret in secrets]
    for host in fleet.machines:
        listed = host.run("grep", "-rslaF", *patterns, *PLACES, check=False)
        assert listed.stdout == "", f"{host.name}: {listed.stdout}"
        host.run("journalctl", "--sync")
        journal = host.run("journalctl", "--no-pager", "--all", "--output=verbose").stdout
        assert "ansible" in journal and not any(secret in journal for secret in secrets), host.name


def test_the_first_run_tells_no_password(fleet: Talkative) -> None:
    with fleet.watch() as watch:
        first = fleet.talk("up", "--on", "all")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    assert DECLARED not in first.stdout + first.stderr
    assert_nobody_knows(fleet, watch, DECLARED)
    assert all(fleet.accepts(host, "ci-bot", DECLARED) for host in fleet.machines)


def test_no_command_tells_a_password_or_a_token(fleet: Talkative) -> None:
    token = ("--user", "ci-bot", "--upload", "team-*", "--on", "all")
    on = ("--on", "all")
    secrets, told = [DECLARED, TYPED, CHANGED], []
    with fleet.watch() as watch:
        for argv, stdin in (
            (("adduser", "ann", "--password-stdin", *on), TYPED),
            (("passwd", "ann", "--password-stdin", *on), CHANGED),
            (("users", "--diff", *on), ""),
            (("users", "copy", "--from", "ac1", "--on", "ac2"), ""),
        ):
            done = fleet.talk(*argv, stdin=stdin)
            assert done.returncode == 0, done.stdout + done.stderr
            told.append(done.stdout + done.stderr)
        for argv in (
            ("adduser", "bea", "--generate", *on),
            ("passwd", "bea", "--generate", *on),
            ("token", "create", "one", *token),
        ):
            done = fleet.talk(*argv)
            assert done.returncode == 0, done.stdout + done.stderr
            secret, _, rest = done.stdout.partition("\n")  # alone on its line, for the one who asked
            assert len(secret) >= 20
            secrets.append(secret)
            told.append(rest + done.stderr)
        again = fleet.talk("token", "create", "two", "--token-stdin", *token, stdin=secrets[-1])
        assert again.returncode == 0, again.stdout + again.stderr
    assert not any(secret in text for text in told for secret in secrets)
    assert_nobody_knows(fleet, watch, *secrets)
    assert all(fleet.accepts(host, "ann", CHANGED) for host in fleet.machines)
    # Hashes and digests travel, in a file that is gone afterwards; they are no command lines and in no log.
    hashes = fleet.machines[0].read("/srv/pypi/htpasswd").split("\n")
    known = [line.partition(":")[2] for line in hashes if line]
    assert len(known) == 3
    assert [each for each in watch.processes if any(one.encode() in each for one in known)] == []
    assert [path for path, text in fleet.kept().items() if any(one in text for one in known)] == []
    for host in fleet.machines:
        journal = host.run("journalctl", "--no-pager", "--all").stdout
        assert not any(one in journal for one in known)


ECHO = b"#!/bin/sh\necho something is broken: >&2\nexec cat >&2\n"
"""The worst ppctl that a host can have: it repeats what it was told in confidence."""


def test_no_failure_tells_a_password(fleet: Talkative) -> None:
    broken, locked = fleet.machines
    program = "/opt/ppctl/current/bin/ppctl"
    adduser = ("adduser", "eve", "--password-stdin", "--on", "all")
    wrong = fleet.folder / "become.yml"  # not looked into afterwards, as the inventory
    wrong.write_text(BECOME + "\n")
    broken.run("mv", program, f"{program}.away")
    broken.put(ECHO, program, mode=0o755)
    locked.run("sh", "-c", "echo 'deploy:another password' | chpasswd")
    locked.put(b"deploy ALL=(ALL) ALL\n", "/etc/sudoers.d/deploy", mode=0o440)
    misspelt = json.loads(json.dumps(fleet.variables))
    misspelt["ppctl_indexes"][0]["users"][0]["pasword"] = CHANGED
    try:
        with fleet.watch() as watch:
            more = {"ANSIBLE_BECOME_PASSWORD_FILE": str(wrong)}
            failed = [
                fleet.talk(*adduser, stdin=TYPED, **more),
                fleet.talk(*adduser, "--json", stdin=TYPED, **more),
                fleet.talk("up", "--on", "all", **more),
                # Ansible itself prints more than ppctl does.
                fleet.site("-vvvv", **fleet.aloud, **more),
            ]
            fleet.inventory = inventory(fleet.folder / "misspelt.yml", fleet.machines, misspelt)
            failed += [fleet.site("-vvvv", "--limit", "ac1", **fleet.aloud)]
    finally:
        fleet.inventory = fleet.folder / "hosts.yml"
        broken.run("mv", f"{program}.away", program)
        locked.put(b"deploy ALL=(ALL) NOPASSWD: ALL\n", "/etc/sudoers.d/deploy", mode=0o440)
    texts = [each.out if hasattr(each, "out") else each.stdout + each.stderr for each in failed]
    assert all("something is broken" in text for text in texts[:-1])
    assert all("ncorrect sudo password" in text for text in texts[:2])  # the others stop at the canary
    assert "pasword" in texts[-1]
    secrets = (DECLARED, TYPED, CHANGED, BECOME)
    assert [text for text in texts if any(secret in text for secret in secrets)] == []
    assert_nobody_knows(fleet, watch, *secrets)


def test_users_that_nobody_has_declared_are_seen_at_a_look(fleet: Talkative) -> None:
    """The inventory is exclusive: the ones of the tests before go, and a changed password comes back."""
    assert fleet.ppctl("passwd", "ci-bot", "--generate", "--on", "ac2").returncode == 0
    before = [host.read("/srv/pypi/htpasswd") for host in fleet.machines]
    told = {host["host"]: users_changes(host) for host in fleet.on_all("up", "--dry-run")["hosts"]}
    gone = ["deluser ann", "deluser bea"]
    assert told == {"ac1": gone, "ac2": [*gone, "passwd ci-bot"]}
    assert [host.read("/srv/pypi/htpasswd") for host in fleet.machines] == before
    assert {host["host"]: users_changes(host) for host in fleet.on_all("up")["hosts"]} == told
    again = fleet.site()
    assert again.changed() == {"ac1": 0, "ac2": 0} and "Bring the" not in again.out, again.out[-3000:]
    assert all(fleet.accepts(host, "ci-bot", DECLARED) for host in fleet.machines)


def users_changes(host: dict[str, object]) -> list[str]:
    """Return what `up --on` has done, or would do, to the users of a host."""
    indexes: list[dict[str, list[dict[str, str]]]] = host["indexes"]  # type: ignore[assignment]
    found = [change for index in indexes for change in index.get("changes", [])]
    return sorted(f"{change['action']} {change['user']}" for change in found if "user" in change)


def test_users_of_one_host_are_brought_to_others(fleet: Talkative) -> None:
    one, other = fleet.machines
    assert fleet.ppctl("adduser", "cas", "--password-stdin", "--on", "ac1", stdin=TYPED).returncode == 0
    assert fleet.ppctl("user", "grant", "cas", "upload", "--project", "team-*", "--on", "ac1").returncode == 0
    assert fleet.ppctl("adduser", "dan", "--generate", "--on", "ac2").returncode == 0
    assert differences(fleet) == {
        ("cas", "ac1 pypi"),
        ("cas", "ac2 pypi"),
        ("dan", "ac1 pypi"),
        ("dan", "ac2 pypi"),
    }
    copy = ("users", "copy", "--from", "ac1", "--on", "ac2", "--json")
    assert copied(fleet, *copy) is True
    assert fleet.accepts(other, "cas", TYPED)
    assert copied(fleet, *copy) is False
    assert copied(fleet, *copy, "--exclusive") is True
    assert one.read("/srv/pypi/htpasswd") == other.read("/srv/pypi/htpasswd")
    assert "the users are the same everywhere: 2 on 2" in fleet.ppctl("users", "--on", "all", "--diff").stdout
    # A host that has several is asked which; one that is not there is named.
    wrong = fleet.ppctl("users", "copy", "--from", "all", "--on", "ac2")
    assert wrong.returncode == 1 and "name one host" in wrong.stderr


def copied(fleet: Fleet, *argv: str) -> bool:
    done = fleet.ppctl(*argv)
    assert done.returncode == 0, done.stdout + done.stderr
    (host,) = json.loads(done.stdout)["result"]["hosts"]
    return bool(host["changed"])


def differences(fleet: Fleet) -> set[tuple[str, str]]:
    found = json.loads(fleet.ppctl("users", "--on", "all", "--diff", "--json").stdout)["result"]
    return {(each["user"], each["where"]) for each in found["differences"]}


def test_a_frozen_worker_is_told_and_mended_under_supervisor(fleet: Talkative) -> None:
    check_frozen_workers(fleet, fleet.machines[1])
