"""Which Python releases are made with: the settings', the distribution's, ppctl's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ppctl import pythons
from ppctl.errors import PpctlError
from ppctl.host import Completed
from ppctl.settings import Server
from tests.fake_host import FakeHost


def test_which_one_is_chosen() -> None:
    host = FakeHost()
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    assert pythons.choose(Server(python="3.12"), host, is_system=True) == "3.12"
    assert pythons.choose(Server(), host, is_system=False) == own
    assert pythons.choose(Server(), host, is_system=True) == own
    host.put("/usr/bin/python3")
    assert pythons.choose(Server(), host, is_system=True) == "/usr/bin/python3"


def test_the_version() -> None:
    host = FakeHost()
    host.answer("/usr/bin/python3", by="3.13.1\n")
    assert pythons.version_of("/usr/bin/python3", host) == "3.13.1"
    host.answer(pythons.find_uv(host), by="/usr/bin/python3\n")
    assert pythons.version_of("3.13", host) == "3.13.1"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Completed(1, "", "broken interpreter"), "does not run: broken interpreter"),
        ("", "does not run"),
        ("3.9.2\n", "is Python 3.9.2; the server needs 3.10 or newer"),
        ("nonsense\n", "does not run"),
    ],
)
def test_pythons_that_do_not_serve(answer: Completed | str, message: str) -> None:
    host = FakeHost()
    host.answer("/opt/python", by=answer)
    with pytest.raises(PpctlError, match=f"server.python: /opt/python.*{message}"):
        pythons.version_of("/opt/python", host)


def test_no_such_python() -> None:
    host = FakeHost()
    host.answer(pythons.find_uv(host), by=Completed(2, "", "no interpreter"))
    with pytest.raises(PpctlError, match=r"server\.python: there is no Python 3\.99 on this machine"):
        pythons.version_of("3.99", host)
    with pytest.raises(PpctlError, match=r"server\.python: /opt/gone"):
        pythons.version_of("/opt/gone", host)


def test_uv_of_the_path_is_the_second_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(PpctlError, match="uv is not installed"):
        pythons.find_uv(host)
    host.programs["uv"] = "/usr/local/bin/uv"
    assert pythons.find_uv(host) == "/usr/local/bin/uv"


def test_what_the_environment_tells_uv_is_meant_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").touch()
    told = {"SSL_CERT_FILE": "ca.pem", "UV_FIND_LINKS": "https://example.com/", "UV_CACHE_DIR": "/"}
    assert pythons.paths_for_uv(told) == {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "UV_CACHE_DIR": "/"}
