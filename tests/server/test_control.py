"""`ppctl packages` and what it asks of real workers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppctl.server.marks import FILE_NAME
from ppctl.server.owners import Owners
from tests.cli import on_terminal, ppctl
from tests.server.archives import wheel
from tests.server.signed import signed_form
from tests.server.worker_process import Home, new_home

pytestmark = pytest.mark.e2e

WHEELS = [wheel("Foo.Bar", version) for version in ("1.0", "1.1")]
JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    with new_home() as home:
        (home.path / "ppctl.yml").write_text("login: []\n")
        monkeypatch.setenv("PPCTL_HOME", str(home.path))
        for name in ("SUDO_USER", "DOAS_USER"):
            monkeypatch.delenv(name, raising=False)
        for name, content in WHEELS:
            (home.packages / name).write_bytes(content)
        home.start(1)
        home.start(2)
        yield home


def listed(home: Home) -> dict[str, object]:
    """Ask the second worker; the command asks the first one."""
    answer = home.workers[1].request("GET", "/simple/foo-bar/", headers=JSON)
    return {file["filename"]: file.get("yanked") for file in json.loads(answer.body)["files"]}


def test_list(home: Home) -> None:
    ran = ppctl("packages", "list")
    assert (ran.code, ran.out) == (0, "foo-bar\n")
    ran = ppctl("packages", "list", "Foo_Bar")
    assert [line.split()[:2] for line in ran.out.splitlines()[1:]] == [
        [name, version] for (name, _), version in zip(WHEELS, ("1.0", "1.1"), strict=True)
    ]
    assert ppctl("packages", "list", "Foo.Bar", "--json").result["files"][0]["size"] == len(WHEELS[0][1])


def test_list_says_what_belongs_to_a_file(home: Home) -> None:
    content_type, body = signed_form()
    assert home.request("POST", "/", body, {"Content-Type": content_type}).status == 200
    assert home.upload(*wheel("foo", "2.0")).status == 200
    ppctl("packages", "yank", "foo", "2.0", "--reason", "bad")
    found = ppctl("packages", "list", "foo", "--json").result["files"]
    assert [(f["version"], f["signature"], f["provenance"], f["yanked"]) for f in found] == [
        ("1.0", True, True, None),
        ("2.0", False, False, "bad"),
    ]


def test_yank_and_unyank(home: Home) -> None:
    name = WHEELS[1][0]
    ran = ppctl("packages", "yank", "Foo.Bar", "1.1.0", "--reason", "bad <b>")
    assert ran.code == 1  # 1.1.0 and 1.1 are two ways to write it, but its files say 1.1
    assert "it has 1.0, 1.1" in ran.err
    ran = ppctl("packages", "yank", "Foo.Bar", "v1.1", "--reason", "bad <b>")
    assert (ran.code, listed(home)[name]) == (0, "bad <b>")
    assert "bad <b>" in ppctl("packages", "list", "foo-bar").out
    assert (
        ppctl("packages", "yank", "Foo.Bar", "1.1", "--reason", "bad <b>", "--json").result["changed"]
        is False
    )
    assert ppctl("packages", "unyank", "foo-bar", "1.1", "--json").result == {
        "changed": True,
        "files": [name],
    }
    assert listed(home)[name] is None
    assert ppctl("packages", "unyank", "foo-bar", "1.1").out == "foo-bar 1.1 was not yanked\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_disk_that_is_read_only_is_told(home: Home) -> None:
    packages = str(home.packages)
    subprocess.run(["mount", "--bind", packages, packages], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", packages], check=True)
        ran = ppctl("packages", "remove", "foo-bar", "1.0", "--yes")
    finally:
        subprocess.run(["umount", "--lazy", packages], check=True)
    assert (ran.code, "The server's disk is read-only: nothing can be stored or removed" in ran.err) == (
        1,
        True,
    )
    assert len(listed(home)) == 2


def test_status(home: Home) -> None:
    assert ppctl("packages", "status", "foo-bar", "quarantined", "--reason", "stolen").code == 0
    assert listed(home) == {}
    assert "quarantined (stolen)" in ppctl("packages", "list", "foo-bar").out
    assert ppctl("packages", "status", "foo-bar", "active").code == 0
    assert len(listed(home)) == 2
    assert json.loads((home.packages / FILE_NAME).read_text())["projects"] == {}


def test_remove(home: Home) -> None:
    refused = ppctl("packages", "remove", "foo-bar", "1.0")
    assert (refused.code, len(listed(home))) == (2, 2)
    no = on_terminal(["packages", "remove", "foo-bar", "1.0"], [("[y/N]", "n\r")])
    assert (no.code, len(listed(home))) == (1, 2)
    yes = on_terminal(["packages", "remove", "foo-bar", "1.0"], [("[y/N]", "y\r")])
    assert (yes.code, list(listed(home))) == (0, [WHEELS[1][0]])
    assert "1 file left" in yes.out
    assert not (home.packages / WHEELS[0][0]).exists()
    assert ppctl("packages", "remove", "foo-bar", "1.1", "--yes").out.endswith("has no files any more\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["list", "nothing"], "there is no project nothing\nhint: `ppctl packages list -C "),
        (
            ["list", "Fo.bar"],
            "there is no project fo-bar\nhint: did you mean foo-bar? `ppctl packages list -C ",
        ),
        (["yank", "nothing", "1.0"], "there is no project nothing"),
        (["yank", "foo-bar", "6.6"], "foo-bar has no version 6.6; it has 1.0, 1.1"),
        (["remove", "foo-bar", "../x", "--yes"], "has no version"),
        (["remove", "foo-bar", "6.6"], "foo-bar has no version 6.6; it has 1.0, 1.1"),  # before it asks
    ],
)
def test_what_is_not_there(home: Home, argv: list[str], said: str) -> None:
    ran = ppctl("packages", *argv)
    assert ran.code == 1
    assert said in ran.err
    assert len(listed(home)) == 2


def test_what_is_said_of_a_project_without_files_can_be_changed(home: Home) -> None:
    Owners(home.path / "packages", home.path / "run").put("foo-bar", "ann")
    ppctl("packages", "status", "foo-bar", "archived")
    for version in ("1.0", "1.1"):
        assert ppctl("packages", "remove", "foo-bar", version, "--yes").code == 0
    assert "has no version 1.0; it has no files" in ppctl("packages", "yank", "foo-bar", "1.0").err
    assert ppctl("packages", "owner", "foo-bar").out == "foo-bar belongs to ann\n"
    assert ppctl("packages", "owner", "foo-bar", "--nobody").out == "foo-bar belongs to nobody\n"
    assert "foo-bar is archived" in ppctl("packages", "list", "foo-bar").out
    assert ppctl("packages", "status", "foo-bar", "active").out == "foo-bar is active\n"
    assert "there is no project foo-bar" in ppctl("packages", "list", "foo-bar").err


def test_a_name_that_was_here_is_forgotten_when_told(home: Home) -> None:
    assert "foo-bar is here" in ppctl("packages", "forget", "Foo_Bar", "--yes").err
    for version in ("1.0", "1.1"):
        assert ppctl("packages", "remove", "foo-bar", version, "--yes").code == 0
    assert ppctl("packages", "list", "--former").out == "foo-bar\n"
    assert ppctl("packages", "list", "--former", "--json").result["former"] == ["foo-bar"]
    ran = ppctl("packages", "forget", "Foo_Bar")
    assert (ran.code, "--yes" in ran.err) == (2, True)
    (home.path / "ppctl.yml").write_text("login: []\nprivate: ['Foo*']\n")
    ran = ppctl("packages", "forget", "Foo_Bar", "--yes")
    assert (ran.code, "Foo_Bar is forgotten" in ran.out) == (0, True)
    assert "Foo_Bar is private all the same" in ran.err
    assert "was never here" in ppctl("packages", "forget", "Foo_Bar", "--yes").out
    assert ppctl("packages", "list", "--former").out == ""
    (home.packages / ".ppctl-names").write_text("nonsense")
    ran = ppctl("packages", "forget", "Foo_Bar", "--yes")
    assert (ran.code, ".ppctl-names is broken" in ran.err) == (1, True)
    assert ppctl("packages", "list", "foo-bar", "--former").code == 2


def test_broken_marks_are_not_replaced(home: Home) -> None:
    (home.packages / FILE_NAME).write_text("{")
    assert "is broken" in ppctl("packages", "yank", "foo-bar", "1.0").err
    assert (home.packages / FILE_NAME).read_text() == "{"


def test_without_a_worker(home: Home) -> None:
    home.workers[0].kill()
    assert ppctl("packages", "list").out == "foo-bar\n"
    home.workers[1].kill()
    ran = ppctl("packages", "list")
    assert ran.code == 1
    assert "no worker of the index is running" in ran.err
    assert "ppctl up" in ran.err, "it is not under a manager"


def test_marks_that_are_gone_come_back_from_their_copy(home: Home) -> None:
    """By `rsync --delete`, or `cp packages/*` to another disk: what is yanked must not be offered again."""
    ppctl("packages", "yank", "foo-bar", "1.0", "--reason", "bad")
    before = listed(home)
    assert "bad" in before.values()
    (home.packages / FILE_NAME).unlink()
    assert listed(home) == before
    for worker in home.workers:
        worker.kill()
    home.start(1)
    home.start(2)
    assert listed(home) == before
    assert (home.packages / FILE_NAME).exists()
    (home.packages / FILE_NAME).unlink()
    ppctl("packages", "yank", "foo-bar", "1.1", "--reason", "too")
    assert sorted(map(str, listed(home).values())) == ["bad", "too"]


def test_nobody_else_can_ask(home: Home) -> None:
    body = b'{"action": "remove", "project": "foo-bar", "version": "1.0"}'
    for path in ("/_ppctl/packages", "/_ppctl/packages?project=foo-bar", "/_ppctl/other"):
        assert home.get(path).status == 404
        assert home.request("POST", path, body).status == 404
    for bad in (b"", b"[]", b"{", b'{"action": "x"}', b'{"action": "status", "project": "foo-bar"}'):
        assert home.workers[0].request("POST", "/_ppctl/packages", bad).status == 400
    assert len(listed(home)) == 2
    assert Path(home.packages / WHEELS[0][0]).exists()


def test_only_a_change_that_is_none_is_already_so(home: Home) -> None:
    Owners(home.path / "packages", home.path / "run").put("foo-bar", "ann")
    said = [
        (ran.out + ran.err).splitlines()[0]
        for ran in (
            ppctl("packages", "owner", "foo-bar", *more) for more in ([], ["--nobody"], ["--nobody"], [])
        )
    ]
    assert said == [
        "foo-bar belongs to ann",
        "foo-bar belongs to nobody",
        "foo-bar belongs to nobody already",
        "foo-bar belongs to nobody",
    ]
