"""What can be wrong outside: each is told in a sentence, with its exit code, and nothing is changed.

Names and passwords: tests/commands/test_users.py. Client files: tests/clients/test_bad_input.py.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli import Ran
from tests.conftest import ROOT, NewHome, Ppctl, RunPpctl, tree
from tests.server.patience import within

REQUIRE_ALL = os.environ.get("PPCTL_REQUIRE_ALL") == "1"


@dataclass(frozen=True)
class Case:
    """A row: ppctl.yml (or None), the arguments after -C HOME, and what is expected."""

    settings: str | None
    arguments: tuple[str, ...]
    code: int
    message: str
    hint: str = ""


def case(settings: str | None, arguments: str, code: int, message: str, hint: str = "") -> Case:
    return Case(settings, tuple(arguments.split()), code, message, hint)


# In the home there is this ppctl.yml and nothing else.
SIMPLE = [
    # settings
    case("port: many", "up", 2, "ppctl.yml: port: expected a whole number, got text (accepted: 1 to 65535)"),
    case("prot: 1", "plan", 2, "prot: no such key (did you mean port?)", "`ppctl schema` shows every key"),
    case("port: 1\nport: 2", "up", 2, "the key `port` is given twice (line 2"),
    case(
        "manager: runit",
        "up",
        2,
        "manager: not an accepted value: 'runit' (accepted: auto, supervisor, systemd)",
    ),
    case("host: example.com", "up", 2, "'example.com' is not an IP address", "names go into public_url"),
    case("a: [", "status", 2, "not valid YAML"),
    case("\x00\x01\x02", "up", 2, "not valid YAML"),
    case("just text", "up", 2, "expected keys and values, such as `port: 3141`"),
    case("host: ::1", "up", 2, "supervisor cannot listen on IPv6", "set `manager: systemd`"),
    case("server: {find_links: wheels}", "up", 2, "server.find_links: expected an absolute path"),
    case("server: {index_url: 'https://me:secret@host/'}", "up", 2, "server.index_url", "~/.netrc"),
    case(
        "server: {python: /opt/no/python}", "up", 1, "server.python: /opt/no/python: there is no such program"
    ),
    case("server: {python: /bin/true}", "up", 1, "server.python: /bin/true does not run"),
    case("server: {python: '3.1'}", "up", 1, "server.python: there is no Python 3.1 on this machine"),
    # the machine
    case("host: 192.0.2.77", "up", 1, "host: this machine does not have the address 192.0.2.77"),
    # usage
    case("", "up --nonsense", 2, "No such option '--nonsense'", "ppctl up --help"),
    case("", "up a b", 2, "unexpected extra argument"),
    case("", "up --first-user a:b", 2, "a:b: a name cannot contain `:`"),
    case("", "up --first-user=", 2, "the name is empty"),
    case("", "upp", 2, "No such command 'upp'", "ppctl --help"),
    case("", "logs -n -1", 2, "-1 is not in the range x>=0"),
    case("", "logs --follow --json", 2, "--follow and --json exclude each other"),
    case("", "restart --worker x", 2, "'x' is not a valid integer"),
    case("", "schema --json", 2, "No such option '--json'"),
    case("", "init --port 99999", 2, "port: expected a whole number <= 65535"),
    case("", "init --name Team", 2, "name: expected text of the form"),
    case("", "init", 1, "ppctl.yml: there is one already", "edit it, then run: ppctl up"),
    # commands that need an index that is up
    case("", "start", 1, "this index is not up", "start it: ppctl up"),
    case("", "stop", 1, "this index is not up"),
    case("", "restart", 1, "this index is not up"),
    case("", "logs", 1, "this index is not up"),
    case("", "destroy", 1, "nothing was removed", "--yes"),
    # no index here
    case(None, "status", 2, "there is no index here (no ppctl.yml)", "create one: ppctl init -C"),
    case(None, "restart", 2, "there is no index here"),
    case(None, "destroy --yes", 2, "there is no index here"),
    case(None, "down", 2, "there is no index here"),
]


AsNobody = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def as_nobody() -> AsNobody:
    """Run ppctl as an ordinary user, with whichever Python that user can run."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    places = [str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/nonexistent"]
    prefix += ["XDG_CONFIG_HOME=/nonexistent", f"PYTHONPATH={os.pathsep.join(places)}"]
    for python in (sys.executable, f"/usr/bin/{version}"):
        argv = [*prefix, python, "-m", "ppctl"]
        with contextlib.suppress(OSError):
            if (
                subprocess.run([*argv, "--version"], check=False, capture_output=True, cwd="/").returncode
                == 0
            ):
                return lambda *arguments: subprocess.run(
                    [*argv, *map(str, arguments)],
                    check=False,
                    capture_output=True,
                    text=True,
                    cwd="/",
                    timeout=60,
                )
    pytest.skip(f"nobody can run {sys.executable} nor /usr/bin/{version} with this checkout")


