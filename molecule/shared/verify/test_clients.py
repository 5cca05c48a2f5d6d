"""Real clients, on the controller, against every index of every host: twine, uv and pip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from test_indexes import indexes, testinfra_hosts

sys.path.append(os.environ["MOLECULE_PROJECT_DIRECTORY"])
from tests.e2e import packages

__all__ = ["testinfra_hosts"]

# In the inventories as a template, which testinfra hands out as it is.
PASSWORD = "molecule is no secret"


def run(*argv: str, **more: str) -> None:
    """Run a client with nothing of this machine's own configuration."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_", "TWINE_"))}
    environment = {**clean, "PIP_CONFIG_FILE": os.devnull, **more}
    done = subprocess.run(
        [sys.executable, "-m", *argv], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.wheel(tmp_path_factory.mktemp("wheel"), "team-demo", "1.0")


def test_twine_uploads_and_uv_and_pip_install(host: Any, wheel: Path, tmp_path: Path) -> None:
    variables = host.ansible.get_variables()
    for index in indexes(host):
        users = [*index["users"], *variables.get("ppctl_users_common", [])]
        user = next(
            user for user in users if user.get("state", "present") == "present" and "password" in user
        )
        server = f"{variables['ansible_host']}:{index['settings']['port']}"
        login = {"TWINE_USERNAME": user["name"], "TWINE_PASSWORD": PASSWORD}
        run("twine", "upload", "--repository-url", f"http://{server}/", str(wheel), **login)
        url = f"http://{user['name']}:{quote(PASSWORD)}@{server}/simple/"
        goal = ("--no-deps", "--target", str(tmp_path / f"uv-{index['name']}"), "team-demo")
        run("uv", "pip", "install", "--no-cache", "--default-index", url, *goal)
        assert (tmp_path / f"uv-{index['name']}" / "team_demo.py").exists()
        trusted = ("--trusted-host", variables["ansible_host"], "--disable-pip-version-check")
        run("pip", "download", "--no-deps", "--no-cache-dir", "-d", str(tmp_path / index["name"]), *trusted,
            "--index-url", url, "team-demo")  # fmt: skip
        assert (tmp_path / index["name"] / wheel.name).read_bytes() == wheel.read_bytes()
