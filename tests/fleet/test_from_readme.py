"""From the README's fleet section alone: five bare hosts become indexes with users, are drifted, and mended.

What a dry run tells is compared with what the real run then does, host by host and change by change.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from tests import hosts
from tests.e2e import packages
from tests.fleet.support import EVENTS, Change, Play, changes_in, env
from tests.fleet.watch import Watch
from tests.hosts import CHECKOUT, TestHost

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("fleet")]

INDEXES = {"team": 3141, "internal": 3142}
SECTION = re.compile(r"^## Many machines\n(.*?)^## ", re.M | re.S)


def commands() -> list[str]:
    """Return the commands of the README's fleet section, in order."""
    section = SECTION.search((CHECKOUT / "README.md").read_text())
    assert section
    lines = re.findall(r"^\$ (.*)$", section[1], re.M)
    return [line.partition("  #")[0].strip() for line in lines]


class Operator:
    """Somebody with a checkout and the README. The hosts' names are their addresses."""

    def __init__(self, folder: Path, machines: list[TestHost], wheelhouse: Path) -> None:
        self.folder, self.machines = folder, machines
        (folder / "ansible").symlink_to(CHECKOUT / "ansible")
        (folder / "wheelhouse").symlink_to(wheelhouse)
        # What is in an operator's ~/.ssh/config.
        options = {"user": "deploy", "ssh_common_args": f"-F {machines[0].ssh_config}"}
        self.env = {f"ANSIBLE_{'REMOTE_USER' if k == 'user' else k.upper()}": v for k, v in options.items()}

    def fill_in(self) -> None:
        """Write the hosts' names into the copy of the example inventory."""
        path = self.folder / "inventory" / "hosts.yml"
        data = yaml.safe_load(path.read_text())
        names = [host.ip for host in self.machines]
        children = data["indexes"]["children"]
        for group in ("production", "staging"):
            count = len(children[group]["hosts"])
            children[group]["hosts"] = dict.fromkeys(names[:count])
            names = names[count:]
        assert names == []
        path.write_text(yaml.safe_dump(data))

    def password(self) -> str:
        """Return the password that was made up for the first user."""
        return (self.folder / "passwords" / "ci-bot").read_text().strip()

    def type(self, line: str, *, events: bool = False) -> Play:
        """Run a command as it is in the README; `events`: with our callback, so that changes can be read."""
        more = EVENTS if events else {}
        done = subprocess.run(
            shlex.split(line),
            cwd=self.folder,
            env={**env(), **self.env, **more},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Play(done.returncode, done.stdout + done.stderr)

    def changes(self, line: str) -> list[Change]:
        """Run a playbook and return what it changes."""
        play = self.type(line, events=True)
        assert play.code == 0, play.out[-3000:]
        return changes_in(play.out)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Iterator[Operator]:
    hosts.ensure_tools()
    machines = [*hosts.boot("r1", "r2", "r3"), *hosts.boot("r4", "r5", suite="trixie")]
    try:
        yield Operator(tmp_path_factory.mktemp("operator"), machines, wheelhouse)
    finally:
        for host in machines:
            host.destroy()


def test_five_bare_hosts_become_healthy_indexes_with_users_in_one_command(operator: Operator) -> None:
    make, activate, copy, check, run, show, *_daily = commands()
    assert (make, activate) == (
        "make fleet",
        ". .venv/bin/activate",
    )  # by hand, and by tests/e2e/test_make.py
    assert operator.type(copy).code == 0
    operator.fill_in()
    told = {change[:2] for change in operator.changes(check)}
    with Watch(operator.machines) as watch:
        made = {change[:2] for change in operator.changes(run)}
    assert watch.found(operator.password()) == []
    assert len(watch.processes) > 20, "nothing was looked at"
    assert made == told | {(host.ip, "copy") for host in operator.machines}
    assert {host for host, _ in told} == {host.ip for host in operator.machines}
    password = operator.type(show)
    assert re.fullmatch(r"\S{24}\n", password.out)
    assert (operator.folder / "passwords" / "ci-bot").stat().st_mode & 0o077 == 0


def test_a_second_run_changes_nothing(operator: Operator) -> None:
    again = operator.type(commands()[4])
    assert again.code == 0 and set(again.changed().values()) == {0}, again.out[-3000:]
    assert len(again.changed()) == len(operator.machines)


def test_settings_differ_by_group(operator: Operator) -> None:
    found = [json.loads(host.read("/srv/team/server.json"))["overwrite"] for host in operator.machines]
    assert found == [False, False, False, True, True]


def test_twine_uv_and_pip_use_every_host(operator: Operator, tmp_path: Path) -> None:
    password = operator.password()
    wheel = packages.wheel(tmp_path, "team-demo", "1.0")
    for host in operator.machines:
        server = f"{host.ip}:{INDEXES['team']}"
        login = {"TWINE_USERNAME": "ci-bot", "TWINE_PASSWORD": password}
        client("twine", "upload", "--repository-url", f"http://{server}/", str(wheel), **login)
        goal = tmp_path / host.name
        index = f"http://{server}/simple/"
        client(
            "uv", "pip", "install", "--no-cache", "--default-index", index, "--target", str(goal), "team-demo"
        )
        assert (goal / "team_demo.py").exists()
        options = ("--no-cache-dir", "--trusted-host", host.ip, "--index-url", index)
        client("pip", "download", *options, "--dest", str(goal / "pip"), "team-demo")
        assert (goal / "pip" / wheel.name).read_bytes() == wheel.read_bytes()
        # Nobody reads the other index without a login.
        asked = requests.get(f"http://{host.ip}:{INDEXES['internal']}/simple/", timeout=60)
        assert asked.status_code == 401


def client(*argv: str, **more: str) -> None:
    clean = {key: value for key, value in env().items() if not key.startswith(("PIP_", "UV_"))}
    environment = {**clean, "PIP_CONFIG_FILE": os.devnull, **more}
    done = subprocess.run(
        [sys.executable, "-m", *argv], capture_output=True, text=True, env=environment, check=False
    )
    hosts.succeeded(done, " ".join(argv))


def test_the_password_is_on_no_host(operator: Operator) -> None:
    password = operator.password()
    for host in operator.machines:
        places = "/etc /opt /srv /tmp /var /home /root /run"
        found = host.run("sh", "-c", f"grep -rl {password} {places} 2>/dev/null || true").stdout
        assert found == "", host.name
        host.run("journalctl", "--sync")
        assert password not in host.run("journalctl", "--no-pager", "--output=cat").stdout


def test_a_dry_run_tells_exactly_how_drift_will_be_mended(operator: Operator) -> None:
    """Every managed file is edited, deleted or opened by hand; over the hosts each of them is all three."""
    check, run = commands()[3:5]
    drifted = {}
    for number, host in enumerate(operator.machines):
        host.put(CHECKOUT / "molecule" / "shared" / "drift.py", "/root/drift.py")
        homes = [f"/srv/{name}" for name in INDEXES]
        drifted[host.ip] = host.run("python3", "/root/drift.py", str(number), *homes).stdout.split()
    told = operator.changes(check)
    for ip, paths in drifted.items():
        named = {change[3] for change in told if change[0] == ip and len(change) > 3}
        assert set(paths) <= named, set(paths) - named
    assert operator.changes(run) == told
    assert operator.changes(check) == []


def test_a_canary_whose_uploads_fail_stops_the_rollout(operator: Operator) -> None:
    """Every worker of it answers and lists; only the trial with a real package tells that it is not well."""
    canary, other = operator.machines[:2]
    packages = "/srv/team/packages"
    canary.run("mount", "--bind", packages, packages)
    canary.run("mount", "-o", "remount,bind,ro", packages)
    before = [other.read(f"/srv/{name}/ppctl.yml") for name in INDEXES]
    settings = json.dumps({"ppctl_index_settings": {"host": "0.0.0.0", "threads": 5}})
    line = f"{commands()[4]} --limit {canary.ip}:{other.ip} --extra-vars {shlex.quote(settings)}"
    failed = operator.type(line)
    assert failed.failed() == {canary.ip: 1, other.ip: 0}, failed.out[-3000:]
    assert "the index does not work" in failed.out
    assert [other.read(f"/srv/{name}/ppctl.yml") for name in INDEXES] == before
    canary.run("umount", packages)
    canary.run("ppctl", "restart", "--home", "/srv/team")  # its workers' sandbox still has the mount
    healed = operator.type(line)
    assert healed.code == 0 and set(healed.failed().values()) == {0}, healed.out[-3000:]
    assert '"threads": 5' in other.read("/srv/team/server.json")


def test_a_new_password_in_the_vault_changes_the_hash_once(operator: Operator) -> None:
    host = operator.machines[0]
    (operator.folder / "vault-password").write_text("opens the vault")
    vault = operator.folder / "inventory/group_vars/indexes/vault.yml"
    vault.write_text("vault_ci_bot: Quokka-9-in-a-vault\n")
    assert operator.type(f"ansible-vault encrypt --vault-password-file vault-password {vault}").code == 0
    assert "Quokka" not in vault.read_text()
    line = f"{commands()[4]} --vault-password-file vault-password --tags users --limit {host.ip} --diff"
    first = operator.type(line)
    assert first.changed() == {host.ip: 1} and "passwd ci-bot" in first.out, first.out[-3000:]
    assert "Quokka" not in first.out
    stored = host.read("/srv/team/htpasswd")
    assert operator.type(line).changed() == {host.ip: 0}
    assert host.read("/srv/team/htpasswd") == stored
    login = {"TWINE_USERNAME": "ci-bot", "TWINE_PASSWORD": "Quokka-9-in-a-vault"}
    wheel = packages.wheel(operator.folder, "team-demo", "2.0")
    client("twine", "upload", "--repository-url", f"http://{host.ip}:{INDEXES['team']}/", str(wheel), **login)


def test_the_playbooks_of_daily_work(operator: Operator) -> None:
    host = operator.machines[-1]
    secrets = operator.folder / "secrets.json"
    (operator.folder / "inventory/group_vars/indexes/vault.yml").unlink(missing_ok=True)

    def play(name: str, *options: str, **variables: object) -> Play:
        secrets.write_text(json.dumps({"ppctl_hosts": host.ip, "ppctl_index": "team", **variables}))
        file = f"ansible/playbooks/{name}.yml --extra-vars @{secrets} {' '.join(options)}"
        done = operator.type(f"ansible-playbook -i inventory {file}")
        assert "Narwhal" not in done.out
        return done

    # Nobody can be asked.
    silent = play("adduser", user="ann")
    assert silent.failed() == {host.ip: 1} and "there is nothing on stdin" in silent.out, silent.out
    assert "ann:" not in host.read("/srv/team/htpasswd")
    # Several users: the others are not meant.
    assert play("adduser", user="ann", password="Narwhal-1-of-many").changed() == {host.ip: 1}
    assert play("adduser", user="ann", password="Narwhal-2-of-many").changed() == {host.ip: 0}
    assert play("passwd", user="ann", password="Narwhal-3-of-many").changed() == {host.ip: 1}
    assert "ann:$2y$" in host.read("/srv/team/htpasswd") and "ann:" not in host.read("/srv/internal/htpasswd")
    assert play("deluser", "--check", user="ann").changed() == {host.ip: 1}
    assert play("deluser", user="ann").changed() == {host.ip: 1}
    assert play("deluser", user="ann").changed() == {host.ip: 0}
    assert play("restart", ppctl_index="all").changed() == {host.ip: 1}
    assert play("status", ppctl_index="all").code == 0
    host.run("ppctl", "stop", "--home", "/srv/internal")
    assert play("status", ppctl_index="all").failed() == {host.ip: 1}
    assert play("remove", home="/srv/internal").changed() == {host.ip: 1}
    assert play("remove", home="/srv/internal").changed() == {host.ip: 0}
    assert "packages" in host.run("ls", "/srv/internal").stdout.split(), "they stay"
    assert "ppctl.yml" not in host.run("ls", "/srv/internal").stdout.split()
    late = play("remove", home="/srv/internal", purge=True)
    assert late.failed() == {host.ip: 1} and "rm -r /srv/internal/packages" in late.out, late.out
    assert play("status", ppctl_index="all").code == 0