def assert_told(ran: Ran | subprocess.CompletedProcess[str], code: int, message: str, hint: str = "") -> None:
    """Assert exit code and message, and that nothing looks like a bug."""
    is_process = isinstance(ran, subprocess.CompletedProcess)
    found = (ran.returncode, ran.stdout + ran.stderr) if is_process else (ran.code, ran.out + ran.err)
    assert found[0] == code, found[1]
    assert message in found[1]
    assert hint in found[1]
    assert "Traceback" not in found[1] and "a bug in ppctl" not in found[1]


@pytest.mark.parametrize("row", SIMPLE, ids=lambda row: f"{row.settings!r:.30}-{' '.join(row.arguments)}")
def test_table(row: Case, home: Path, ppctl: Ppctl) -> None:
    home.mkdir(mode=0o750)
    if row.settings is not None:
        (home / "ppctl.yml").write_text(row.settings)
    before = tree(home)
    command, *rest = row.arguments
    assert_told(ppctl(command, "-C", home, *rest), row.code, row.message, row.hint)
    after = tree(home)
    after.pop(".lock", None)
    assert after == before


@pytest.mark.parametrize("command", ["up", "plan", "status", "down", "init"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/tmp/" + "x" * 80, "too long for a home: 85 bytes, at most 79"),
        ("/tmp/" + "é" * 40, "too long for a home: 85 bytes"),
        ("/tmp/" + "x" * 5000, "too long for a home"),
        ("/tmp/with blank", "a home's path may hold letters, digits and"),
        ("/tmp/100%", "a home's path may hold"),
        ("/tmp/$(id)", "a home's path may hold"),
        ("/tmp/üben", "a home's path may hold"),
        ("/tmp/line\nend", "a home's path may hold"),
        ("/tmp/end\n", "a home's path may hold"),
        (os.fsdecode(b"/tmp/\xff"), "a home's path may hold"),
    ],
    ids=[
        "long",
        "long in bytes",
        "very long",
        "blank",
        "percent",
        "dollar",
        "umlaut",
        "line",
        "end",
        "no UTF-8",
    ],
)
def test_paths(command: str, path: str, message: str, ppctl: Ppctl) -> None:
    assert_told(ppctl(command, "-C", path), 2, message, "path with -C")
    assert len(path) > 4000 or not os.path.lexists(path)


@pytest.mark.parametrize("command", ["up", "plan", "status", "init"])
def test_a_home_that_is_a_file(command: str, home: Path, ppctl: Ppctl) -> None:
    home.write_text("precious")
    assert_told(ppctl(command, "-C", home), 2, f"a home is a directory, and {home} is a file")
    assert home.read_text() == "precious"


