"""The documentation says what is true: generated pages, links, command lines, named tests, JSON fields."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from ppctl import sample
from ppctl.cli import cli
from ppctl.clients import CLIENTS
from tests.conftest import Ppctl

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
GENERATOR = ROOT / "scripts" / "generate-reference"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
SHELL = {"console", "sh", "bash"}


def load_generator() -> ModuleType:
    loader = SourceFileLoader("generate_reference", str(GENERATOR))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


reference = load_generator()


def pages() -> list[Path]:
    """Return every Markdown file that belongs to the project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [ROOT / name for name in listed.stdout.split()] or [
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
    ]
    return sorted(path for path in found if path.exists())


PAGES = {page: page.read_text() for page in pages()}


# -- generated pages -----------------------------------------------------------------------------------


@functools.cache
def generated() -> dict[str, str]:
    found: dict[str, str] = reference.pages()
    return found


@pytest.mark.parametrize("path", sorted(REFERENCE.iterdir()), ids=lambda path: path.name)
def test_generated_pages_are_fresh(path: Path) -> None:
    assert path.read_text() == generated()[path.name], "stale; run: make docs"


def test_the_reference_is_what_is_generated() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(generated()), "run: make docs"


@pytest.mark.e2e
def test_the_reference_does_not_depend_on_where_it_is_made(tmp_path: Path) -> None:
    environment = {"HOME": "/nowhere", "COLUMNS": "40", "PATH": "/usr/bin:/bin", "PPCTL_HOME": "/elsewhere"}
    done = subprocess.run(
        [sys.executable, str(GENERATOR), "--check"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_setting_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text()
    missing = [key for key, *_ in sample.rows() if f"| `{key}` |" not in text]
    assert not missing


def test_every_setting_is_on_the_page_about_changes() -> None:
    text = (ROOT / "docs/how-to/change-settings.md").read_text()
    missing = [key for key, *_ in sample.rows() if f"`{key}`" not in text]
    assert not missing, "say what a change of them does to running requests"


# -- command lines -------------------------------------------------------------------------------------


def command_paths() -> list[str]:
    return [context.command_path for context, _ in reference.walk(cli, reference.context_of(cli, "ppctl"))]


def test_every_command_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference/commands.md").read_text()
    assert not [path for path in command_paths() if f"## {path}\n" not in text]


def test_every_command_is_explained_by_hand() -> None:
    """Somewhere a page that a person has written uses it."""
    written = [text for page, text in PAGES.items() if "reference" not in page.parts]
    used = {" ".join(names(words)) for text in written for words in ppctl_calls(text)}
    inline = {" ".join(names(words)) for text in written for words in inline_calls(text)}
    known = set(command_paths()) - {"ppctl", "ppctl client", "ppctl packages"}
    # The formats of `ppctl client` differ in nothing but their file.
    known -= {f"ppctl client {name}" for name in CLIENTS}
    assert known <= used | inline


def in_no_page(wrong: Callable[[Path, str], Iterator[str]]) -> None:
    """Assert that `wrong`, which is given a page and its text, finds nothing in any page."""
    found = [
        f"{page.relative_to(ROOT)}: {what}" for page, text in PAGES.items() for what in wrong(page, text)
    ]
    assert not found, "\n".join(["", *found])


def test_command_lines_exist() -> None:
    """What a reader can copy from a block of shell parses: command, options, number of arguments."""

    def wrong(_: Path, text: str) -> Iterator[str]:
        for words in ppctl_calls(text):
            try:
                parse(words)
            except AssertionError as e:
                yield str(e)

    in_no_page(wrong)


def test_commands_in_running_text_exist() -> None:
    def wrong(_: Path, text: str) -> Iterator[str]:
        for words in inline_calls(text):
            command, rest = resolve(words)
            known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
            if {word.partition("=")[0] for word in rest if word.startswith("--")} - known - {"--help"}:
                yield f"ppctl {' '.join(words)}"

    in_no_page(wrong)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    def wrong(_: Path, text: str) -> Iterator[str]:
        used = set(re.findall(r"`make ([a-z]+)", text))
        for line in shell_lines(text):
            used |= set(re.findall(r"(?:^|&& )make ([a-z]+)", line))
        yield from used - targets

    in_no_page(wrong)


def shell_lines(text: str) -> Iterator[str]:
    """Yield the command lines in blocks of shell: in `console` those behind a prompt, else all."""
    for block in FENCE.finditer(text):
        if block["language"] not in SHELL:
            continue
        body = re.sub(r"\\\n\s*", " ", block["body"])
        for raw in body.splitlines():
            line = raw.strip()
            if block["language"] != "console":
                yield line
            elif line.startswith(("$ ", "# ")):
                yield line[2:]


def ppctl_calls(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every call of ppctl in blocks of shell."""
    for line in shell_lines(text):
        yield from calls_in(line)


def calls_in(line: str) -> Iterator[list[str]]:
    # What `$(…)` holds is a command line of its own.
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        yield from calls_in(inner)
    lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "X", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&"):
            call = arguments_of(words)
            if call is not None:
                yield call
            words = ["redirect"] if set(token) <= set("<>&") and token not in ("&", "&&") else []
        else:
            words.append(token)


def arguments_of(words: list[str]) -> list[str] | None:
    """Return the arguments of a call of ppctl; None when it is a call of something else."""
    for index, word in enumerate(words):
        if word == "ppctl" or word.endswith("/ppctl"):
            before = words[:index]
            if all(
                w in ("sudo", "-u", "time", "env") or "=" in w or before[i - 1] == "-u"
                for i, w in enumerate(before)
            ):
                return words[index + 1 :]
            return None
    return None


def inline_calls(text: str) -> Iterator[list[str]]:
    """Yield the arguments of calls of ppctl in running text: `ppctl …`."""
    without_blocks = FENCE.sub("", text)
    for call in re.findall(r"`(?:sudo )?ppctl ([^`]+)`", without_blocks):
        if not call.startswith(("…", "COMMAND")):
            yield call.split()


def names(words: list[str]) -> list[str]:
    """Return the path of the command that these arguments call."""
    found = ["ppctl"]
    command: click.Command = cli
    for word in skip_home(words):
        if not isinstance(command, click.Group) or word not in command.list_commands(context(command)):
            break
        below = command.get_command(context(command), word)
        assert below
        found.append(word)
        command = below
    return found


def skip_home(words: list[str]) -> list[str]:
    return words[2:] if words[:1] in (["-C"], ["--home"]) else words


def context(command: click.Command) -> click.Context:
    # As ppctl makes them: click keeps the help option of the first context that asks for it.
    return click.Context(command, info_name="ppctl", **command.context_settings)


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that is called, and the words behind its name."""
    command: click.Command = cli
    rest = skip_home(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith(("-", "[", "…")):
        assert rest[0] in command.list_commands(context(command)), f"no such command: {' '.join(words)}"
        below = command.get_command(context(command), rest[0])
        assert below
        command, rest = below, rest[1:]
    if rest[:1] == ["…"]:  # any of the commands in the group
        return command, []
    return command, rest


def parse(words: list[str]) -> None:
    """Parse as ppctl would. Raises AssertionError naming what is wrong."""
    resolve(words)
    try:
        parent = cli.make_context("ppctl", list(words))
        rest = [*parent._protected_args, *parent.args]
        command: click.Command = cli
        while isinstance(command, click.Group) and rest:
            _, below, rest = command.resolve_command(parent, rest)
            assert below
            parent = below.make_context(rest[0] if rest else "", rest, parent=parent)
            command, rest = below, [*parent._protected_args, *parent.args]
    except click.exceptions.Exit:
        return  # --help, --version
    except click.ClickException as e:
        raise AssertionError(f"ppctl {' '.join(words)}: {e.format_message()}") from e


@pytest.mark.parametrize(
    "line",
    [
        "ppctl nonsense",
        "sudo ppctl up --nonsense",
        "x | ppctl adduser",
        "ppctl logs -n many",
        "A=$(ppctl client pip --x)",
    ],
)
def test_a_wrong_command_line_would_be_found(line: str) -> None:
    calls = list(ppctl_calls(f"```console\n$ {line}\noutput: ppctl nothing\n```\n"))
    assert len(calls) == 1
    with pytest.raises(AssertionError):
        parse(calls[0])


# -- links and tests -----------------------------------------------------------------------------------


@functools.cache
def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text())
    return {anchor(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def anchor(title: str) -> str:
    """Return the anchor that GitHub and GitLab make of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def test_links_lead_somewhere() -> None:
    def wrong(page: Path, text: str) -> Iterator[str]:
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, fragment = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                yield f"dead link: {target}"
            elif fragment and file.suffix == ".md" and fragment not in anchors(file):
                yield f"no such heading: {target}"

    in_no_page(wrong)


def test_tests_that_are_named_exist() -> None:
    """Every claim that names its proof (`tests/x.py::test_y`) has one."""

    def wrong(_: Path, text: str) -> Iterator[str]:
        for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
            path = ROOT / file
            if not path.exists():
                yield file
            elif name and not re.search(rf"^ *def {name}\(", path.read_text(), re.M):
                yield f"{file}::{name}"

    in_no_page(wrong)


def linked(page: Path, text: str) -> set[Path]:
    """Return the files that a page has links to."""
    targets = re.findall(r"\]\(([^)\s:]+)\)", text)
    return {(page.parent / target.partition("#")[0]).resolve() for target in targets}


def test_pages_are_reachable() -> None:
    """Each page of docs/ is linked from another one."""
    links = {page: linked(page, text) for page, text in PAGES.items()}

    def wrong(page: Path, _: str) -> Iterator[str]:
        belongs_elsewhere = page.parent.name in ("adr", "hosts") or page.parent == ROOT
        if not belongs_elsewhere and not any(page in links[other] for other in PAGES if other != page):
            yield "no other page has a link to it"

    in_no_page(wrong)


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs/adr/0002-dependencies.md").read_text()
    listed = re.findall(r'"([A-Za-z][\w-]*)(?:[<>=][^"]*)"', (ROOT / "pyproject.toml").read_text())
    assert {"click", "ansible-core", "yamllint", "pyinfra"} <= set(listed)
    assert not [name for name in listed if not re.search(rf"\b{re.escape(name)}\b", text)]


# -- JSON ----------------------------------------------------------------------------------------------

REPORTS: list[tuple[str, list[str], bytes]] = [
    ("init", ["init", "--keep"], b""),
    ("plan", ["plan"], b""),
    ("up", ["up", "--dry-run"], b""),
    ("status", ["status"], b""),
    ("doctor", ["doctor"], b""),
    ("up", ["up", "--first-user", "ann"], b""),
    ("status", ["status"], b""),
    ("adduser", ["adduser", "bob", "--password-stdin"], b"a password"),
    ("adduser", ["adduser", "eve", "--generate"], b""),
    ("adduser", ["adduser", "eve", "--generate", "--keep"], b""),
    ("passwd", ["passwd", "bob", "--generate"], b""),
    ("disable", ["disable", "bob"], b""),
    ("enable", ["enable", "bob"], b""),
    ("users", ["users"], b""),
    ("users apply", ["users", "apply", "-"], b"users: [{name: eve, disabled: true}]"),
    ("users export", ["users", "export"], b""),
    ("user grant", ["user", "grant", "bob", "upload", "--project", "team-*"], b""),
    ("user revoke", ["user", "revoke", "bob", "upload"], b""),
    ("user reset", ["user", "reset", "bob"], b""),
    ("token create", ["token", "create", "ci", "--user", "bob", "--upload", "team-*"], b""),
    ("token list", ["token", "list"], b""),
    ("token revoke", ["token", "revoke", "ci"], b""),
    ("audit", ["audit"], b""),
    ("verify", ["verify"], b""),
    ("client check", ["client", "check"], b""),
    ("packages list", ["packages", "list"], b""),
    ("packages list", ["packages", "list", "demo"], b""),
    ("packages yank", ["packages", "yank", "demo", "1.0"], b""),
    ("packages unyank", ["packages", "unyank", "demo", "1.0"], b""),
    ("packages status", ["packages", "status", "demo", "archived"], b""),
    ("packages owner", ["packages", "owner", "demo", "bob"], b""),
    ("packages remove", ["packages", "remove", "demo", "1.0", "--yes"], b""),
    ("packages list", ["packages", "list", "--former"], b""),
    ("packages forget", ["packages", "forget", "demo", "--yes"], b""),
    ("logs", ["logs"], b""),
    ("restart", ["restart", "--worker", "1"], b""),
    ("stop", ["stop"], b""),
    ("start", ["start"], b""),
    ("pypirc", ["pypirc"], b""),
    *((f"client {name}", ["client", name], b"") for name in CLIENTS if name != "netrc"),
    ("client netrc", ["client", "netrc", "--user", "ann", "--password-stdin"], b"secret"),
    ("client uv", ["client", "uv", "--write"], b""),
    ("client uv", ["client", "uv", "--remove"], b""),
    ("deluser", ["deluser", "bob"], b""),
    ("down", ["down"], b""),
    ("destroy", ["destroy", "--yes", "--purge"], b""),
]


@pytest.mark.e2e
def test_the_json_fields_are_the_documented_ones(new_home: Any, ppctl: Ppctl) -> None:
    home = str(new_home())
    seen: dict[str, set[str]] = {}
    for name, argv, stdin in REPORTS:
        if argv == ["packages", "list"]:
            (Path(home) / "packages" / "demo-1.0.zip").write_bytes(b"")
            until = time.monotonic() + 60
            while "demo" not in ppctl(*argv, "-C", home).out and time.monotonic() < until:
                time.sleep(0.05)
        ran = ppctl(*argv, "--json", "-C", home, stdin=stdin)
        document = json.loads(ran.out)
        assert (document["version"], document["command"]) == (reference.ENVELOPE_VERSION, name), ran
        assert "result" in document, ran
        fields = set(document["result"])
        documented = [field for field, _ in reference.FIELDS[name]]
        needed = {field for field in documented if not field.endswith("?")}
        assert needed <= fields <= {field.rstrip("?") for field in documented}, name
        seen.setdefault(name, set()).update(fields)
    ran = ppctl("client", "--list", "--json")
    seen["client"] = set(json.loads(ran.out)["result"])
    # They need hosts, the internet, or root: their fields are looked at in tests/fleet, tests/test_wheelhouse
    # and tests/commands/test_take_over.
    assert set(seen) == set(reference.with_json()) - {"users copy", "wheelhouse", "take-over"}
    seen["logs"].add("cache")  # with `upstream: cache` only: tests/e2e/test_upstream
    for name, fields in seen.items():
        assert fields == {field.rstrip("?") for field, _ in reference.FIELDS[name]}, name
