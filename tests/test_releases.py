"""Releases: ids, completeness, building, and which are removed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ppctl import releases
from ppctl.errors import PpctlError
from ppctl.host import Completed
from ppctl.layout import Layout
from ppctl.releases import Release
from ppctl.settings import Server
from tests.fake_host import FakeHost, Killed, Run
from tests.fakes import World

HOME = Path("/srv/index")
LAYOUT = Layout(HOME)


def release(**values: object) -> Release:
    server = Server(**values)  # type: ignore[arg-type]
    return releases.define(server, "/usr/bin/python3", "3.11.7")


def put_release(host: FakeHost, name: str) -> None:
    host.put(HOME / "releases" / name / "bin" / "python")
    host.put(HOME / "releases" / name / "release.json")


def test_the_same_settings_are_the_same_release() -> None:
    assert release() == release()
    assert release().id.startswith("2.4.2-")
    pinned = release(versions={"pypiserver": "2.4.1", "gunicorn": "27.0.1"})
    assert pinned == release(versions={"gunicorn": "27.0.1", "pypiserver": "2.4.1"})
    assert pinned.id.startswith("2.4.1-")


def test_what_makes_another_release() -> None:
    ids = {
        release().id,
        release(versions={"gunicorn": "27.0.0"}).id,
        releases.define(Server(), "/usr/bin/python3", "3.11.8").id,
        releases.define(Server(), "/opt/python3", "3.11.7").id,
    }
    assert len(ids) == 4
    # Where it is installed from is no part of it.
    assert release().id == release(find_links="/srv/wheels").id


def test_describe() -> None:
    assert release().describe() == "pypiserver 2.4.2, gunicorn 27.0.1"
    assert release(versions={"pypiserver": "2.4.1"}).describe() == "pypiserver 2.4.1, gunicorn 27.0.1"


def test_the_lock_file_is_complete() -> None:
    """Every requirement has an exact version and hashes, and the workers' imports are among them."""
    lines = release().lock.splitlines()
    pinned = [line for line in lines if "==" in line and not line.startswith(" ")]
    assert {line.split("==")[0] for line in pinned} >= {"pypiserver", "gunicorn", "libpass", "bcrypt"}
    assert len([line for line in lines if "--hash=sha256:" in line]) >= len(pinned)


def test_build_writes_its_marker_last() -> None:
    world = World()
    releases.build(release(), LAYOUT, world.host)
    path = release().path(LAYOUT)
    writes = [arguments[0] for operation, arguments in world.host.operations if operation == "write"]
    assert writes[-1] == path / "release.json"
    assert releases.is_complete(release().id, LAYOUT, world.host)
    modules = path / "lib/python3.11/site-packages/ppctl"
    assert (
        world.host.read(modules / "server" / "app.py")
        == (releases.PACKAGE / "server" / "app.py").read_bytes()
    )
    commands = [run.argv[1:4] for run in world.host.runs]
    assert ("pip", "install", "--require-hashes") in commands


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        ({}, []),
        ({"find_links": "/srv/wheels"}, ["--no-index", "--find-links", "/srv/wheels"]),
        ({"index_url": "https://mirror/simple"}, ["--default-index", "https://mirror/simple"]),
    ],
)
def test_where_packages_come_from(values: dict[str, object], arguments: list[str]) -> None:
    world = World()
    world.uv_has_kept = False
    releases.build(release(versions={"pypiserver": "2.4.1"}, **values), LAYOUT, world.host)
    pip = [run.argv for run in world.host.runs if run.argv[1] == "pip"]
    asked = [(argv[2], list(argv[argv.index("--python") + 2 :])) for argv in pip]
    from_what_is_kept = [] if "find_links" in values else [("install", [*arguments, "--offline"])]
    assert asked == [("compile", arguments), *from_what_is_kept, ("install", arguments)]
    wanted = (
        world.host.read(release().path(LAYOUT).parent / pip[0][pip[0].index("--no-header") + 1]) or b""
    ).decode()
    assert "pypiserver==2.4.1\n" in wanted and "gunicorn" in wanted