@pytest.mark.parametrize("command", ["up", "plan", "status", "init"])
def test_a_home_below_a_file(command: str, home: Path, ppctl: Ppctl) -> None:
    home.write_text("precious")
    message = f"{home}/a/b: a home is a directory, and {home} is a file"
    assert_told(ppctl(command, "-C", home / "a" / "b"), 2, message)
    assert home.read_text() == "precious"


def test_a_directory_with_other_things_is_no_new_home(home: Path, ppctl: Ppctl) -> None:
    (home / "photos").mkdir(parents=True)
    before = tree(home)
    for command in ("up", "plan"):
        assert_told(ppctl(command, "-C", home), 2, "there is no index here (no ppctl.yml)", "ppctl init -C")
    assert tree(home) == before


@pytest.mark.e2e
def test_a_home_that_cannot_be_entered(home: Path, as_nobody: AsNobody) -> None:
    home.mkdir(mode=0o700)
    (home / "ppctl.yml").write_text("")
    for command in ("up", "status", "plan"):
        assert_told(as_nobody(command, "-C", home), 1, "Permission denied")
    assert sorted(os.listdir(home)) == ["ppctl.yml"]


@pytest.mark.e2e
def test_a_home_that_cannot_be_written(home: Path, as_nobody: AsNobody) -> None:
    home.mkdir(mode=0o755)
    (home / "ppctl.yml").write_text("")
    (home / "ppctl.yml").chmod(0o644)
    before = tree(home)
    assert_told(as_nobody("up", "-C", home), 1, f"{home}/.lock: cannot lock: Permission denied")
    assert_told(as_nobody("init", "-C", home / "x"), 1, "cannot make the directory: Permission denied")
    assert tree(home) == before


@pytest.mark.e2e
def test_a_privileged_port(home: Path, as_nobody: AsNobody) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("every port is for everybody here")
    home.mkdir()
    (home / "ppctl.yml").write_text("port: 80")
    os.chown(home, 65534, 65534)
    os.chown(home / "ppctl.yml", 65534, 65534)
    done = as_nobody("up", "-C", home)
    assert_told(done, 1, "port: 127.0.0.1:80: ports below 1024 need root", "choose another port")


@pytest.mark.e2e
def test_the_machines_index_needs_root(home: Path, as_nobody: AsNobody) -> None:
    home.mkdir(mode=0o755)
    (home / "ppctl.yml").write_text("mode: system")
    (home / "ppctl.yml").chmod(0o644)
    for command in ("up", "restart", "down"):
        done = as_nobody(command, "-C", home)
        assert_told(done, 1, "this index belongs to the machine (mode: system), and you are nobody", "sudo")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_roots_hands_off_a_users_index(new_home: NewHome, ppctl: Ppctl) -> None:
    home = new_home()
    os.chown(home, 65534, 65534)
    assert_told(ppctl("up", "-C", home), 1, "this index belongs to nobody (mode: embedded)", "sudo -u nobody")
    assert sorted(os.listdir(home)) == ["ppctl.yml"]


# -- ports -------------------------------------------------------------------------------------------


def test_a_port_that_is_taken(new_home: NewHome, free_port: int, ppctl: Ppctl) -> None:
    home = new_home()
    before = tree(home)
    with socket.create_server(("127.0.0.1", free_port)):
        for command in ("up", "plan"):
            ran = ppctl(command, "-C", home)
            assert_told(ran, 1, f"port: 127.0.0.1:{free_port} is taken by ", f"--port {free_port + 1}")
            assert f"(pid {os.getpid()})" in ran.err
    after = tree(home)
    after.pop(".lock", None)
    assert after == before


def test_a_port_that_is_taken_and_no_home_yet(home: Path, ppctl: Ppctl) -> None:
    """Then not even the home is made: the next try may be with other settings."""
    with contextlib.ExitStack() as stack:

        def is_ours() -> bool:
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", 3141)))
                return True
            return False

        within(0.1, is_ours)  # or somebody has it for longer than tests do
        assert_told(ppctl("up", "-C", home), 1, "port: 127.0.0.1:3141 is taken")
    assert not home.exists()


