"""The hosts after the playbook, looked at from inside: testinfra, through Ansible's own inventory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import testinfra.utils.ansible_runner

runner = testinfra.utils.ansible_runner.AnsibleRunner(os.environ["MOLECULE_INVENTORY_FILE"])
testinfra_hosts = runner.get_hosts("indexes")


def indexes(host: Any) -> list[dict[str, Any]]:
    """Return what the inventory says of the host's indexes."""
    listed = host.ansible.get_variables()["ppctl_indexes"]
    return [index for index in listed if index.get("state", "present") == "present"]


def home(index: dict[str, Any]) -> Path:
    return Path(index.get("home", f"/srv/{index['name']}"))


def test_every_index_is_healthy(host: Any) -> None:
    for index in indexes(host):
        with host.sudo():
            status = json.loads(host.check_output(f"ppctl status --home {home(index)} --json"))["result"]
        assert status["health"] == "healthy", status
        assert host.socket(f"tcp://0.0.0.0:{index['settings']['port']}").is_listening


def test_the_files_are_closed_to_others(host: Any) -> None:
    for index in indexes(host):
        with host.sudo():
            for name in ("ppctl.yml", "htpasswd", "server.json"):
                found = host.file(str(home(index) / name))
                assert (found.mode, found.user) == (0o640, "root"), found


def test_the_users_are_the_declared_ones(host: Any) -> None:
    for index in indexes(host):
        with host.sudo():
            listed = json.loads(host.check_output(f"ppctl users --home {home(index)} --json"))["result"][
                "users"
            ]
        there = {user["name"] for user in listed if not user["disabled"]}
        users = [*index["users"], *host.ansible.get_variables().get("ppctl_users_common", [])]
        declared = {user["name"] for user in users if user.get("state", "present") == "present"}
        assert there >= declared if "takes_over" in index else there == declared


def test_the_settings_are_those_of_the_group(host: Any) -> None:
    wanted = host.ansible.get_variables()["ppctl_index_settings"].get("login", ["upload"])
    for index in indexes(host):
        with host.sudo():
            found = json.loads(host.file(str(home(index) / "server.json")).content_string)
        assert sorted(found["login"]) == sorted(wanted)


def test_workers_run_as_the_service_account(host: Any) -> None:
    for index in indexes(host):
        workers = host.process.filter(user="pypi", comm="python")
        assert len(workers) >= 2, (index["name"], workers)


def test_the_machine_starts_them_at_boot(host: Any) -> None:
    for index in indexes(host):
        if index["settings"].get("manager") == "systemd":
            assert host.service(f"ppctl-{index['name']}.socket").is_enabled
        else:
            assert host.service("supervisor").is_enabled
            shown = host.check_output("systemctl show supervisor --property=RestartUSec,NeedDaemonReload")
            assert set(shown.split()) == {"RestartUSec=1s", "NeedDaemonReload=no"}
