"""The command line: help of every command, where options may stand, which home is meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ppctl.cli import SECTIONS, cli
from tests.conftest import NewHome, Ppctl


def commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_every_command(path: tuple[str, ...], option: str, ppctl: Ppctl) -> None:
    ran = ppctl(*path, option)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: ppctl {' '.join(path)} ")
    command = ALL[path]
    assert command.help and command.help.splitlines()[0].endswith((".", ":")), (
        "says what it does in a sentence"
    )
    short = command.get_short_help_str(200)
    assert short and not short.endswith("..."), "fits into the list"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help and parameter.help.endswith("."), parameter.name


def test_the_help_has_every_command_in_a_section(ppctl: Ppctl) -> None:
    out = ppctl("--help").out
    titles = [title for title, members in SECTIONS.items() if members]
    assert [line[:-1] for line in out.splitlines() if line.endswith(":") and line[:-1] in titles] == titles
    listed = re.findall(r"^  ([a-z][a-z-]*) {2,}", out, re.M)
    assert sorted(listed) == sorted(name for name, command in cli.commands.items() if not command.hidden)


def test_home_before_and_after_the_command(
    new_home: NewHome, ppctl: Ppctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_home(name="here")
    expected = f"here: down (start it: ppctl up -C {home})\n"
    assert ppctl("status", "-C", home).out == expected
    assert ppctl("-C", home, "status").out == expected
    assert ppctl("--home", home, "status").out == expected
    assert ppctl("-C", "/elsewhere", "status", "-C", home).out == expected  # the later one counts
    monkeypatch.setenv("PPCTL_HOME", str(home))
    assert ppctl("status").out == expected
    assert "/elsewhere" in ppctl("status", "-C", "/elsewhere").err
    monkeypatch.delenv("PPCTL_HOME")
    monkeypatch.chdir(home)
    assert ppctl("status").out == expected


def test_status_of_an_index_in_the_usual_place_says_what_is_enough(
    new_home: NewHome, ppctl: Ppctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_home(name="usual")
    monkeypatch.setattr("ppctl.homes.default_home", lambda: home)
    assert ppctl("status").out == "usual: down (start it: ppctl up)\n"


def test_home_as_an_argument(tmp_path: Path, ppctl: Ppctl, home: Path) -> None:
    assert ppctl("init", home).code == 0
    assert (home / "ppctl.yml").exists()
    assert "there is one already" in ppctl("init", home).err


def test_init_sets_what_is_asked(home: Path, ppctl: Ppctl) -> None:
    ran = ppctl(
        "init",
        home,
        "--name",
        "team",
        "--port",
        "4000",
        "--host",
        "0.0.0.0",
        "--manager",
        "systemd",
        "--system",
    )
    assert ran.code == 0
    lines = [line for line in (home / "ppctl.yml").read_text().splitlines() if line and line[0] != "#"]
    assert lines == ['name: "team"', 'host: "0.0.0.0"', "port: 4000", 'manager: "systemd"', 'mode: "system"']
    assert oct((home / "ppctl.yml").stat().st_mode & 0o777) == "0o640"
    assert oct(home.stat().st_mode & 0o777) == "0o750"


def test_quiet(home: Path, ppctl: Ppctl) -> None:
    ran = ppctl("init", "-q", home)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert ppctl("init", "-q", home).err.startswith("error: ")


def test_the_schema_is_printed(ppctl: Ppctl) -> None:
    import json

    assert json.loads(ppctl("schema").out)["$ref"]


def test_plan_and_dry_run_are_the_same(new_home: NewHome, ppctl: Ppctl) -> None:
    home = new_home()
    plan, dry_run = ppctl("plan", "-C", home), ppctl("up", "--dry-run", "-C", home)
    assert plan.code == dry_run.code == 0
    assert plan.out == dry_run.out
    assert "+++ " in plan.out
    assert sorted(path.name for path in home.iterdir()) == ["ppctl.yml"]
    assert ppctl("plan", "--exit-code", home).code == ppctl("up", "--dry-run", "--exit-code", home).code == 2


def test_every_changing_command_can_refuse_to_wait() -> None:
    for name in ("up", "down", "destroy", "start", "stop", "restart"):
        assert any("--no-wait" in p.opts for p in cli.commands[name].params), name


def test_every_reporting_command_has_json() -> None:
    missing = [path for path, command in ALL.items() if not any("--json" in p.opts for p in command.params)]
    # These print a text that is their result.
    allowed = {("schema",), ("completion",)}
    assert {path for path in missing if not isinstance(ALL[path], click.Group)} <= allowed
