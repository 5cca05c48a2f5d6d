"""What goes for each index of a host: its own variables over the host's."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import yaml

from tests.hosts import CHECKOUT

spec = importlib.util.spec_from_file_location(
    "wanted_indexes", CHECKOUT / "ansible" / "plugins" / "filter" / "wanted_indexes.py"
)
assert spec and spec.loader
plugin: Any = importlib.util.module_from_spec(spec)


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    pytest.importorskip("ansible")
    assert spec and spec.loader
    spec.loader.exec_module(plugin)


def test_an_index_with_a_name_only_has_the_defaults() -> None:
    assert plugin.wanted_indexes([{"name": "pypi"}]) == [
        {
            "name": "pypi",
            "home": "/srv/pypi",
            "state": "present",
            "purge": False,
            "settings": {"server": {}, "name": "pypi"},
            "takes_over": None,
            "users": [],
            "exclusive": False,
            "allow_weak": False,
        }
    ]


def test_its_own_settings_and_users_come_on_top() -> None:
    index = {
        "name": "team",
        "home": "/data/team",
        "settings": {"password": {"bcrypt_cost": 10}, "server": {"threads": 4}},
        "users": [{"name": "ann", "password": "own"}],
        "users_exclusive": True,
    }
    (found,) = plugin.wanted_indexes(
        [index],
        root="/srv/indexes",
        settings={"password": {"bcrypt_cost": 12, "min": 8}, "port": 1},
        source={"find_links": "/w"},
        users=[{"name": "ann", "password": "common"}, {"name": "bob"}],
    )
    assert found["home"] == "/data/team" and found["exclusive"] is True
    assert found["settings"] == {
        "name": "team",
        "port": 1,
        "password": {"bcrypt_cost": 10, "min": 8},
        "server": {"find_links": "/w", "threads": 4},
    }
    assert found["users"] == [{"name": "bob"}, {"name": "ann", "password": "own"}]


@pytest.mark.parametrize("index", [{}, {"name": ""}, "pypi"])
def test_an_index_without_a_name_is_refused(index: object) -> None:
    with pytest.raises(Exception, match="each index needs a name"):
        plugin.wanted_indexes([index])


def test_a_key_that_no_index_has_is_refused() -> None:
    with pytest.raises(Exception, match="pypi: unknown usres; there are name, home"):
        plugin.wanted_indexes([{"name": "pypi", "usres": []}])


def test_the_keys_are_those_of_the_role() -> None:
    specs = yaml.safe_load((CHECKOUT / "ansible/roles/ppctl_index/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]["ppctl_indexes"]["options"]
    assert set(plugin.KEYS) == set(options)


@pytest.mark.parametrize(
    ("common", "own", "host", "prefix"),
    [
        ({}, {}, "127.0.0.1", "/pypi"),
        ({"host": "0.0.0.0"}, {"url_prefix": "/team"}, "0.0.0.0", "/team"),
        ({"url_prefix": "/all"}, {}, "127.0.0.1", "/all"),
    ],
)
def test_behind_a_proxy_it_is_at_a_path(
    common: dict[str, object], own: dict[str, object], host: str, prefix: str
) -> None:
    (found,) = plugin.wanted_indexes(
        [{"name": "pypi", "settings": own}], settings=common, proxy="https://pypi.example.com"
    )
    settings = found["settings"]
    assert (settings["host"], settings["url_prefix"]) == (host, prefix)
    assert settings["public_url"] == f"https://pypi.example.com{prefix}"
