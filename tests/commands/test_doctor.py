"""`ppctl doctor` as people and programs read it: order, signs, exit codes, --json."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from ppctl.commands import doctor
from ppctl.errors import UsageError
from ppctl.machine import Machine
from ppctl.output import Output
from tests.checks.examples import USER_HOME, Example, healthy
from tests.cli import ppctl
from tests.conftest import pick_port


class Terminal(io.TextIOWrapper):
    """A terminal with the given encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real home, which was never up."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "PPCTL_HOME", "PPCTL_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "h"
    home.mkdir(mode=0o750)
    (home / "ppctl.yml").write_text(f"port: {pick_port()}\n")
    return home


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Example:
    """A healthy index on a machine in memory."""
    monkeypatch.setenv("HOME", str(USER_HOME))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return healthy()


def run(example: Example, out: Output) -> int:
    fake = example.subject().machine
    machine = Machine(example.host, out, fake.manager, fake.probe, fake.answers)
    return doctor.doctor(example.layout.home, machine)


@pytest.mark.parametrize(
    ("encoding", "signs"), [("utf-8", ("✗ ", "! ", "✓ ")), ("ascii", ("problem ", "warning ", "ok "))]
)
def test_the_worst_comes_first(
    example: Example, encoding: str, signs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    example.host.put(example.layout.htpasswd, "ann:{SHA}x\n", mode=0o644)
    terminal = Terminal(encoding)
    assert run(example, Output(stdout=terminal)) == 1
    lines = terminal.shown.splitlines()
    assert lines[0].startswith(signs[0]) and "mode 0644: others may read" in lines[0]
    assert lines[1].strip() == "mend: chmod o-r /home/operator/pypi/htpasswd"
    marks = [sign for line in lines for sign in signs if line.startswith(sign)]
    assert marks == sorted(marks, key=signs.index) and set(marks) == set(signs)
    assert lines[-1].startswith("1 problem, 2 warnings, ")  # the mode is a drift, too


def test_warnings_alone_do_not_fail(example: Example) -> None:
    example.host.put(example.layout.htpasswd, "ann:{SHA}x\n", mode=0o640)
    out = io.StringIO()
    assert run(example, Output(stdout=out, quiet=True)) == 0
    assert out.getvalue().splitlines() == [
        "warning  passwords      /home/operator/pypi/htpasswd: "
        "the password of ann is stored with a weak hash: sha1",
        "                        mend: ppctl passwd -C /home/operator/pypi ann",
    ]


def test_quiet_says_nothing_when_nothing_is_wrong(example: Example) -> None:
    out = io.StringIO()
    assert run(example, Output(stdout=out, quiet=True)) == 0
    assert out.getvalue() == ""


def test_what_a_file_says_does_not_reach_the_terminal_as_it_is(example: Example) -> None:
    example.host.put(example.layout.htpasswd, "\x1b[2Jann:{SHA}x\n", mode=0o640)
    out = io.StringIO()
    run(example, Output(stdout=out))
    assert "\x1b" not in out.getvalue() and "\\x1b[2Jann" in out.getvalue()


def test_an_index_that_was_never_up(home: Path) -> None:
    ran = ppctl("doctor", "-C", str(home))
    assert ran.code == 1
    assert ran.out.startswith("problem  workers")
    assert f"mend: ppctl up -C {home}\n" in ran.out
    skipped = [line for line in ran.out.splitlines() if line.startswith("skipped")]
    assert "not checked: links, manager, drift: the index is not up" in skipped[0]


def test_json_has_every_finding(home: Path) -> None:
    ran = ppctl("doctor", "-C", str(home), "--json")
    envelope = json.loads(ran.out)
    assert (ran.code, envelope["exit_code"], envelope["ok"]) == (1, 1, False)
    result = envelope["result"]
    assert result["home"] == str(home)
    assert sum(result["counts"].values()) == len(result["findings"])
    assert {"check", "severity", "where", "message", "mend"} == set(result["findings"][0])
    assert result["findings"][0]["severity"] == "problem"
    assert set(result["counts"]) == {"problem", "warning", "skipped", "ok"}


@pytest.mark.parametrize(
    ("content", "says", "mend"),
    [
        ("port: 70000\n", "ppctl.yml: port: expected", "ppctl schema"),
        ("prot: 3141\n", "prot: no such key (did you mean port?)", "ppctl schema"),
        ("port: [\n", "not valid YAML", ""),
    ],
)
def test_wrong_settings_are_the_finding(home: Path, content: str, says: str, mend: str) -> None:
    (home / "ppctl.yml").write_text(content)
    ran = ppctl("doctor", "-C", str(home), "--json")
    assert ran.code == 1
    first, *others = ran.result["findings"]
    assert (first["check"], first["severity"]) == ("settings", "problem")
    assert says in first["message"] and mend in first["mend"]
    assert {each["severity"] for each in others} == {"skipped"}
    assert len(others) > 25
    assert "problem  settings" in ppctl("doctor", "-C", str(home)).out


def test_lost_settings_are_a_finding_too(home: Path) -> None:
    (home / "ppctl.yml").rename(home / ".manifest.json")
    ran = ppctl("doctor", "-C", str(home))
    assert ran.code == 1 and "no ppctl.yml" in ran.out


def test_no_index_at_all(tmp_path: Path) -> None:
    ran = ppctl("doctor", "-C", str(tmp_path))
    assert ran.code == UsageError.exit_code
    assert "there is no index here" in ran.err and "ppctl init" in ran.err