def test_uv_does_not_look_at_the_working_directory() -> None:
    """Whoever has put a uv.toml into /tmp would say where root, who is there, installs from."""
    world = World()
    releases.build(release(versions={"pypiserver": "2.4.1"}), LAYOUT, world.host)
    uvs = [run.argv for run in world.host.runs if run.argv[1] in ("pip", "venv")]
    assert [argv[argv.index("--directory") + 1] for argv in uvs] == ["/", "/", "/"]


def test_what_uv_has_kept_needs_no_network() -> None:
    world = World()
    releases.build(release(), LAYOUT, world.host)
    pip = [run.argv for run in world.host.runs if run.argv[1] == "pip"]
    assert [argv[-1] for argv in pip] == ["--offline"]


def test_the_machines_authorities_are_taken_where_uvs_own_do_not_do() -> None:
    world = World()
    world.uv_knows_authority = False
    releases.build(release(), LAYOUT, world.host)
    assert releases.is_complete(release().id, LAYOUT, world.host)


@pytest.mark.parametrize(
    ("complaint", "find_links", "hint"),
    [
        ("No space left on device (os error 28)", "", "server.find_links"),
        ("there is no version of gunicorn==26.0.0", "/srv/wheels", "then: ppctl up -C /srv/index"),
        ("invalid peer certificate: UnknownIssuer", "", "SSL_CERT_FILE=…"),
    ],
)
def test_a_build_that_fails_leaves_nothing(complaint: str, find_links: str, hint: str) -> None:
    world = World()
    world.uv_fails = f"error: {complaint}"
    with pytest.raises(PpctlError, match=rf"cannot install(.|\n)*{re.escape(complaint)}") as caught:
        releases.build(release(find_links=find_links), LAYOUT, world.host)
    assert hint in caught.value.hint
    assert world.host.list(HOME / "releases") == []


def test_a_release_that_cannot_be_imported_is_no_release() -> None:
    world = World()

    def python(run: Run) -> Completed | str:
        if "ppctl.server.app" in run.argv[-1]:
            return Completed(
                1, "", "Traceback:\nImportError: cannot import name 'RunConfig' from 'pypiserver'"
            )
        return world._python(run)

    world.host.answer(str(release().path(LAYOUT) / "bin" / "python"), by=python)
    original = world.host.answer
    world.host.answer = lambda *prefix, by="": None  # type: ignore[method-assign,assignment] # uv's python stays ours
    with pytest.raises(PpctlError, match=r"the release does not work:(.|\n)*ImportError"):
        releases.build(release(), LAYOUT, world.host)
    world.host.answer = original  # type: ignore[method-assign]
    assert world.host.list(HOME / "releases") == []


def test_a_half_removed_release_is_not_complete() -> None:
    host = FakeHost()
    put_release(host, "a")
    for name in "xyz":
        host.put(HOME / "releases" / "a" / "lib" / "deep" / "deeper" / name)
    host.kill_at(2, midway=True)
    with pytest.raises(Killed):
        releases.remove(HOME / "releases" / "a", host)
    assert host.stat(HOME / "releases" / "a" / "bin" / "python")
    assert not releases.is_complete("a", LAYOUT, host)


@pytest.mark.parametrize(
    ("keep", "wanted", "removed"),
    [
        (3, "d", ["a", "half"]),
        (1, "d", ["a", "b", "c", "half"]),
        (50, "d", ["half"]),
        (3, "a", ["b", "half"]),
        (2, "new", ["a", "b", "c", "half"]),
    ],
)
def test_what_is_superfluous(keep: int, wanted: str, removed: list[str]) -> None:
    host = FakeHost()
    for name in "abcd":
        put_release(host, name)
    host.put(HOME / "releases" / "half" / "bin" / "python")
    host.link(HOME / "releases" / "current", "c")
    assert sorted(releases.superfluous(LAYOUT, host, wanted=wanted, keep=keep)) == removed


def test_current() -> None:
    host = FakeHost()
    assert releases.current(LAYOUT, host) == ""
    host.make_directory(HOME / "releases", mode=0o755)
    host.link(HOME / "releases" / "current", "a")
    assert releases.current(LAYOUT, host) == "a"