# -- full and read-only file systems ---------------------------------------------------------------------


@pytest.fixture
def mount(home: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts a tmpfs with the given options at the home."""

    def do(options: str) -> Path:
        home.mkdir(exist_ok=True)
        argv = ["mount", "-t", "tmpfs", "-o", options, "ppctl-test", str(home)]
        if os.geteuid() != 0 or subprocess.run(argv, check=False, capture_output=True).returncode != 0:
            if REQUIRE_ALL:
                pytest.fail("mounting needs root")
            pytest.skip("mounting needs root")
        return home

    yield do
    subprocess.run(["umount", "--lazy", str(home)], check=False, capture_output=True)


def test_a_read_only_file_system(mount: Callable[[str], Path], ppctl: Ppctl) -> None:
    home = mount("size=1M,mode=750")
    (home / "ppctl.yml").write_text("")
    subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
    for command in ("up", "init --keep", "down"):
        ran = ppctl(command.split()[0], "-C", home, *command.split()[1:])
        if command.startswith("init"):
            assert ran.code == 0  # it is there: nothing to write
        else:
            assert_told(ran, 1, "Read-only file system", "mounted read-only")
    assert sorted(os.listdir(home)) == ["ppctl.yml"]


@pytest.mark.e2e
def test_no_space_for_a_release(mount: Callable[[str], Path], ppctl: Ppctl, free_port: int) -> None:
    home = mount("size=400k,mode=750")
    (home / "ppctl.yml").write_text(f"port: {free_port}")
    ran = ppctl("up", "-C", home)
    assert_told(ran, 1, "No space left on device")
    assert os.listdir(home / "releases") == []


@pytest.mark.e2e
def test_no_space_for_a_file(mount: Callable[[str], Path], ppctl: Ppctl, free_port: int) -> None:
    home = mount("size=64k,nr_inodes=4,mode=750")
    (home / "ppctl.yml").write_text(f"port: {free_port}")
    assert_told(ppctl("up", "-C", home), 1, "No space left on device")


# -- damaged homes -----------------------------------------------------------------------------------


def damage_current(home: Path) -> None:
    (home / "releases").mkdir(mode=0o755)
    (home / "releases" / "current").write_text("x")


def damage_directory(name: str) -> Callable[[Path], None]:
    return lambda home: (home / name).mkdir()


def damage_file(name: str) -> Callable[[Path], None]:
    return lambda home: (home / name).write_text("x") and None


DAMAGES = [
    (damage_current, "releases/current: a link must be here, and this is a file"),
    (damage_directory("run-pypi.sh"), "run-pypi.sh: a file must be here, and this is a directory"),
    (damage_directory("htpasswd"), "htpasswd: a file must be here, and this is a directory"),
    (damage_directory("server.json"), "server.json: a file must be here, and this is a directory"),
    (damage_file("packages"), "packages: a directory must be here, and this is a file"),
    (damage_file("releases"), "releases: a directory must be here, and this is a file"),
    (damage_directory(".manifest.json"), ".manifest.json: cannot read: Is a directory"),
    (damage_directory(".lock"), ".lock: cannot lock: Is a directory"),
]


@pytest.mark.parametrize(
    ("damage", "message"), DAMAGES, ids=[message.split(":")[0] for _, message in DAMAGES]
)
def test_damaged_homes(damage: Callable[[Path], None], message: str, new_home: NewHome, ppctl: Ppctl) -> None:
    home = new_home()
    damage(home)
    before = tree(home)
    assert_told(ppctl("up", "-C", home), 1, f"{home}/{message}")
    assert {name: entry for name, entry in tree(home).items() if name in before} == before
    assert tree(home).keys() - before.keys() <= {".lock"}


def test_settings_that_are_a_directory(home: Path, ppctl: Ppctl) -> None:
    (home / "ppctl.yml").mkdir(parents=True)
    assert_told(ppctl("up", "-C", home), 1, "ppctl.yml: cannot read: Is a directory")


# -- missing programs --------------------------------------------------------------------------------


def test_no_uv(new_home: NewHome, ppctl: Ppctl, monkeypatch: pytest.MonkeyPatch) -> None:
    home = new_home()
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setattr("ppctl.local_host.shutil.which", lambda *_, **__: None)
    assert_told(ppctl("up", "-C", home), 1, "uv is not installed", "pip install uv")


@pytest.mark.e2e
def test_no_packages_to_install(new_home: NewHome, ppctl: Ppctl, tmp_path: Path) -> None:
    home = new_home(server={"find_links": str(tmp_path)})
    assert_told(ppctl("up", "-C", home), 1, "cannot install the server's packages", "put what is missing")
    assert os.listdir(home / "releases") == []


@pytest.mark.e2e
def test_a_version_that_does_not_exist(new_home: NewHome, ppctl: Ppctl, tmp_path: Path) -> None:
    home = new_home(server={"find_links": str(tmp_path), "versions": {"pypiserver": "99.9"}})
    assert_told(ppctl("up", "-C", home), 1, "pypiserver")


@pytest.mark.e2e
def test_a_directory_of_wheels_that_is_not_there(new_home: NewHome, ppctl: Ppctl) -> None:
    home = new_home(server={"find_links": "/no/such/directory"})
    assert_told(ppctl("up", "-C", home), 1, "/no/such/directory")


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_systemd_does_not_run(new_home: NewHome, ppctl: Ppctl) -> None:
    home = new_home(manager="systemd")
    assert_told(
        ppctl("up", "-C", home), 1, "manager: systemd does not run on this machine", "manager: supervisor"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_supervisor_is_not_installed(
    new_home: NewHome, ppctl: Ppctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppctl.managers.supervisor_machine.CONFIGURATIONS", (Path("/no/supervisord.conf"),))
    home = new_home(manager="supervisor", mode="system")
    assert_told(ppctl("up", "-C", home), 1, "manager: supervisor is not installed", "apt install supervisor")


# -- the environment ---------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_removed_working_directory(tmp_path: Path, run_ppctl: RunPpctl) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    prefix = ("sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(gone))
    assert_told(
        run_ppctl("status", "-C", "relative", prefix=prefix), 2, "the working directory has been removed"
    )
    gone.mkdir()
    assert_told(run_ppctl("status", prefix=prefix), 2, "there is no index here")


def test_a_user_that_is_not_there(ppctl: Ppctl) -> None:
    assert_told(ppctl("status", "-C", "~no-such-user-here/x"), 2, "there is no such user")


def test_several_indexes_and_no_word_which(new_home: NewHome, ppctl: Ppctl, tmp_path: Path) -> None:
    register = Path(os.environ["XDG_CONFIG_HOME"]) / "ppctl" / "indexes"
    register.mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ppctl.yml").write_text("")
        (register / name).symlink_to(tmp_path / name)
    with contextlib.chdir(tmp_path) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        assert_told(
            ppctl("status"), 2, "several indexes are registered on this machine: one (", "say which: -C HOME"
        )


def test_wrong_worker(new_home: NewHome, ppctl: Ppctl) -> None:
    from ppctl.deployment import Deployment, Manifest
    from ppctl.settings import ManagerName, Mode

    home = new_home()
    deployment = Deployment("pypi", ManagerName.SUPERVISOR, Mode.EMBEDDED, home, "127.0.0.1", 3141, 2)
    (home / ".manifest.json").write_bytes(Manifest((deployment,)).to_bytes(home))
    for command in ("restart", "logs"):
        for number in ("0", "3"):
            ran = ppctl(command, "-C", home, "--worker", number)
            assert_told(ran, 2, f"--worker {number}: this index has workers 1 to 2")
