"""How ppctl ends: exit codes, messages, and what a bug gives away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from ppctl import signals
from ppctl.__main__ import main
from ppctl.commands import status
from ppctl.errors import CommandFailed, PpctlError, UsageError
from ppctl.local_host import LocalHost
from tests.conftest import NewHome, Ppctl, RunPpctl, ppctl_argv


def ending(
    error: BaseException, home: Path, ppctl: Ppctl, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(status, "status", fail)
    ran = ppctl("status", "-C", home)
    return ran.code, ran.out, ran.err


@pytest.mark.parametrize(
    ("error", "code", "err"),
    [
        (PpctlError("it failed", "do this"), 1, "error: it failed\nhint: do this\n"),
        (UsageError("wrong"), 2, "error: wrong\n"),
        (CommandFailed(["uv", "venv"], 2, "line\n"), 1, "error: uv venv failed with exit status 2:\nline\n"),
        (click.UsageError("so not"), 2, "error: so not\nhint: ppctl status --help\n"),
        (click.Abort(), 130, "interrupted: nothing is half-done; run the command again to finish\n"),
        (KeyboardInterrupt(), 130, "interrupted: nothing is half-done; run the command again to finish\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_endings(
    error: BaseException,
    code: int,
    err: str,
    new_home: NewHome,
    ppctl: Ppctl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ending(error, new_home(), ppctl, monkeypatch) == (code, "", err)


@pytest.mark.e2e
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP], ids=lambda sent: sent.name)
def test_a_term_and_the_end_of_the_terminal_are_a_ctrl_c(
    sent: signal.Signals, new_home: NewHome, run_ppctl: RunPpctl
) -> None:
    """What is in hand is put in order: no secret stays in a file, no worker stopped, no terminal mute."""
    home = new_home()
    with LocalHost().lock(home / ".users.lock", purpose="a test"):
        process = subprocess.Popen(
            ppctl_argv("adduser", "-C", home, "ann", "--generate"), stderr=subprocess.PIPE, text=True
        )
        assert process.stderr and process.stderr.readline().startswith("waiting for another ppctl")
        process.send_signal(sent)
        _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (
        130,
        "interrupted: nothing is half-done; run the command again to finish\n",
    )


def test_what_is_ignored_stays_so_and_a_terminal_that_goes_says_so_once() -> None:
    """nohup; and both the kernel and the shell tell of it, which is not to interrupt what puts in order."""
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handled(lambda number, _: heard.append(number)):
            os.kill(os.getpid(), signal.SIGHUP)
        assert heard == []
        signal.signal(signal.SIGHUP, lambda number, _: heard.append(-number))
        with signals.handled(lambda number, _: heard.append(number)):
            with signals.handled(lambda number, _: heard.append(number)):
                os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
        assert heard == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("sent", signals.ENDING, ids=lambda sent: sent.name)
def test_a_ctrl_c_that_python_drops_is_sent_again(sent: signal.Signals) -> None:
    class Dropping:
        def __del__(self) -> None:
            os.kill(os.getpid(), sent)
            time.sleep(0.01)

    before = signal.signal(sent, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), signals.handled(signal.default_int_handler):
            Dropping()
            time.sleep(30)
    finally:
        signal.signal(sent, before)


def test_a_bug_does_not_tell_secrets(
    new_home: NewHome, ppctl: Ppctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = ending(RuntimeError("password hunter2"), new_home(), ppctl, monkeypatch)
    assert (code, out) == (3, "")
    assert err == (
        "error: a bug in ppctl: unexpected RuntimeError\n"
        "hint: run the command again with PPCTL_DEBUG=1 and report what it prints\n"
    )


def test_a_bug_with_debug(new_home: NewHome, monkeypatch: pytest.MonkeyPatch, ppctl: Ppctl) -> None:
    monkeypatch.setenv("PPCTL_DEBUG", "1")
    with pytest.raises(RuntimeError, match="for the report"):
        ending(RuntimeError("for the report"), new_home(), ppctl, monkeypatch)


@pytest.mark.e2e
def test_a_reader_that_goes_away(run_ppctl: RunPpctl) -> None:
    argv = " ".join(ppctl_argv("schema"))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {argv} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "0\n"
    assert done.stderr == ""


@pytest.mark.e2e
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&1 | true"])
def test_a_failure_is_one_also_where_nobody_reads_of_it(where: str) -> None:
    argv = " ".join(ppctl_argv("status", "-C", "/nowhere"))
    script = f"{argv} {where}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")


@pytest.mark.e2e
@pytest.mark.parametrize("arguments", ["schema", "--help", "client --list", "client --list --json"])
def test_a_full_disk_behind_the_output(arguments: str) -> None:
    with open("/dev/full", "w") as full:
        argv = ppctl_argv(*arguments.split())
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot print: No space left on device\n")


@pytest.mark.e2e
def test_as_a_module_and_as_a_program(run_ppctl: RunPpctl) -> None:
    program = Path(sys.executable).with_name("ppctl")
    by_module = run_ppctl("--version")
    assert by_module.stdout.startswith("ppctl, version ")
    if program.exists():
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
        assert done.stdout == by_module.stdout


def test_no_arguments_is_the_help(ppctl: Ppctl) -> None:
    ran = ppctl()
    assert "Usage: ppctl" in ran.out + ran.err


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ppctl", "--version"])
    assert main() == 0
    assert "version" in capsys.readouterr().out


@pytest.mark.e2e
def test_the_start_is_quick(run_ppctl: RunPpctl) -> None:
    """`ppctl --help` imports nothing heavy: that is where 0.15 s are won or lost."""
    code = (
        "import sys; from ppctl.__main__ import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & {
        "yaml",
        "msgspec",
        "jinja2",
        "passlib",
        "supervisor",
        "xmlrpc",
        "http.client",
        "bcrypt",
    }
