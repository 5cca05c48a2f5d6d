"""The manifest: what ppctl has made, and what it makes of a damaged one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ppctl.deployment import Deployment, Manifest, deployed, read_manifest
from ppctl.errors import PpctlError
from ppctl.layout import Layout
from ppctl.settings import ManagerName, Mode
from tests.fake_host import FakeHost

HOME = Path("/srv/index")
ONE = Deployment("pypi", ManagerName.SUPERVISOR, Mode.EMBEDDED, HOME, "127.0.0.1", 3141, 2)
PATHS = frozenset({HOME / "run-pypi.sh", Path("/home/op/.config/ppctl/indexes/pypi")})


def host_with(content: bytes | str, home: Path = HOME) -> FakeHost:
    host = FakeHost()
    host.put(home / ".manifest.json", content)
    return host


def test_round_trip() -> None:
    two = replace(ONE, name="old", manager=ManagerName.SYSTEMD, mode=Mode.SYSTEM)
    manifest = Manifest((two, ONE), PATHS)
    assert read_manifest(host_with(manifest.to_bytes(HOME)), Layout(HOME)) == manifest
    assert deployed(host_with(manifest.to_bytes(HOME)), Layout(HOME)) == ONE


def test_a_moved_home_takes_its_paths_with_it() -> None:
    moved = Path("/mnt/index")
    found = read_manifest(host_with(Manifest((ONE,), PATHS).to_bytes(HOME), moved), Layout(moved))
    assert found.deployments == (replace(ONE, home=moved),)
    assert found.paths == {moved / "run-pypi.sh", Path("/home/op/.config/ppctl/indexes/pypi")}


def test_a_copied_home_has_made_nothing() -> None:
    host = host_with(Manifest((ONE,), PATHS).to_bytes(HOME))
    copy = Path("/srv/copy")
    host.put(copy / ".manifest.json", host.read(HOME / ".manifest.json") or b"")
    assert read_manifest(host, Layout(copy)) == Manifest()
    assert read_manifest(host, Layout(HOME)).deployments == (ONE,)


GOOD = json.loads(Manifest((ONE,), PATHS).to_bytes(HOME))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00garbage",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        json.dumps({**GOOD, "deployments": [{}]}),
        json.dumps({**GOOD, "deployments": {"a": 1}}),
        json.dumps({**GOOD, "deployments": [{**GOOD["deployments"][0], "manager": "runit"}]}),
        json.dumps({**GOOD, "deployments": [{**GOOD["deployments"][0], "port": "many"}]}),
        json.dumps({**GOOD, "paths": [1]}),
        json.dumps({**GOOD, "home": None}),
    ],
)
def test_a_damaged_manifest_is_none(content: bytes | str) -> None:
    assert read_manifest(host_with(content), Layout(HOME)) == Manifest()
    with pytest.raises(PpctlError, match="/srv/index: this index is not up"):
        deployed(host_with(content), Layout(HOME))


def test_no_manifest() -> None:
    assert read_manifest(FakeHost(), Layout(HOME)) == Manifest()


def test_addresses() -> None:
    assert ONE.address == "127.0.0.1:3141"
    assert replace(ONE, host="::1").address == "[::1]:3141"


def test_what_makes_the_same_processes() -> None:
    assert ONE.same_processes(replace(ONE, port=1, host="0.0.0.0", workers=9, home=Path("/x")))
    for other in ({"name": "x"}, {"manager": ManagerName.SYSTEMD}, {"mode": Mode.SYSTEM}):
        assert not ONE.same_processes(replace(ONE, **other))  # type: ignore[arg-type]
