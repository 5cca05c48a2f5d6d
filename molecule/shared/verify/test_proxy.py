"""nginx with TLS before the indexes: real clients through it, where a host has one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from test_clients import PASSWORD, run
from test_indexes import indexes, testinfra_hosts

sys.path.append(os.environ["MOLECULE_PROJECT_DIRECTORY"])
from tests.e2e import packages

__all__ = ["testinfra_hosts"]


def test_clients_go_through_the_proxy(host: Any, tmp_path: Path) -> None:
    variables = host.ansible.get_variables()
    if not variables.get("ppctl_proxy_server_name"):
        pytest.skip("this host has no proxy")
    certificate = str(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "proxy.pem")
    wheel = packages.wheel(tmp_path, "team-proxied", "1.0")
    for index in indexes(host):
        url = f"https://{variables['ansible_host']}/{index['name']}"
        assert requests.get(f"{url}/simple/", verify=certificate, timeout=60).status_code == 401
        user = variables["ppctl_users_common"][0]
        login = {
            "TWINE_USERNAME": user["name"],
            "TWINE_PASSWORD": PASSWORD,
            "TWINE_CERT": certificate,
            "REQUESTS_CA_BUNDLE": certificate,  # where it is set, it wins over TWINE_CERT
        }
        run("twine", "upload", "--repository-url", f"{url}/", str(wheel), **login)
        auth = (user["name"], PASSWORD)
        page = requests.get(f"{url}/simple/team-proxied/", auth=auth, verify=certificate, timeout=60)
        assert f'href="/{index["name"]}/packages/' in page.text
    with host.sudo():
        key = host.file("/etc/ssl/private/ppctl.key")
        assert (key.user, key.mode) == ("root", 0o600)
        assert host.service("nginx").is_enabled
