"""Whatever was in a file survives; putting in twice changes nothing; taking out gives back every byte."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import assume, example, given

from ppctl.clients import CLIENTS, blocks, ini
from ppctl.clients.base import Client, Entry, Refused
from tests.clients.examples import LOGIN, OTHER, PLAIN
from tests.clients.test_formats import NETRC_LOGIN

WORD = st.text(string.ascii_letters + string.digits + "-_.%$/@#ü'", min_size=1, max_size=8)
BLANK = st.sampled_from(["", " ", "    ", "\t"])
END = st.sampled_from(["\n", "\r\n"])
NAME = st.sampled_from(
    ["pypi", "testpypi", "other", "corp", "distutils", "global", "install", "server-login"]
)
KEY = st.sampled_from(
    ["index-servers", "repository", "username", "password", "timeout", "trusted-host", "cert", "x y"]
)


@st.composite
def option(draw: st.DrawFn) -> list[str]:
    indent = draw(st.sampled_from(["", "", "", "  "]))
    first = draw(st.lists(WORD | NAME, max_size=3))
    lines = [f"{indent}{draw(KEY)}{draw(BLANK)}{draw(st.sampled_from('=:'))}{draw(BLANK)}{' '.join(first)}"]
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.integers(0, 5))
        deeper = indent + draw(st.sampled_from([" ", "    ", "\t"]))
        lines.append(deeper + draw(WORD | NAME) if kind < 4 else "" if kind == 4 else deeper + "# note")
    return lines


@st.composite
def ini_file(draw: st.DrawFn) -> str:
    lines: list[str] = draw(st.lists(st.sampled_from(["", "# top", "; note"]), max_size=2))
    for name in draw(st.lists(NAME, max_size=4, unique=True)):
        lines.append(f"[{name}]")
        for each in draw(st.lists(option(), max_size=4)):
            lines += each
        lines += draw(st.lists(st.sampled_from(["", "# between", "   "]), max_size=1))
    end = draw(END)
    return end.join(lines) + draw(st.sampled_from(["", end]))


def holds(client: Client, text: str, entry: Entry) -> None:
    try:
        merged = client.merge(text, entry)
    except Refused:
        assume(False)
    assert client.remove(merged, entry.name) == text
    assert client.merge(merged, entry) == merged
    assert client.remove(text, entry.name) == text


def survives(text: str, merged: str) -> None:
    """Every line of `text` is in `merged`, in the same order, byte for byte."""
    rest = iter([line.rstrip("\r\n") for line in blocks.split(merged)])
    for line in blocks.split(text):
        assert line.rstrip("\r\n") in rest


@given(ini_file(), st.sampled_from([PLAIN, LOGIN, replace(LOGIN, replace=True)]))
@example("[distutils]\nindex-servers = corp\n", LOGIN)
@example("[distutils]\nindex-servers =\n    pypi\n\n    corp", LOGIN)
@example("[distutils]\nindex-servers = pypi\n  [pypi]\n", PLAIN)
def test_pypirc(text: str, entry: Entry) -> None:
    holds(CLIENTS["pypirc"], text, entry)
    if not entry.replace:
        lines = [line for line in blocks.split(text) if not _has_servers(text, line)]
        survives("".join(lines), CLIENTS["pypirc"].merge(text, entry))


def _has_servers(text: str, line: str) -> bool:
    """Return whether a name is added to this very line: the one that is changed in place."""
    key = line.strip().lower()
    return key.startswith("index-servers")


@given(ini_file())
def test_pypirc_with_two_indexes(text: str) -> None:
    client = CLIENTS["pypirc"]
    try:
        both = client.merge(client.merge(text, PLAIN), OTHER)
    except Refused:
        assume(False)
    assert client.remove(client.remove(both, PLAIN.name), OTHER.name) == text
    assert client.remove(client.remove(both, OTHER.name), PLAIN.name) == text


@given(ini_file().map(lambda text: text.replace("x y", "index_url")), st.booleans(), st.booleans())
def test_pip(text: str, plain_http: bool, replacing: bool) -> None:
    entry = replace(PLAIN, replace=replacing)
    if plain_http:
        entry = replace(entry, simple_url="http://index.lan/simple/")
    holds(CLIENTS["pip"], text, entry)
    if not replacing and not plain_http:
        survives(text, CLIENTS["pip"].merge(text, entry))


TABLE = st.sampled_from(
    ["[tool.other]", "[[index]]", "[tool.uv]", "[[tool.uv.index]]", "[publish.index]", "[pypi]"]
)
VALUE = st.sampled_from(["1", '"x"', "'''\n[x]\n'''", "[1,\n  2]", "{ y = 1 } # c", '"""\\\n  #"""'])
PAIR = st.builds(lambda key, value: f"{key} = {value}", st.sampled_from("abcd"), VALUE)
PAIR |= st.sampled_from(["", "# note", "  # x"])
TOML = st.builds(
    lambda lines, end, last: end.join("\n".join(lines).split("\n")) + (end if last else ""),
    st.lists(PAIR | TABLE, max_size=8),
    END,
    st.booleans(),
)


@given(
    TOML,
    st.sampled_from(
        [
            (CLIENTS["uv"], PLAIN),
            (CLIENTS["uv"], LOGIN),
            (CLIENTS["uv"].at(Path("pyproject.toml")), PLAIN),
            (CLIENTS["poetry"], PLAIN),
            (CLIENTS["pdm"], LOGIN),
            (CLIENTS["hatch"], LOGIN),
        ]
    ),
)
def test_toml(text: str, case: tuple[Client, Entry]) -> None:
    client, entry = case
    holds(client, text, entry)
    survives(text, client.merge(text, entry))


@given(
    st.builds(
        lambda lines, end, last: end.join(lines) + (end if last else ""),
        st.lists(
            st.sampled_from(["export A=1", "", "machine a login b password c", "# x", "\ufeffü", "a \\"])
        ),
        END,
        st.booleans(),
    ),
    st.sampled_from([(CLIENTS["env"], LOGIN), (CLIENTS["twine"], PLAIN), (CLIENTS["netrc"], NETRC_LOGIN)]),
)
def test_lines(text: str, case: tuple[Client, Entry]) -> None:
    client, entry = case
    holds(client, text, entry)
    survives(text, client.merge(text, entry))


@given(ini_file())
def test_the_scanner_sees_what_configparser_sees(text: str) -> None:
    try:
        parsed = ini.parse(text)
    except Refused:
        assume(False)
    found = {section.name: section for section in ini.scan(blocks.split(text))}
    assert {name for name in parsed if name != "DEFAULT"} == set(found)
    for name, section in found.items():
        assert {o.key: o.value.split() for o in section.options} == {
            key: value.split() for key, value in parsed[name].items()
        }
