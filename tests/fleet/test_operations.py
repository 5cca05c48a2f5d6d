"""An inventory of three hosts, operated, and what can go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ppctl import wheelhouse as wheelhouses
from tests import hosts
from tests.e2e import packages
from tests.fleet.support import SITE, Fleet, check_frozen_workers, env, inventory, play
from tests.server.patience import within

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("fleet")]

SECRET = "Zebra-staple-9-fleet"
OTHER = "Yak-button-7-fleet"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Iterator[Fleet]:
    """The hosts after their first run."""
    hosts.ensure_tools()
    machines = [*hosts.boot("op1", "op2"), *hosts.boot("op3", suite="trixie")]
    try:
        user = {"name": "ci-bot", "password": SECRET, "permissions": {"upload": ["ppctl*"]}}
        made = Fleet(machines, tmp_path_factory.mktemp("operations"), wheelhouse, user)
        first = made.site()
        assert first.code == 0 and set(first.failed().values()) == {0}, first.out[-3000:]
        yield made
    finally:
        for host in machines:
            host.destroy()


def test_bare_hosts_become_healthy_indexes_in_one_command(fleet: Fleet) -> None:
    done = fleet.ppctl("status", "--on", "all", "--json")
    assert done.returncode == 0, done.stdout
    assert [host["state"] for host in json.loads(done.stdout)["result"]["hosts"]] == ["ok"] * 3


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    again = fleet.site()
    assert again.code == 0 and again.changed() == {"op1": 0, "op2": 0, "op3": 0}, again.out[-3000:]
    assert "Look whether anything is to be done" in again.out and "Bring the" not in again.out


def test_an_index_that_is_not_well_is_not_taken_for_unchanged(fleet: Fleet) -> None:
    stopped, hanging, untidy = fleet.machines
    stopped.run("systemctl", "stop", "ppctl-pypi@1.service")
    hanging.run("systemctl", "kill", "--signal=STOP", "ppctl-pypi@*.service")
    # Never tried, and with what a killed ppctl has left: no change, but something to do.
    record, left = "/srv/pypi/.verified.json", "/srv/pypi/.ppctl.yml.999999.tmp"
    tried = untidy.read(record)
    untidy.run("sh", "-c", f"echo [] > {record} && touch {left}")
    told = fleet.site("--check").changed()
    hanging.run("systemctl", "kill", "--signal=CONT", "ppctl-pypi@*.service")
    assert told == {"op1": 1, "op2": 1, "op3": 0}
    mended = fleet.site()
    assert mended.changed() == {"op1": 1, "op2": 0, "op3": 0}, mended.out[-3000:]
    assert untidy.read(record) == tried
    assert untidy.run("test", "-e", left, check=False).returncode != 0
    # What is left behind is no reason to try it again, and no change.
    untidy.run("touch", left)
    assert fleet.site("--limit", untidy.name).changed() == {"op3": 0}
    assert untidy.run("test", "-e", left, check=False).returncode != 0


def test_a_frozen_worker_is_told_and_mended_under_systemd(fleet: Fleet) -> None:
    check_frozen_workers(fleet, fleet.machines[2])


def test_what_the_roles_refuse_is_refused_on_unchanged_hosts_too(fleet: Fleet) -> None:
    for wrong in ({"usres": []}, {"users": [{"name": "ann", "pasword": "x"}]}, {"state": "gone"}):
        bad = json.loads(json.dumps(fleet.variables))
        bad["ppctl_indexes"][0].update(wrong)
        failed = play(SITE, inventory(fleet.folder / "bad.yml", fleet.machines[:1], bad))
        assert failed.failed() == {"op1": 1}, failed.out
        assert str(next(iter(wrong))) in failed.out or "pasword" in failed.out


def test_a_changed_password_changes_the_hash_once(fleet: Fleet) -> None:
    before = fleet.machines[0].read("/srv/pypi/htpasswd")
    changed = {**fleet.variables, "ppctl_indexes": json.loads(json.dumps(fleet.variables["ppctl_indexes"]))}
    changed["ppctl_indexes"][0]["users"][0]["password"] = OTHER  # type: ignore[index]
    path = inventory(fleet.folder / "changed.yml", fleet.machines, changed)
    limit = ("--limit", "op1")
    assert play(SITE, path, *limit).changed() == {"op1": 1}
    assert play(SITE, path, *limit).changed() == {"op1": 0}
    assert fleet.machines[0].read("/srv/pypi/htpasswd") != before
    assert fleet.site(*limit).changed() == {"op1": 1}


def test_real_clients_use_every_host(fleet: Fleet, tmp_path: Path) -> None:
    wheel = wheelhouses.own_wheel(tmp_path)
    login = {"TWINE_USERNAME": "ci-bot", "TWINE_PASSWORD": SECRET}
    for number, host in enumerate(fleet.machines):
        url = fleet.url(host)
        upload = [sys.executable, "-m", "twine", "upload", "--repository-url", url + "/", str(wheel)]
        run(*upload, **login)
        target = str(tmp_path / f"uv{number}")
        common = ("--no-deps", "--target", target, "ppctl")
        run(
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--no-cache",
            "--default-index",
            f"{url}/simple/",
            *common,
        )
        assert (Path(target) / "ppctl" / "__init__.py").exists()
        pip = ("run", "pip", "download", "--no-deps", "--dest", str(tmp_path / f"pip{number}"))
        trusted = ("--trusted-host", host.ip, "--index-url", f"{url}/simple/", "ppctl")
        run(sys.executable, "-m", "uv", "tool", *pip, *trusted)


def test_one_token_works_on_every_host_until_it_is_revoked(fleet: Fleet, tmp_path: Path) -> None:
    wheel = packages.wheel(tmp_path, "ppctl-demo", "1.0")
    on = ("--on", "all")
    made = fleet.ppctl("token", "create", "ci", "--user", "ci-bot", "--upload", "ppctl*", *on)
    assert made.returncode == 0, made.stderr
    login = {"TWINE_USERNAME": "__token__", "TWINE_PASSWORD": made.stdout.splitlines()[0]}
    for host in fleet.machines:
        upload = ("twine", "upload", "--repository-url", fleet.url(host) + "/", str(wheel))
        run(sys.executable, "-m", *upload, **login)
    assert fleet.ppctl("token", "list", *on).stdout.count("ci (ci-bot, 20") == len(fleet.machines)
    assert fleet.ppctl("token", "revoke", "ci", *on).returncode == 0
    assert fleet.ppctl("token", "list", *on).stdout.count("no tokens") == len(fleet.machines)


def run(*argv: str, **more: str) -> None:
    clean = {key: value for key, value in env().items() if not key.startswith(("PIP_", "UV_"))}
    done = subprocess.run(argv, capture_output=True, text=True, env={**clean, **more}, check=False)
    hosts.succeeded(done, " ".join(argv))


def test_two_controllers_at_once(fleet: Fleet) -> None:
    with ThreadPoolExecutor() as pool:
        plays = list(pool.map(lambda threads: fleet.site("--extra-vars", threads), [workers(5), workers(5)]))
    assert [each.code for each in plays] == [0, 0], plays[0].out[-2000:] + plays[1].out[-2000:]
    assert fleet.site().code == 0


def workers(threads: int) -> str:
    settings = {"host": "0.0.0.0", "password": {"bcrypt_cost": 10}, "threads": threads}
    return json.dumps({"ppctl_index_settings": settings})


def test_a_canary_that_fails_stops_the_rollout(fleet: Fleet) -> None:
    canary, *others = fleet.machines
    before = [host.read("/srv/pypi/ppctl.yml") for host in others]
    # Somebody has the port that the index is to move to.
    canary.run("systemd-run", "--unit=squatter", "python3", "-m", "http.server", "3999")
    canary.wait_for_port(3999)
    moved = json.loads(json.dumps(fleet.variables))
    moved["ppctl_indexes"][0]["settings"]["port"] = 3999
    path = inventory(fleet.folder / "moved.yml", fleet.machines, moved)
    failed = play(SITE, path)
    assert failed.failed() == {"op1": 1, "op2": 0, "op3": 0} and "3999" in failed.out
    assert [host.read("/srv/pypi/ppctl.yml") for host in others] == before
    # Its neighbours in a batch of two finish, and the next batch is not begun.
    failed = play(SITE, path, "--extra-vars", '{"ppctl_serial": [2, 1]}')
    assert failed.failed() == {"op1": 1, "op2": 0, "op3": 1}
    assert "op1 failed before" in failed.out
    assert others[1].read("/srv/pypi/ppctl.yml") == before[1]
    canary.run("systemctl", "stop", "squatter")
    assert fleet.site().changed() == {"op1": 0, "op2": 1, "op3": 0}


def test_a_full_disk_is_told_and_a_second_run_heals(fleet: Fleet) -> None:
    full = fleet.machines[1]
    full.run("mkdir", "-p", "/srv/small")
    full.run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", "/srv/small")
    small = json.loads(json.dumps(fleet.variables))
    second = {"name": "small", "settings": {"port": 3142, "manager": "systemd"}}
    small["ppctl_indexes"].append(second)
    path = inventory(fleet.folder / "small.yml", fleet.machines, small)
    failed = play(SITE, path)
    assert failed.failed() == {"op1": 0, "op2": 1, "op3": 0}, failed.out[-3000:]
    assert "No space left" in failed.out
    full.run("umount", "/srv/small")
    healed = play(SITE, path)
    assert healed.code == 0 and healed.failed() == {"op1": 0, "op2": 0, "op3": 0}, healed.out[-3000:]
    second["state"] = "absent"
    assert play(SITE, inventory(path, fleet.machines, small)).code == 0
    assert full.run("test", "-e", "/srv/small/ppctl.yml", check=False).returncode != 0


def test_a_host_that_is_gone_is_named_and_the_others_finish(fleet: Fleet) -> None:
    gone = fleet.machines[2]
    gone.run("systemctl", "stop", "ssh.service")
    gone.run("loginctl", "terminate-user", "deploy", check=False)
    try:
        done = fleet.ppctl("adduser", "bea", "--generate", "--on", "all", "--json")
        result = json.loads(done.stdout)["result"]
        assert done.returncode == 1
        assert (result["done"], result["failed"]) == (["op1", "op2"], ["op3"])
    finally:
        gone.run("systemctl", "start", "ssh.service")
    # The same command finishes the rest; the password is another one, so the users are brought in line.
    again = fleet.ppctl("adduser", "bea", "--generate", "--on", "all", "--json")
    changed = {host["host"]: host["changed"] for host in json.loads(again.stdout)["result"]["hosts"]}
    assert changed == {"op1": False, "op2": False, "op3": True}
    assert fleet.ppctl("users", "copy", "--from", "op1", "--on", "op3").returncode == 0
    stored = [fleet.machines[number].read("/srv/pypi/htpasswd").splitlines()[-1] for number in (0, 2)]
    assert stored[0] == stored[1]


def test_a_host_without_python_is_named(fleet: Fleet) -> None:
    host = fleet.machines[1]
    host.run("mv", "/usr/bin/python3", "/usr/bin/python3.away")
    try:
        failed = fleet.site()
        assert failed.failed()["op2"] == 1 and failed.failed()["op1"] == failed.failed()["op3"] == 0
        assert "python" in failed.out
    finally:
        host.run("mv", "/usr/bin/python3.away", "/usr/bin/python3")
    assert fleet.site().code == 0


def test_a_host_that_reboots_serves_again(fleet: Fleet) -> None:
    fleet.machines[0].reboot()
    assert within(12, lambda: fleet.ppctl("status", "--on", "op1").returncode == 0)
    assert fleet.site("--limit", "op1").changed() == {"op1": 0}
