"""What goes for each index of a host: its own variables over the host's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.fleet.support import load
from tests.hosts import CHECKOUT

plugin: Any = None


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    global plugin  # noqa: PLW0603 - Ansible is not there in every virtualenv that collects these tests
    pytest.importorskip("ansible")
    with pytest.MonkeyPatch.context() as monkeypatch:
        plugin = load("filter/wanted_indexes", monkeypatch)
        yield


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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"usres": []}, "pypi: unknown usres; there are name, home"),
        (
            {"users": [{"name": "ann", "pasword": "x"}]},
            "pypi: users: ann: unknown pasword; there are name, pas",
        ),
        ({"users": [{"name": "ann"}, {"name": "ann"}]}, "pypi: users: ann is there twice"),
        ({"users": [{"password": "x"}]}, "pypi: users: each user needs a name"),
        ({"takes_over": {"programm": "x"}}, "pypi: takes_over: unknown programm; there are program, pack"),
        ({"takes_over": "pypi"}, "pypi: takes_over: expected keys and values"),
        ({"settings": [3141]}, "pypi: settings: expected keys and values"),
        ({"settings": {"name": "team"}}, "pypi: settings.name is team: the name is said once"),
    ],
)
def test_what_nobody_would_read_is_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message) as raised:
        plugin.wanted_indexes([{"name": "pypi", **more}])
    assert "'x'" not in str(raised.value)


def test_users_of_every_index_are_looked_at_too() -> None:
    with pytest.raises(Exception, match="ppctl_users_common: ann: unknown disable; there are"):
        plugin.wanted_indexes([{"name": "pypi"}], users=[{"name": "ann", "disable": True}])


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({"name": "pypi"}, {"name": "pypi", "home": "/srv/b"}, "two indexes are called pypi"),
        (
            {"name": "a", "home": "/srv/x"},
            {"name": "b", "home": "/srv/x"},
            "a and b have the same home, /srv/x",
        ),
        ({"name": "a"}, {"name": "b"}, "a and b would both listen on port 3141: give one of them another"),
        (
            {"name": "a", "settings": {"host": "0.0.0.0", "port": 4000}},
            {"name": "b", "settings": {"host": "192.0.2.1", "port": 4000}},
            "both listen on port 4000",
        ),
    ],
)
def test_indexes_that_cannot_be_on_one_host_are_refused(
    one: dict[str, object], other: dict[str, object], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        plugin.wanted_indexes([one, other])


def test_one_port_may_have_several_addresses_and_be_handed_on() -> None:
    here, there = (
        {"name": name, "settings": {"host": host}} for name, host in (("a", "192.0.2.1"), ("b", "192.0.2.2"))
    )
    assert len(plugin.wanted_indexes([here, there])) == 2
    new, old = {"name": "new"}, {"name": "old", "state": "absent"}
    # The one that goes comes first, so that its port is free.
    assert [index["name"] for index in plugin.wanted_indexes([new, old])] == ["old", "new"]


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
