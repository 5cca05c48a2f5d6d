"""What people read: streams, quiet, colours, tables. The envelope: tests/contract/test_envelope.py."""

from __future__ import annotations

import io
import json

import pytest

from ppctl.errors import PpctlError
from ppctl.output import Output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def made(**options: bool) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output("x", stdout=out, stderr=err, **options), out, err


def say_everything(output: Output) -> None:
    output.progress("progress")
    output.warn("warn")
    output.text("text")
    output.info("info")
    output.table(("a",), [("cell",)])
    output.result({"n": 1})


@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        ({}, "text\ninfo\nA\ncell\n", "progress\nwarning: warn\n"),
        ({"quiet": True}, "text\nA\ncell\n", "warning: warn\n"),
    ],
    ids=["usual", "quiet"],
)
def test_streams(options: dict[str, bool], out: str, err: str) -> None:
    output, stdout, stderr = made(**options)
    say_everything(output)
    assert (stdout.getvalue(), stderr.getvalue()) == (out, err)


@pytest.mark.parametrize("quiet", [True, False])
def test_json_is_one_document_and_nothing_else(quiet: bool) -> None:
    output, stdout, stderr = made(json=True, quiet=quiet)
    say_everything(output)
    assert json.loads(stdout.getvalue())["result"] == {"n": 1}
    assert stderr.getvalue() == ""


def test_errors_go_to_stderr_with_their_hint() -> None:
    output, stdout, stderr = made(quiet=True)
    output.error(PpctlError("it is wrong", "do that"))
    output.error(PpctlError("no hint"))
    assert stdout.getvalue() == ""
    assert stderr.getvalue() == "error: it is wrong\nhint: do that\nerror: no hint\n"


def test_an_error_with_a_log_in_it_does_nothing_to_a_terminal() -> None:
    output, _, stderr = made()
    output.error(PpctlError("it ends. Its log ends with:\nüber\x1b[2J\n\tindented"))
    assert stderr.getvalue() == "error: it ends. Its log ends with:\nüber\\x1b[2J\n        indented\n"


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours(environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    output = Output(stdout=terminal, stderr=io.StringIO())
    assert (output.style("x", "good") == "\x1b[32mx\x1b[0m") == coloured
    assert output.style("x", "good", io.StringIO()) == "x"  # a pipe


def test_table_columns_are_aligned_without_trailing_blanks() -> None:
    output, stdout, _ = made()
    output.table(("name", "value"), [("a", "1"), ("longer", "")])
    assert stdout.getvalue() == "NAME    VALUE\na       1\nlonger\n"


def test_nobody_reads_what_is_going_on_any_more() -> None:
    """An ssh session has broken off, or `head` has seen enough: the work goes on."""

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    out = Output("up", stdout=io.StringIO(), stderr=Gone())
    out.progress("restart  worker 1")
    out.warn("w")
    out.error(PpctlError("m", "h"))
