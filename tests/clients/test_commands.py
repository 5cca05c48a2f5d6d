"""`ppctl pypirc` and `ppctl client …`, from the command line to the file."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import sys
from pathlib import Path

import pytest

from ppctl.clients import CLIENTS
from tests.clients.conftest import Ppctl

URL = ("--url", "https://pypi.example.com", "--name", "corp")
LOGIN = ("--user", "ann", "--password-stdin")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def index(home: Path) -> Path:
    home.mkdir()
    (home / "ppctl.yml").write_text("name: team\nport: 4000\n")
    return home


def test_prints_a_whole_file_and_nothing_else_on_stdout(ppctl: Ppctl) -> None:
    assert ppctl("pypirc", *URL) == 0
    assert ppctl.out.startswith("# >>> ppctl >>>\n[distutils]\n")
    assert "[corp]\nrepository = https://pypi.example.com/\n" in ppctl.out
    assert "keyring set https://pypi.example.com/" in ppctl.err
    assert ppctl("pypirc", *URL, "--quiet") == 0
    assert ppctl.err == ""


def test_takes_everything_from_the_home(ppctl: Ppctl, index: Path) -> None:
    assert ppctl("pypirc", "-C", str(index), "--user", "ann") == 0
    assert "[team]\nrepository = http://127.0.0.1:4000/\nusername = ann\n" in ppctl.out


def test_an_index_called_pypi_does_not_take_the_place_of_the_public_one(ppctl: Ppctl, index: Path) -> None:
    (index / "ppctl.yml").write_text("login: [list, upload]\n")
    assert ppctl("client", "uv", "-C", str(index)) == 0
    assert 'name = "private-pypi"' in ppctl.out
    assert 'authenticate = "always"' in ppctl.out


@pytest.mark.parametrize("name", sorted(set(CLIENTS) - {"poetry"}))
def test_write_and_remove_leave_nothing(name: str, ppctl: Ppctl, user_home: Path) -> None:
    argv = ["client", name, *URL, *LOGIN]
    assert ppctl(*argv, "--write", stdin="secret\n") == 0
    path = CLIENTS[name].default_path(os.environ, user_home)
    expected = 0o644 if name == "pip" else 0o600  # reading needs no login: no password in pip.conf
    assert mode(path) == expected
    assert ("secret" in path.read_text()) == (expected == 0o600)
    first = path.read_bytes()
    assert ppctl(*argv, "--write", stdin="secret\n") == 0
    assert "nothing to do" in ppctl.out
    assert path.read_bytes() == first
    assert ppctl("client", name, "--remove", "--name", "corp") == 0
    assert not path.exists()
    assert ppctl("client", name, "--remove", "--name", "corp") == 0
    assert "nothing to do" in ppctl.out


def test_poetry_takes_the_project_in_the_working_directory(ppctl: Ppctl, user_home: Path) -> None:
    project = user_home / "pyproject.toml"
    project.write_text('[project]\nname = "x"')
    assert ppctl("client", "poetry", *URL, "--write", "--priority", "explicit") == 0
    assert 'priority = "explicit"' in project.read_text()
    assert "poetry config repositories.corp https://pypi.example.com/" in ppctl.err
    assert ppctl("client", "poetry", *URL, "--remove") == 0
    assert project.read_text() == '[project]\nname = "x"'


def test_uv_in_a_project(ppctl: Ppctl, user_home: Path) -> None:
    project = user_home / "pyproject.toml"
    project.write_text('[project]\nname = "x"\n')
    assert ppctl("client", "uv", *URL, "--explicit", "--write", "--file", "pyproject.toml") == 0
    assert "[[tool.uv.index]]" in project.read_text()
    assert "[tool.uv.sources]" in ppctl.err


def test_keeps_a_copy_once_and_warns_of_readers(ppctl: Ppctl, user_home: Path) -> None:
    path = user_home / ".pypirc"
    path.write_text("[pypi]\nusername = u\n")
    path.chmod(0o644)
    assert ppctl("pypirc", *URL, "--write") == 0
    assert "others could read" in ppctl.err
    assert mode(path) == mode(user_home / ".pypirc.bak") == 0o600
    assert (user_home / ".pypirc.bak").read_text() == "[pypi]\nusername = u\n"
    assert ppctl("pypirc", *URL, "--write", "--user", "ann") == 0
    assert (user_home / ".pypirc.bak").read_text() == "[pypi]\nusername = u\n"
    assert ppctl("pypirc", *URL, "--remove") == 0
    assert path.read_text() == "[pypi]\nusername = u\n"


def test_stricter_modes_stay(ppctl: Ppctl, user_home: Path) -> None:
    path = user_home / ".pypirc"
    path.write_text("")
    path.chmod(0o400)
    assert ppctl("pypirc", *URL, "--write") == 0
    assert mode(path) == 0o400
    assert ppctl("pypirc", *URL, "--remove") == 0
    assert path.read_bytes() == b""  # it was there, and empty


def test_crlf_bom_and_missing_newline_survive(ppctl: Ppctl, user_home: Path) -> None:
    path = user_home / ".pypirc"
    before = "\ufeff[pypi]\r\nusername = ü".encode()
    path.write_bytes(before)
    assert ppctl("pypirc", *URL, "--write") == 0
    written = path.read_bytes()
    assert written.startswith(before)
    assert b"\n" not in written.replace(b"\r\n", b"")
    assert ppctl("pypirc", *URL, "--remove") == 0
    assert path.read_bytes() == before


def test_follows_the_links_of_a_dotfile_manager(ppctl: Ppctl, user_home: Path) -> None:
    real = user_home / "dotfiles" / "pypirc"
    real.parent.mkdir()
    real.write_text("[pypi]\n")
    (user_home / ".pypirc").symlink_to("dotfiles/pypirc")
    assert ppctl("pypirc", *URL, "--write") == 0
    assert (user_home / ".pypirc").is_symlink()
    assert "[corp]" in real.read_text()
    assert str(real) in ppctl.out


def test_link_and_remove(ppctl: Ppctl, user_home: Path, index: Path) -> None:
    path = user_home / ".pypirc"
    path.write_text("[pypi]\nusername = u\n")
    path.chmod(0o640)
    argv = ["pypirc", "-C", str(index), "--link"]
    assert ppctl(*argv) == 2
    assert "--yes" in ppctl.err and not path.is_symlink()
    assert ppctl(*argv, "--yes") == 0
    kept = index / "client" / "pypirc"
    assert path.readlink() == kept
    assert mode(kept) == 0o600 and mode(kept.parent) == 0o700
    assert ppctl(*argv) == 0  # nothing to ask: it is our link already
    assert "nothing to do" in ppctl.out
    assert ppctl("pypirc", "-C", str(index), "--remove") == 0
    assert path.read_text() == "[pypi]\nusername = u\n"
    assert not kept.exists() and not (user_home / ".pypirc.bak").exists()


def test_link_without_a_file_before(ppctl: Ppctl, user_home: Path, index: Path) -> None:
    assert ppctl("client", "hatch", "-C", str(index), "--link") == 0
    path = user_home / ".config/hatch/config.toml"
    assert path.readlink() == index / "client" / "hatch-config.toml"
    assert ppctl("client", "hatch", "-C", str(index), "--remove") == 0
    assert not path.is_symlink() and not path.exists()


def test_link_puts_a_foreign_link_aside(ppctl: Ppctl, user_home: Path, index: Path) -> None:
    (user_home / "mine").write_text("[pypi]\n")
    (user_home / ".pypirc").symlink_to("mine")
    (user_home / ".pypirc.bak").write_text("an older copy")
    assert ppctl("pypirc", "-C", str(index), "--link", "--yes") == 0
    assert (user_home / ".pypirc.bak").read_text() == "an older copy"
    assert os.readlink(user_home / ".pypirc.bak.1") == "mine"
    assert ppctl("pypirc", "-C", str(index), "--remove") == 0
    assert os.readlink(user_home / ".pypirc") == "mine"
    assert (user_home / "mine").read_text() == "[pypi]\n"


def test_link_asks_on_a_terminal(
    ppctl: Ppctl,
    user_home: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import io

    from ppctl.__main__ import main

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    (user_home / ".pypirc").write_text("x = y\n")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert main(["pypirc", "-C", str(index), "--link"]) == 1
    assert "left as it is" in capsys.readouterr().err
    assert (user_home / ".pypirc").read_text() == "x = y\n"


def test_pip_puts_another_index_aside(ppctl: Ppctl, user_home: Path) -> None:
    path = user_home / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True)
    path.write_text("[global]\nindex-url = https://mirror/simple\n")
    assert ppctl("client", "pip", *URL, "--write") == 1
    assert "--replace" in ppctl.err
    assert ppctl("client", "pip", *URL, "--write", "--replace") == 0
    assert "#~ index-url = https://mirror/simple\n" in path.read_text()
    assert ppctl("client", "pip", *URL, "--write") == 0  # it was agreed to before
    assert ppctl("client", "pip", "--url", "https://b.example", "--name", "other", "--write") == 1
    assert "ppctl client pip --remove --name corp" in ppctl.err
    assert ppctl("client", "pip", *URL, "--remove") == 0
    assert path.read_text() == "[global]\nindex-url = https://mirror/simple\n"


def test_pip_over_plain_http_is_warned_of(ppctl: Ppctl) -> None:
    assert ppctl("client", "pip", "--url", "http://index.lan:8080", "--name", "corp", "--write") == 0
    assert "plain http" in ppctl.err
    assert ppctl("client", "pip", "--url", "http://127.0.0.1:1", "--name", "corp") == 0
    assert "trusted-host" not in ppctl.out


def test_json_never_holds_a_password(ppctl: Ppctl, user_home: Path) -> None:
    for name in ("pypirc", "uv", "env", "netrc"):
        for action in ([], ["--write"]):
            argv = ["client", name, *URL, *LOGIN, "--read-login", "--json", *action]
            assert ppctl(*argv, stdin="s3cret\n") == 0
            envelope = json.loads(ppctl.out)
            assert envelope["ok"] and envelope["command"] == f"client {name}"
            result = envelope["result"]
            assert "s3cret" not in ppctl.out + ppctl.err
            assert "HIDDEN" in result["text"] and result["password_hidden"]
            assert result["changed"] == bool(action)
            assert Path(result["path"]).is_absolute()


def test_non_ascii_passwords_are_warned_of(ppctl: Ppctl) -> None:
    assert ppctl("pypirc", *URL, *LOGIN, stdin="geheimnüs\n") == 0
    assert "Latin-1" in ppctl.err


def test_list(ppctl: Ppctl) -> None:
    assert ppctl("client", "--list") == 0
    for name in CLIENTS:
        assert f"\n{name} " in ppctl.out
    assert ppctl("client", "--list", "--json") == 0
    assert [c["client"] for c in json.loads(ppctl.out)["result"]["clients"]] == list(CLIENTS)
    assert ppctl("client") == 0
    assert "Commands:" in ppctl.out


def _write_many(user_home: str, names: list[str]) -> None:
    from ppctl.__main__ import main

    os.environ["HOME"] = user_home
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for name in names:
        assert main(["pypirc", "--url", f"https://{name}.example", "--name", name, "--write"]) == 0


def test_many_at_once_lose_nothing(user_home: Path) -> None:
    names = [[f"i{worker}-{number}" for number in range(5)] for worker in range(4)]
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_write_many, args=(str(user_home), part)) for part in names]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    text = (user_home / ".pypirc").read_text()
    for name in [name for part in names for name in part]:
        assert f"[{name}]" in text and f"    {name}\n" in text


def test_killed_while_writing_leaves_the_old_file(user_home: Path) -> None:
    from ppctl.clients import files
    from ppctl.clients.base import from_url
    from tests.fake_host import FakeHost, Killed

    entry = from_url("https://pypi.example.com", "corp")
    client = CLIENTS["pypirc"]
    path = Path("/home/operator/.pypirc")
    old = b"[pypi]\nusername = u\n"
    for step in range(1, 6):
        host = FakeHost()
        host.put(path, old, mode=0o644)
        host.kill_at(step)
        try:
            files.update(host, path, lambda text: client.merge(text, entry), secret=False, private=True)
        except Killed:
            assert host.read(path) == old
        else:
            assert b"[corp]" in (host.read(path) or b"")
            break
    else:
        pytest.fail("never finished")
