"""`ppctl init`, and what `make up PORT=…` makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import Ppctl


@pytest.fixture
def settings(home: Path) -> Path:
    return home / "ppctl.yml"


def test_the_sample_says_what_was_asked(home: Path, settings: Path, ppctl: Ppctl) -> None:
    ran = ppctl("init", home, "--port", "4000", "--name", "team")
    assert (ran.code, ran.out) == (0, f"wrote {settings}; next: ppctl up -C {home}\n")
    assert yaml.safe_load(settings.read_text()) == {"name": "team", "port": 4000}
    assert "# workers: 2" in settings.read_text()


def test_a_second_one_is_refused_or_kept(home: Path, settings: Path, ppctl: Ppctl) -> None:
    ppctl("init", home, "--port", "4000")
    before = settings.read_bytes()
    ran = ppctl("init", home)
    assert (ran.code, "there is one already" in ran.err) == (1, True)
    assert ppctl("init", home, "--keep").code == 0
    assert ppctl("init", home, "--keep", "--port", "4000").code == 0
    assert settings.read_bytes() == before


def test_another_port_after_the_first_was_taken(home: Path, settings: Path, ppctl: Ppctl) -> None:
    """`make up` found its port taken; `make up PORT=4000` is to work, and to keep the rest."""
    ppctl("init", home, "--keep", "--name", "team")
    assert ppctl("init", home, "--keep", "--port", "4000").code == 0
    assert yaml.safe_load(settings.read_text()) == {"name": "team", "port": 4000}


@pytest.mark.parametrize("used", ["edited", "up"])
def test_a_file_in_use_is_not_overwritten(home: Path, settings: Path, ppctl: Ppctl, used: str) -> None:
    ppctl("init", home)
    if used == "edited":
        settings.write_text(settings.read_text() + "# mine\n")
    else:
        (home / ".manifest.json").write_text("{}")
    before = settings.read_bytes()
    ran = ppctl("init", home, "--keep", "--port", "4000")
    assert ran.code == 1
    assert f"{settings}: there is one already, with another `port`" in ran.err
    assert "set `port: 4000` in it, then run: ppctl up" in ran.err
    assert settings.read_bytes() == before


def test_wrong_values_are_refused(home: Path, settings: Path, ppctl: Ppctl) -> None:
    ran = ppctl("init", home, "--port", "70000")
    assert (ran.code, "accepted: 1 to 65535" in ran.err) == (2, True)
    assert not settings.exists()
