"""Every format: the section goes in and comes out, and everything else stays byte for byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ppctl.clients import CLIENTS, blocks
from ppctl.clients.base import Client, Entry
from tests.clients import examples
from tests.clients.examples import LOGIN, OTHER, PLAIN

NETRC_LOGIN = replace(LOGIN, password="s3cret!#x")
PIP_REPLACE = replace(LOGIN, replace=True)
HTTP = Entry("corp", "http://index.lan:8080/simple/", "http://index.lan:8080/", "ci", "x", read_login=True)

CASES: list[tuple[Client, list[str], list[Entry]]] = [
    (CLIENTS["pypirc"], examples.PYPIRC, [PLAIN, LOGIN]),
    (CLIENTS["pip"], examples.PIP, [PLAIN, HTTP]),
    (CLIENTS["pip"], examples.PIP_WITH_INDEX, [PIP_REPLACE, replace(HTTP, replace=True)]),
    (CLIENTS["uv"], examples.UV, [PLAIN, LOGIN]),
    (CLIENTS["uv"].at(Path("pyproject.toml")), examples.PYPROJECT, [PLAIN]),
    (CLIENTS["poetry"], examples.PYPROJECT, [PLAIN]),
    (CLIENTS["poetry"].at(Path("config.toml")), examples.HATCH, [PLAIN]),
    (CLIENTS["poetry"].at(Path("auth.toml")), ["", '[http-basic.o]\nusername = "x"'], [LOGIN]),
    (CLIENTS["pdm"], examples.PDM, [PLAIN, LOGIN]),
    (CLIENTS["pdm"].at(Path("pyproject.toml")), examples.PYPROJECT, [PLAIN]),
    (CLIENTS["hatch"], examples.HATCH, [PLAIN, LOGIN]),
    (CLIENTS["netrc"], examples.NETRC, [NETRC_LOGIN]),
    (CLIENTS["env"], examples.SHELL, [PLAIN, LOGIN]),
    (CLIENTS["twine"], examples.SHELL, [PLAIN, LOGIN]),
]
ALL = [
    pytest.param(client, text, entry, id=f"{client.name}-{number}-{which}")
    for client, texts, entries in CASES
    for number, text in enumerate(texts)
    for which, entry in enumerate(entries)
]


def is_subsequence(old: list[str], new: list[str]) -> bool:
    rest = iter(new)
    return all(line in rest for line in old)


@pytest.mark.parametrize(("client", "text", "entry"), ALL)
def test_goes_in_and_comes_out(client: Client, text: str, entry: Entry) -> None:
    merged = client.merge(text, entry)
    assert client.remove(merged, entry.name) == text
    assert client.merge(merged, entry) == merged
    assert client.remove(text, entry.name) == text
    changed = replace(entry, upload_url="https://new.example/", simple_url="https://new.example/simple/")
    assert client.remove(client.merge(merged, changed), entry.name) == text
    client.cautions(merged, entry)
    client.notes(entry, Path("x"))


@pytest.mark.parametrize(("client", "text", "entry"), ALL)
def test_keeps_the_line_endings(client: Client, text: str, entry: Entry) -> None:
    merged = client.merge(text, entry)
    if "\r\n" in text:
        assert "\n" not in merged.replace("\r\n", "")
    if text:
        assert merged.endswith("\n") == text.endswith("\n")


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_alone_it_is_a_valid_file(client: Client) -> None:
    entry = (
        NETRC_LOGIN if client.name == "netrc" else replace(LOGIN, password="") if client.must_exist else LOGIN
    )
    text = client.render(entry)
    assert client.merge(text, entry) == text
    assert client.remove(text, entry.name) == ""
    assert text.endswith("\n")


def test_two_indexes_in_one_pypirc_in_any_order() -> None:
    client = CLIENTS["pypirc"]
    for text in examples.PYPIRC:
        both = client.merge(client.merge(text, PLAIN), OTHER)
        assert client.remove(client.remove(both, "corp"), "lab-2") == text
        assert client.remove(client.remove(both, "lab-2"), "corp") == text


def test_single_line_list_stays_on_its_line() -> None:
    merged = CLIENTS["pypirc"].merge(
        "[distutils]\nindex-servers = pypi other\n[other]\nrepository=x\n", PLAIN
    )
    assert "index-servers = pypi other corp\n" in merged


def test_multi_line_list_keeps_its_indentation() -> None:
    merged = CLIENTS["pypirc"].merge(
        "[distutils]\nindex-servers =\n\tpypi\n\tother\n[other]\nrepository=x\n", PLAIN
    )
    assert "\n\tpypi\n\tother\n\tcorp\n" in merged


def test_what_a_person_adds_below_our_section_stays() -> None:
    client = CLIENTS["pypirc"]
    text = client.merge("[pypi]\nusername = u\n", PLAIN) + "ca_cert = /etc/ca.pem\n"
    updated = client.merge(text, LOGIN)
    assert updated.endswith("ca_cert = /etc/ca.pem\n")
    assert client.remove(updated, "corp") == "[pypi]\nusername = u\n[corp]\nca_cert = /etc/ca.pem\n"
    pip = CLIENTS["pip"]
    assert pip.remove(pip.render(PLAIN) + "timeout = 9\n", "corp") == "[global]\ntimeout = 9\n"


def test_replaced_section_of_pypirc_comes_back() -> None:
    client = CLIENTS["pypirc"]
    text = "[distutils]\nindex-servers = corp pypi\n[corp]\n# mine\nrepository = http://old/\n\n[z]\na=1\n"
    merged = client.merge(text, replace(LOGIN, replace=True))
    assert "\nrepository = http://old/" not in merged
    assert "#~ repository = http://old/" in merged
    assert client.merge(merged, LOGIN) == merged
    assert client.remove(merged, "corp") == text


def test_half_a_block_is_an_error() -> None:
    text = CLIENTS["env"].render(PLAIN)
    lines = blocks.split(text)
    for broken in ("".join(lines[:-1]), "".join(lines[1:]), text + lines[-1], lines[0] + text):
        with pytest.raises(Exception, match="half of a pair"):
            CLIENTS["env"].remove(broken, "corp")


def test_no_password_anywhere_unless_there_is_one() -> None:
    secret = "s3cret"
    for client in CLIENTS.values():
        if client.name == "netrc" or client.must_exist:
            continue
        assert "assword = " not in client.render(replace(LOGIN, password=""))
        shown = client.render(replace(LOGIN, password=secret).hidden())
        assert secret not in shown
        assert client.has_secret(LOGIN) == (secret in client.render(replace(LOGIN, password=secret)))
        assert not client.has_secret(replace(LOGIN, password=""))
