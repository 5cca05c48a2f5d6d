"""ppctl.server.config: what is missing is safe, what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppctl.server import config


def write(tmp_path: Path, data: object) -> Path:
    path = tmp_path / "server.json"
    path.write_text(json.dumps(data))
    return path


def test_what_is_missing_is_safe(tmp_path: Path) -> None:
    found = config.load(write(tmp_path, {"a key of a later ppctl": 1}))
    assert found.login == {"list", "download", "upload"}
    assert found.packages == tmp_path / "packages"
    assert found.htpasswd == tmp_path / "htpasswd"
    assert found.run == tmp_path / "run"
    assert (found.upstream, found.upstream_url, found.private) == ("none", "", ())
    assert found.overwrite is False
    assert found.trusted_proxies == "127.0.0.1,::1"


def test_everything_is_read(tmp_path: Path) -> None:
    data = {
        "name": "team",
        "packages": "/p",
        "htpasswd": "/h",
        "permissions": "/perm",
        "ownership": True,
        "run": "/r",
        "login": ["upload"],
        "upstream": "redirect",
        "upstream_url": "https://pypi.org/simple/",
        "private": ["Corp_*"],
        "overwrite": True,
        "url_prefix": "/pypi/",
        "threads": 3,
        "stop_timeout": 5,
        "trusted_proxies": "10.0.0.0/8",
    }
    assert config.load(write(tmp_path, data)) == config.ServerConfig(
        packages=Path("/p"),
        htpasswd=Path("/h"),
        permissions=Path("/perm"),
        ownership=True,
        run=Path("/r"),
        name="team",
        login=frozenset({"upload"}),
        upstream="redirect",
        upstream_url="https://pypi.org/simple/",
        private=("corp-*",),
        overwrite=True,
        url_prefix="/pypi",
        threads=3,
        stop_timeout=5,
        trusted_proxies="10.0.0.0/8",
    )


def test_no_login_is_what_an_empty_list_says(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, {"login": []})).login == frozenset()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"upstream": "somewhere"}, "upstream: expected one of none, redirect, cache"),
        ({"upstream": "redirect"}, "upstream_url: needed for upstream redirect"),
        ({"private": ["corp x"]}, "'corp x' is no pattern of project names"),
        ({"login": ["uplaod"]}, "login: expected some of download, list, upload"),
        ({"login": "upload"}, "login: expected a value of type list"),
        ({"threads": True}, "threads: expected a value of type int"),
        ({"threads": 0}, "threads: expected a number from 1"),
        ({"overwrite": "no"}, "overwrite: expected a value of type bool"),
        ({"url_prefix": "pypi"}, "url_prefix: expected a path"),
        ([], "expected an object"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: object, reason: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(config.ConfigError, match=f"^{path}: {reason}"):
        config.load(path)


def test_a_missing_or_broken_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="No such file"):
        config.load(tmp_path / "server.json")
    (tmp_path / "server.json").write_bytes(b"{\xff")
    with pytest.raises(config.ConfigError, match="not valid JSON"):
        config.load(tmp_path / "server.json")


@pytest.mark.parametrize("number", ["", "0", "-1", "one", "²"])
def test_a_worker_has_a_number(number: str) -> None:
    with pytest.raises(config.ConfigError, match="PPCTL_WORKER"):
        config.worker_info({"PPCTL_WORKER": number})


def test_the_home_is_absolute() -> None:
    assert config.config_path({"PPCTL_HOME": "/srv/x"}) == Path("/srv/x/server.json")
    with pytest.raises(config.ConfigError, match="PPCTL_HOME"):
        config.config_path({})
