"""Which home a command means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ppctl import homes
from ppctl.errors import PpctlError, UsageError
from ppctl.host import FileInfo
from ppctl.settings import Mode
from tests.fake_host import FakeHost

REGISTER = Path("/home/operator/.config/ppctl/indexes")
MACHINES, OWN = Path("/srv/pypi"), Path("/home/ann/index")


class ClosedHost(FakeHost):
    """A machine on which nobody but root may look into /srv/pypi."""

    def stat(self, path: Path) -> FileInfo | None:
        if path.is_relative_to(MACHINES):
            raise PpctlError(f"{path}: cannot look at it: Permission denied")
        return super().stat(path)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PPCTL_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/ann/.config")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ann/.local/share")


def make(host: FakeHost, register: Path, name: str, home: Path) -> None:
    host.put(home / "ppctl.yml", b"")
    link(host, register, name, home)


def link(host: FakeHost, register: Path, name: str, home: Path) -> None:
    host.make_directory(register, mode=0o755)
    host.link(register / name, str(home))


def test_the_only_registered_index() -> None:
    host = FakeHost()
    assert homes.find(host, None) == Path("/home/ann/.local/share/ppctl/pypi")
    make(host, homes.user_register(), "team", OWN)
    assert homes.find(host, None) == OWN
    assert homes.find(host, Path("/elsewhere")) == Path("/elsewhere")


def test_of_several_one_must_be_named() -> None:
    host = FakeHost()
    make(host, homes.user_register(), "team", OWN)
    make(host, homes.SYSTEM_REGISTER, "pypi", MACHINES)
    with pytest.raises(UsageError, match="several indexes") as e:
        homes.find(host, None)
    assert e.value.hint == "say which: -C HOME"


def test_an_index_that_is_closed_to_the_user_does_not_count() -> None:
    host = ClosedHost()
    make(host, homes.SYSTEM_REGISTER, "pypi", MACHINES)
    make(host, homes.user_register(), "team", OWN)
    assert homes.find(host, None) == OWN


def test_a_closed_index_is_better_than_none() -> None:
    host = ClosedHost()
    make(host, homes.SYSTEM_REGISTER, "pypi", MACHINES)
    assert homes.find(host, None) == MACHINES


def test_a_link_to_nothing_does_not_count() -> None:
    host = FakeHost()
    link(host, homes.user_register(), "gone", Path("/gone"))
    assert homes.registered(host) == {}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHost:
    monkeypatch.setenv("HOME", "/home/operator")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.chdir(tmp_path)
    host = FakeHost()
    host.make_directory(tmp_path, mode=0o755)
    host.make_directory(REGISTER, mode=0o755)
    return host


def register(host: FakeHost, name: str, home: str, place: Path = REGISTER) -> None:
    host.put(f"{home}/ppctl.yml")
    host.make_directory(place, mode=0o755)
    host.link(place / name, home)


def test_what_somebody_else_has_put_into_the_working_directory_is_not_done_by_chance(
    host: FakeHost, tmp_path: Path
) -> None:
    host.put(tmp_path / "ppctl.yml", owner="somebody")
    with pytest.raises(UsageError, match="here belongs to somebody") as raised:
        homes.find(host, None)
    assert raised.value.hint.endswith(f"-C {tmp_path}")
    assert homes.find(host, tmp_path) == tmp_path
    host.put(tmp_path / "ppctl.yml", owner="root")
    assert homes.find(host, None) == tmp_path


def test_what_is_asked_for_wins(host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register(host, "a", "/srv/a")
    host.put(tmp_path / "ppctl.yml")
    monkeypatch.setenv("PPCTL_HOME", "/srv/env")
    assert homes.find(host, Path("/srv/asked")) == Path("/srv/asked")
    assert homes.find(host, None) == Path("/srv/env")
    monkeypatch.setenv("PPCTL_HOME", "")
    assert homes.find(host, None) == tmp_path
    host.remove(tmp_path / "ppctl.yml")
    assert homes.find(host, None) == Path("/srv/a")
    host.remove(REGISTER / "a")
    assert homes.find(host, None) == Path("/home/operator/.local/share/ppctl/pypi")


def test_only_links_to_indexes_that_are_there_count(host: FakeHost) -> None:
    register(host, "here", "/srv/here")
    host.link(REGISTER / "gone", "/srv/gone")
    host.put(REGISTER / "file", "/srv/here")
    assert homes.registered(host) == {"here": Path("/srv/here")}


def test_relative_paths(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert homes.find(host, Path("x/../y")) == tmp_path / "y"
    assert homes.find(host, Path("~/y")) == Path("/home/operator/y")
    monkeypatch.setenv("PPCTL_HOME", "rel")
    assert homes.find(host, None) == tmp_path / "rel"


def test_links_in_the_path_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert homes.absolute(tmp_path / "link") == tmp_path / "link"


def test_a_working_directory_that_is_gone(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert homes.find(host, None) == homes.default_home()
    assert homes.find(host, Path("/srv/x")) == Path("/srv/x")
    with pytest.raises(UsageError, match="the working directory has been removed"):
        homes.find(host, Path("relative"))
    os.chdir("/")


def test_a_user_that_is_not_there(host: FakeHost) -> None:
    with pytest.raises(UsageError, match="~no-such-user-here/x: there is no such user"):
        homes.find(host, Path("~no-such-user-here/x"))


def test_xdg_directories_must_be_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    for name, function in (("XDG_CONFIG_HOME", homes.user_register), ("XDG_DATA_HOME", homes.default_home)):
        monkeypatch.setenv(name, "relative")
        assert str(function()).startswith("/h/.")
        monkeypatch.setenv(name, "/xdg")
        assert str(function()).startswith("/xdg/ppctl/")


def test_registers() -> None:
    assert homes.register_of(Mode.SYSTEM) == Path("/etc/ppctl/indexes")
    assert homes.register_of(Mode.EMBEDDED) == homes.user_register()


def test_a_working_directory_that_is_closed_is_not_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    host = ClosedHost()
    make(host, homes.user_register(), "team", OWN)
    monkeypatch.setattr(Path, "cwd", lambda: MACHINES)  # `sudo -u ann` in a directory of root's
    assert homes.find(host, None) == OWN


def test_a_command_means_the_index_wherever_it_is_typed() -> None:
    assert homes.command(homes.default_home(), "up") == "ppctl up"
    assert homes.command(OWN, "token revoke", "ci") == f"ppctl token revoke -C {OWN} ci"
