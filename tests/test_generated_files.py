"""What is stated once is the same in every file: paths, port; and what a change of a setting leads to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ppctl import desired, sample
from ppctl.clients import CLIENTS, entry_of
from ppctl.desired import Desired
from ppctl.facts import Facts
from ppctl.index import Index
from ppctl.layout import Layout
from ppctl.releases import define
from ppctl.settings import ManagerName, Mode, from_data

HOME = Path("/srv/index")
PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "change-settings.md"
KINDS = [(manager, mode) for manager in (ManagerName.SUPERVISOR, ManagerName.SYSTEMD) for mode in Mode]
in_every_way = pytest.mark.parametrize(("manager", "mode"), KINDS)


def index(**settings: Any) -> Index:
    return Index(Layout(HOME), from_data(settings, "ppctl.yml"))


def build(found: Index, manager: ManagerName) -> Desired:
    is_system = found.is_system
    units = Path("/etc/systemd/system") if manager is ManagerName.SYSTEMD else Path("/etc/supervisor/conf.d")
    facts = Facts(
        manager=manager,
        group=found.settings.account if is_system else None,
        release=define(found.settings.server, found.settings.server.python or "/usr/bin/python3", "3.11.2"),
        register=Path("/etc/ppctl/indexes"),
        unit_directory=units if is_system or manager is ManagerName.SYSTEMD else None,
        include_path=units / "x.conf" if is_system and manager is ManagerName.SUPERVISOR else None,
    )
    return desired.build(found, facts)


@in_every_way
def test_generated_files_name_only_known_paths(manager: ManagerName, mode: Mode) -> None:
    """A file below the home that a generated file names is one that ppctl makes, or its server."""
    found = index(mode=mode.value)
    made, layout = build(found, manager), found.layout
    known = {layout.home, layout.current}
    known |= {entry.path for entry in (*made.directories, *made.files, *made.links)}
    known |= {getattr(layout, name) for name in vars(Layout) if isinstance(vars(Layout)[name], property)}
    for file in made.files:
        for named in re.findall(r"/srv/index[\w./@%()-]*", file.content.decode()):
            path = Path(named.rstrip("."))
            assert path in known or path.parent in (layout.logs, layout.run), f"{file.path} names {path}"


@in_every_way
def test_the_port_is_the_same_everywhere(manager: ManagerName, mode: Mode) -> None:
    found = index(mode=mode.value, port=4711)
    texts = [file.content.decode() for file in build(found, manager).files]
    entry = entry_of(found.settings)
    texts += [client.render(entry) for client in CLIENTS.values() if client.name != "netrc"]
    ports = re.findall(r"127\.0\.0\.1:(\d+)", "\n".join(texts))
    assert set(ports) == {"4711"}
    assert len(ports) > 10
    assert "3141" not in "\n".join(texts)


# -- the page about changes ----------------------------------------------------------------------------

OTHER_VALUES: dict[str, Any] = {
    "name": "team",
    "host": "0.0.0.0",
    "port": 4000,
    "manager": "systemd",
    "mode": "embedded",
    "account": "www",
    "workers": 3,
    "threads": 4,
    "stop_timeout": 30,
    "login": ["list", "upload"],
    "upstream": "redirect",
    "upstream_url": "https://pypi.example.com/simple/",
    "private": ["corp-*"],
    "cache.max_size": "1GB",
    "cache.refresh": 60,
    "overwrite": True,
    "ownership": True,
    "max_upload_size": "2MB",
    "url_prefix": "/pypi",
    "public_url": "https://pypi.example.com",
    "trusted_proxies": ["192.0.2.1"],
    "password.bcrypt_cost": 13,
    "logs.max_size": "1MB",
    "logs.keep": 1,
    "server.versions": {"pypiserver": "2.4.1"},
    "server.python": "3.12",
    "server.index_url": "https://pypi.example.com/simple/",
    "server.find_links": "/srv/wheels",
    "server.keep_releases": 1,
}
NOTHING, ONE_BY_ONE, REFUSED = "nothing restarts", "one by one", "refused for a moment"


def effect(key: str, manager: ManagerName) -> str:
    """Return what a change of `key` does to requests, by what the managers compare (`pending`)."""
    block, _, name = key.rpartition(".")
    value = {block: {name: OTHER_VALUES[key]}} if block else {key: OTHER_VALUES[key]}
    # The redirect's target counts only where there is a redirect.
    base = {"mode": "system", **({"upstream": "redirect"} if key == "upstream_url" else {})}
    base |= {"upstream": "cache"} if block == "cache" else {}
    before = build(index(**base), manager)
    other = {ManagerName.SUPERVISOR: ManagerName.SYSTEMD, ManagerName.SYSTEMD: ManagerName.SUPERVISOR}
    after = build(index(**{**base, **value}), other[manager] if key == "manager" else manager)
    if not before.deployment.same_processes(after.deployment):
        return REFUSED
    if before.unit != after.unit:
        moves = before.unit.partition("/")[0] != after.unit.partition("/")[0]
        return REFUSED if moves or manager is ManagerName.SUPERVISOR else ONE_BY_ONE
    same = (before.generation, before.release.id) == (after.generation, after.release.id)
    return NOTHING if same else ONE_BY_ONE


@pytest.mark.parametrize("key", [key for key, *_ in sample.rows()])
def test_the_page_about_changes_is_right(key: str) -> None:
    rows = re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    (row,) = [row for row in rows if f"`{key}`" in row[0]]
    assert (row[1], row[2]) == (effect(key, ManagerName.SUPERVISOR), effect(key, ManagerName.SYSTEMD))
