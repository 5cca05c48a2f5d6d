"""Completion, as a real shell asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import ppctl, program_on_terminal

ASK = """
set -u
eval "$(ppctl completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=()
_ppctl_completion ppctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with `ppctl` on the PATH and an index with two users."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ppctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ppctl "$@"\n')
    program.chmod(0o755)
    home = tmp_path / "index"
    home.mkdir()
    (home / "ppctl.yml").touch()
    (home / "htpasswd").write_text("ann:{SHA}x\nanton:{SHA}x\nbob:{SHA}x\n")
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PPCTL_HOME": str(home)}


def in_bash(environment: dict[str, str], *words: str) -> list[str]:
    """Return what bash offers for a command line of these words, the last one being typed."""
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", "ppctl", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["res"], ["restart"]),
        (["restart", "--wo"], ["--worker"]),
        (["client", "pi"], ["pip"]),
        (["client", "poetry", "--pri"], ["--priority"]),
        (["client", "poetry", "--priority", "e"], ["explicit"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["passwd", "an"], ["ann", "anton"]),
        (["deluser", "bob", "an"], ["ann", "anton"]),
        (["client", "nonsense", "--x"], []),
    ],
    ids=" ".join,
)
def test_bash_completes(environment: dict[str, str], words: list[str], expected: list[str]) -> None:
    assert in_bash(environment, *words) == expected


@pytest.mark.e2e
def test_bash_offers_every_command(environment: dict[str, str]) -> None:
    from ppctl.cli import cli

    assert set(in_bash(environment, "")) == set(cli.commands)


@pytest.mark.e2e
def test_users_of_the_home_that_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    home = Path(environment.pop("PPCTL_HOME"))
    environment.update(XDG_DATA_HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path))
    assert in_bash(environment, "passwd", "-C", str(home), "b") == ["bob"]
    assert in_bash(environment, "-C", str(home), "passwd", "b") == ["bob"]
    assert in_bash(environment, "passwd", "-C", str(tmp_path), "b") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_name_ppctl_and_are_valid(shell: str, tmp_path: Path) -> None:
    ran = ppctl("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert f"_PPCTL_COMPLETE={shell}_complete" in ran.out
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(ran.out)
        subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.e2e
@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(environment: dict[str, str]) -> None:
    ask = 'ppctl completion fish | source; complete -C "ppctl resta"; complete -C "ppctl passwd an"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", ask], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    offered = dict(line.partition("\t")[::2] for line in done.stdout.splitlines())
    assert list(offered) == ["restart", "ann", "anton"]
    assert "no request is lost" in offered["restart"]


@pytest.mark.e2e
@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".zshrc").write_text(
        'PS1="READ""Y"; autoload -U compinit; compinit -u -D; eval "$(ppctl completion zsh)"\n'
    )
    environment.update(ZDOTDIR=str(tmp_path), TERM="dumb")
    to_the_beginning = "\x01"
    ran = program_on_terminal(
        ["zsh", "--no-globalrcs", "-i"],
        [
            ("READY", "ppctl resta\t"),
            ("ppctl restart", f"{to_the_beginning}print -r -- GOT \n"),
            ("\nGOT ppctl restart", "exit\n"),
        ],
        environment,
    )
    assert ran.code == 0


def test_another_shell_is_refused() -> None:
    ran = ppctl("completion", "tcsh")
    assert ran.code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in ran.err
