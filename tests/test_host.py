"""What every Host promises, asked of the fake one and of this machine; then what only the real one has."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ppctl import local_locks
from ppctl.errors import CommandFailed, PpctlError
from ppctl.host import Host
from ppctl.local_host import LocalHost
from tests.fake_host import FakeHost, Killed

Machine = tuple[Host, Path]


@pytest.fixture(params=["fake", "local"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine and an empty directory on it."""
    if request.param == "local":
        return LocalHost(), tmp_path
    fake = FakeHost()
    fake.make_directory(Path("/home/operator"), mode=0o755)
    fake.answer("sh", "-c", by=lambda run: "" if run.input is None else run.input)
    return fake, Path("/home/operator")


def test_write_replaces_and_sets_the_mode(machine: Machine) -> None:
    host, base = machine
    for content, mode in ((b"one", 0o640), (b"two\x00", 0o755), (b"", 0o600)):
        host.write(base / "file", content, mode=mode)
        found = host.stat(base / "file")
        assert found and (found.kind, found.mode, found.size) == ("file", mode, len(content))
        assert host.read(base / "file") == content
    assert host.list(base) == ["file"]


def test_write_replaces_a_link_not_its_target(machine: Machine) -> None:
    host, base = machine
    host.write(base / "target", b"kept", mode=0o600)
    host.link(base / "link", "target")
    host.write(base / "link", b"new", mode=0o600)
    assert host.read(base / "target") == b"kept"
    found = host.stat(base / "link")
    assert found and found.kind == "file"


def test_copy_file_keeps_content_and_time_and_replaces(machine: Machine) -> None:
    host, base = machine
    host.write(base / "source", b"\x00content", mode=0o600)
    for _ in range(2):
        host.copy_file(base / "source", base / "copy", mode=0o644)
        source, found = host.stat(base / "source"), host.stat(base / "copy")
        assert source and found and (found.mode, found.size, found.mtime) == (0o644, 8, source.mtime)
        assert host.read(base / "copy") == b"\x00content"
    assert host.list(base) == ["copy", "source"]
    with pytest.raises(PpctlError, match="missing: cannot read"):
        host.copy_file(base / "missing", base / "copy", mode=0o644)
    assert host.read(base / "copy") == b"\x00content"


def test_append_makes_then_extends(machine: Machine) -> None:
    host, base = machine
    host.append(base / "log", b"one\n", mode=0o640)
    host.append(base / "log", b"two\n", mode=0o600)
    found = host.stat(base / "log")
    assert host.read(base / "log") == b"one\ntwo\n"
    assert found and found.mode == 0o640


def test_reading_follows_links(machine: Machine) -> None:
    host, base = machine
    host.make_directory(base / "real" / "deep", mode=0o755)
    host.write(base / "real" / "deep" / "file", b"x", mode=0o644)
    host.link(base / "current", "real/deep")
    host.link(base / "file", str(base / "current" / "file"))
    assert host.read(base / "current" / "file") == host.read(base / "file") == b"x"
    assert host.list(base / "current") == ["file"]
    found = host.stat(base / "current")
    assert found and (found.kind, found.target) == ("link", "real/deep")
    below = host.stat(base / "current" / "file")
    assert below and below.kind == "file"


def test_nothing_there(machine: Machine) -> None:
    host, base = machine
    missing = base / "no" / "where"
    assert host.stat(missing) is None
    assert host.read(missing) is None
    assert host.list(missing) == []
    host.remove(missing)
    host.remove_tree(missing)
    host.link(base / "dangling", "nowhere")
    assert host.read(base / "dangling") is None
    found = host.stat(base / "dangling")
    assert found and found.kind == "link"


def test_links_are_replaced_atomically(machine: Machine) -> None:
    host, base = machine
    host.write(base / "current", b"a file", mode=0o644)
    for target in ("one", "two"):
        host.link(base / "current", target)
        found = host.stat(base / "current")
        assert found and found.target == target
    assert host.list(base) == ["current"]


def test_directories(machine: Machine) -> None:
    host, base = machine
    host.make_directory(base / "a" / "b", mode=0o750)
    host.make_directory(base / "a" / "b", mode=0o700)
    found = host.stat(base / "a" / "b")
    assert found and (found.kind, found.mode) == ("directory", 0o700)
    host.write(base / "a" / "b" / "file", b"", mode=0o600)
    host.set_attributes(base / "a" / "b" / "file", mode=0o444)
    found = host.stat(base / "a" / "b" / "file")
    assert found and found.mode == 0o444
    host.write(base / "outside", b"kept", mode=0o600)
    host.link(base / "a" / "link", "../outside")
    host.remove_tree(base / "a")
    assert host.list(base) == ["outside"]
    host.remove(base / "outside")
    assert host.list(base) == []


def test_remove_takes_the_link_not_its_target(machine: Machine) -> None:
    host, base = machine
    host.write(base / "file", b"kept", mode=0o600)
    host.link(base / "link", "file")
    host.remove(base / "link")
    assert host.list(base) == ["file"]


REFUSED: list[tuple[str, Callable[[Host, Path], object], str]] = [
    (
        "write into a missing directory",
        lambda h, b: h.write(b / "no" / "x", b"", mode=0o600),
        "No such file or directory",
    ),
    ("write over a directory", lambda h, b: h.write(b / "dir", b"", mode=0o600), "Is a directory"),
    ("write below a file", lambda h, b: h.write(b / "file" / "x", b"", mode=0o600), "Not a directory"),
    (
        "append in a missing directory",
        lambda h, b: h.append(b / "no" / "x", b"", mode=0o600),
        "No such file or directory",
    ),
    (
        "append through a link",
        lambda h, b: h.append(b / "link", b"x", mode=0o600),
        "Too many levels of symbolic links",
    ),
    ("read a directory", lambda h, b: h.read(b / "dir"), "Is a directory"),
    ("read below a file", lambda h, b: h.read(b / "file" / "x"), "Not a directory"),
    ("read a loop of links", lambda h, b: h.read(b / "loop"), "Too many levels of symbolic links"),
    ("list a file", lambda h, b: h.list(b / "file"), "Not a directory"),
    (
        "make a directory where a file is",
        lambda h, b: h.make_directory(b / "file", mode=0o700),
        "File exists",
    ),
    (
        "make a directory below a file",
        lambda h, b: h.make_directory(b / "file" / "x", mode=0o700),
        "Not a directory",
    ),
    (
        "attributes of nothing",
        lambda h, b: h.set_attributes(b / "no", mode=0o700),
        "No such file or directory",
    ),
    ("link in a missing directory", lambda h, b: h.link(b / "no" / "x", "y"), "No such file or directory"),
    ("link over a directory", lambda h, b: h.link(b / "dir", "y"), "Is a directory"),
    ("remove a directory", lambda h, b: h.remove(b / "dir"), "Is a directory"),
    ("remove a tree that is a file", lambda h, b: h.remove_tree(b / "file"), "Not a directory"),
    (
        "owner that nobody is",
        lambda h, b: h.write(b / "x", b"", mode=0o600, owner="no-such-account"),
        "no such account",
    ),
    ("run a missing program", lambda h, b: h.run(["no-such-program-at-all"]), "there is no such program"),
    (
        "lock in a missing directory",
        lambda h, b: h.lock(b / "no" / "x", purpose="test").__enter__(),
        "No such file or directory",
    ),
]


@pytest.mark.parametrize(("attempt", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refusals_are_messages_and_change_nothing(
    machine: Machine, attempt: Callable[[Host, Path], object], says: str
) -> None:
    host, base = machine
    host.make_directory(base / "dir", mode=0o755)
    host.write(base / "file", b"kept", mode=0o600)
    host.link(base / "link", "file")
    host.link(base / "loop", "loop")
    with pytest.raises(PpctlError) as raised:
        attempt(host, base)
    assert says in raised.value.message
    assert host.list(base) == ["dir", "file", "link", "loop"]
    assert host.read(base / "file") == b"kept"


def test_file_system(machine: Machine) -> None:
    host, base = machine
    host.make_directory(base / "dir", mode=0o755)
    host.link(base / "link", "dir")
    found = host.file_system(base / "link")
    assert 0 < found.free <= found.size and found.inodes_free <= found.inodes
    assert not found.read_only
    with pytest.raises(PpctlError, match="No such file or directory"):
        host.file_system(base / "missing")


def test_run_takes_secrets_on_stdin(machine: Machine) -> None:
    host, _ = machine
    done = host.run(["sh", "-c", "cat"], input="secret")
    assert (done.returncode, done.stdout) == (0, "secret")
    assert host.run(["sh", "-c", "cat"]).stdout == ""  # no input: not the terminal's
    assert host.which("sh") and host.which("no-such-program-at-all") is None


def test_a_program_dies_with_ppctl(tmp_path: Path) -> None:
    """uv must not go on writing into a release that the next `ppctl up` removes."""
    code = (
        "import sys; from ppctl.local_host import LocalHost\n"
        "LocalHost().run(['sh', '-c', 'echo $$ > $0; exec sleep 100', sys.argv[1]], dies_with_us=True)"
    )
    note = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", code, str(note)])
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.01)
    child = int(note.read_text())
    os.kill(child, 0)
    process.kill()
    process.wait()
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.01)
    os.kill(child, 9)
    raise AssertionError("it goes on")


def test_lock_can_be_taken_again_and_survives_an_error(machine: Machine) -> None:
    host, base = machine
    with pytest.raises(ValueError, match="boom"), host.lock(base / ".lock", purpose="one"):
        raise ValueError("boom")
    with host.lock(base / ".lock", purpose="two", wait=False):
        pass
    found = host.stat(base / ".lock")
    assert found and (found.kind, found.mode) == ("file", 0o600)


@pytest.mark.parametrize("before", ["", '{"pid": 99999999, "user": "bob", "purpose": "ppctl down"}'])
def test_who_got_the_lock_just_now_is_waited_for(
    tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / ".lock"
    lock.write_text(before)
    note = {"pid": os.getpid(), "user": "ann", "purpose": "ppctl up"}
    later = SimpleNamespace(sleep=lambda _: lock.write_text(json.dumps(note)))
    monkeypatch.setattr(local_locks, "time", later)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(PpctlError, match=rf"`ppctl up` by ann \(pid {os.getpid()}\)"),
            LocalHost().lock(lock, purpose="ppctl restart", wait=False),
        ):
            pass


def test_leftovers_are_those_of_dead_processes(machine: Machine) -> None:
    host, base = machine
    ended = subprocess.Popen(["true"])
    ended.wait()
    own = host.pid if isinstance(host, FakeHost) else os.getpid()
    for name in (
        f".a.{ended.pid}.tmp",
        f".a.{own}.tmp",
        ".a.tmp",
        f"a.{ended.pid}.tmp",
        f".a.{'9' * 30}.tmp",
        "a",
    ):
        host.write(base / name, b"", mode=0o600)
    assert set(host.leftovers(base)) == {base / f".a.{ended.pid}.tmp", base / f".a.{'9' * 30}.tmp"}
    assert host.leftovers(base / "nowhere") == ()


def test_a_kill_in_the_midst_leaves_a_temporary_file(tmp_path: Path) -> None:
    """What the fake one leaves is what the real one leaves."""
    code = (
        "import os, sys, pathlib; from ppctl.local_host import LocalHost\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "LocalHost().write(pathlib.Path(sys.argv[1]) / 'file', b'new', mode=0o600)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    assert killed.wait() == -9
    assert LocalHost().leftovers(tmp_path) == (tmp_path / f".file.{killed.pid}.tmp",)
    fake = FakeHost()
    fake.make_directory(tmp_path, mode=0o755)
    fake.kill_at(1, midway=True)
    pid = fake.pid
    with pytest.raises(Killed):
        fake.write(tmp_path / "file", b"new", mode=0o600)
    assert fake.leftovers(tmp_path) == (tmp_path / f".file.{pid}.tmp",)
    assert fake.read(tmp_path / "file") is None


# -- the fake one's own ------------------------------------------------------------------------------


def test_fake_kills_before_the_nth_change() -> None:
    host = FakeHost()
    host.put("/home/index/file", "old")
    copy = host.copy()
    host.kill_at(2)
    host.write(Path("/home/index/file"), b"new", mode=0o600)
    with pytest.raises(Killed):
        host.remove(Path("/home/index/file"))
    assert host.read(Path("/home/index/file")) == b"new"
    assert copy.read(Path("/home/index/file")) == b"old"
    assert [name for name, _ in host.operations] == ["write"]


def test_fake_programs_owners_and_locks() -> None:
    said: list[str] = []
    host = FakeHost(root=True, accounts={"pypi": "www-data"}, announce=said.append)
    host.answer("systemctl", by="generic")
    host.answer("systemctl", "is-active", by=lambda run: f"{run.argv[-1]}: active")
    assert host.run(["systemctl", "daemon-reload"]).stdout == "generic"
    assert host.run(["systemctl", "is-active", "x"]).stdout == "x: active"
    assert [run.argv[1] for run in host.runs] == ["daemon-reload", "is-active"]

    host.write(Path("/file"), b"", mode=0o640, owner="root", group=host.primary_group("pypi"))
    found = host.stat(Path("/file"))
    assert found and (found.owner, found.group) == ("root", "www-data")
    with pytest.raises(PpctlError, match="Operation not permitted"):
        FakeHost(accounts={"pypi": "pypi"}).write(Path("/file"), b"", mode=0o640, owner="pypi")

    host.hold(Path("/.lock"))
    with pytest.raises(PpctlError, match="pid 4711"), host.lock(Path("/.lock"), purpose="x", wait=False):
        pass
    with host.lock(Path("/.lock"), purpose="x"):
        assert host.locks == [(Path("/.lock"), "x")]
        with pytest.raises(AssertionError, match="deadlock"), host.lock(Path("/.lock"), purpose="y"):
            pass
    assert "pid 4711" in said[0]


# -- the real one's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "fchmod", "rename"])
def test_a_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    host = LocalHost()
    host.write(tmp_path / "file", b"old", mode=0o600)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path if call == "rename" else os, call, fail)
    with pytest.raises(PpctlError, match="Input/output error"):
        host.write(tmp_path / "file", b"new", mode=0o600)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["file"]
    assert host.read(tmp_path / "file") == b"old"


def test_mode_and_content_are_there_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bytes]] = []
    rename = Path.rename

    def spy(self: Path, target: Path) -> Path:
        seen.append((self.stat().st_mode & 0o7777, self.read_bytes()))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", spy)
    LocalHost().write(tmp_path / "file", b"content", mode=0o640)
    assert seen == [(0o640, b"content")]


def test_the_umask_does_not_change_modes(tmp_path: Path) -> None:
    host = LocalHost()
    old = os.umask(0o077)
    try:
        host.write(tmp_path / "file", b"", mode=0o640)
        host.append(tmp_path / "log", b"x", mode=0o640)
        host.make_directory(tmp_path / "dir", mode=0o755)
    finally:
        os.umask(old)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "log", "dir")] == [
        0o640,
        0o640,
        0o755,
    ]


def test_readers_see_the_old_or_the_new_file(tmp_path: Path) -> None:
    host = LocalHost()
    contents = {b"a" * 200_000, b"b" * 150_000}
    host.write(tmp_path / "file", b"a" * 200_000, mode=0o600)
    done = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not done.is_set():
            content = (tmp_path / "file").read_bytes()
            if content not in contents:
                torn.append(len(content))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(20):
            for content in contents:
                host.write(tmp_path / "file", content, mode=0o600)
    finally:
        done.set()
        reader.join()
    assert torn == []


def test_parallel_appends_keep_lines_whole(tmp_path: Path) -> None:
    host = LocalHost()
    lines = [bytes([97 + i]) * 300 + b"\n" for i in range(8)]

    def add(line: bytes) -> None:
        for _ in range(20):
            host.append(tmp_path / "log", line, mode=0o640)

    threads = [threading.Thread(target=add, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    assert sorted(found) == sorted(lines * 20)


def test_no_shell(tmp_path: Path) -> None:
    done = LocalHost().run(["echo", f"$(touch {tmp_path}/made); `id`"])
    assert done.stdout == f"$(touch {tmp_path}/made); `id`\n"
    assert os.listdir(tmp_path) == []


def test_failures_of_programs(tmp_path: Path) -> None:
    host = LocalHost()
    with pytest.raises(CommandFailed) as raised:
        host.run(["sh", "-c", "echo why >&2; exit 7"], env={"X": "1"})
    assert (raised.value.returncode, raised.value.exit_code) == (7, 1)
    assert "why" in raised.value.message
    assert host.run(["false"], check=False).returncode == 1
    with pytest.raises(PpctlError, match=r"did not finish within 0\.1 s"):
        host.run(["sleep", "5"], timeout=0.1)
    (tmp_path / "no-program").write_text("x")
    with pytest.raises(PpctlError, match="cannot be run: Permission denied"):
        host.run([str(tmp_path / "no-program")])


HOLDER = """
import sys, pathlib
from ppctl.local_host import LocalHost
with LocalHost().lock(pathlib.Path(sys.argv[1]), purpose="ppctl up"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def lock_held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the lock `path`."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin and holder.stdout
    try:
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()


def test_a_link_that_goes_while_it_is_looked_at_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readlink = os.readlink
    (tmp_path / "link").symlink_to("target")

    def late(path: Path) -> str:
        path.unlink()
        return readlink(path)

    monkeypatch.setattr(os, "readlink", late)
    assert LocalHost().stat(tmp_path / "link") is None


def test_a_tree_of_which_something_goes_meanwhile_is_removed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that ends takes files of its own away."""
    tree, unlink, others = tmp_path / "tree", os.unlink, ["a worker"]
    (tree / "run").mkdir(parents=True)
    for name in ("run/a", "run/b", "c"):
        (tree / name).touch()

    def late(path: str, **options: int) -> None:
        if others:
            others.pop()
            unlink(path, **options)
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", late)
    LocalHost().remove_tree(tree)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_replaced_while_it_is_copied_is_not_taken_for_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """take-over copies once more what has another time, when the old server has ended."""
    source, copy, copyfileobj = tmp_path / "source", tmp_path / "copy", shutil.copyfileobj

    def late(*arguments: Any) -> None:
        copyfileobj(*arguments)
        source.write_text("new")
        os.utime(source, (2, 2))

    source.write_text("old")
    os.utime(source, (1, 1))
    monkeypatch.setattr(shutil, "copyfileobj", late)
    LocalHost().copy_file(source, copy, mode=0o644)
    assert (copy.read_text(), copy.stat().st_mtime) == ("old", 1)


def test_lock_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with (
        lock_held(path) as holder,
        pytest.raises(PpctlError) as raised,
        LocalHost().lock(path, purpose="x", wait=False),
    ):
        pass
    assert f"`ppctl up` by {LocalHost().user()} (pid {holder.pid})" in raised.value.message
    assert "--no-wait" in raised.value.hint


def test_lock_waits_and_says_for_whom(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    said: list[str] = []
    with lock_held(path) as holder:
        assert holder.stdin
        threading.Timer(0.1, holder.stdin.close).start()
        started = time.monotonic()
        with LocalHost(announce=said.append).lock(path, purpose="x"):
            assert time.monotonic() - started > 0.05
    assert len(said) == 1
    assert f"pid {holder.pid}" in said[0]


def test_a_lock_file_that_was_removed_meanwhile_keeps_others_out_all_the_same(tmp_path: Path) -> None:
    """`ppctl destroy` removes it while another ppctl waits for it: both that and a third would be at work."""
    path, waits, has_it, done = tmp_path / ".lock", threading.Event(), threading.Event(), threading.Event()

    def second() -> None:
        with LocalHost(announce=lambda _: waits.set()).lock(path, purpose="second"):
            has_it.set()
            done.wait(60)

    waiter = threading.Thread(target=second, daemon=True)
    with LocalHost().lock(path, purpose="first"):
        waiter.start()
        assert waits.wait(60)
        path.unlink()
    assert has_it.wait(60)
    with (
        pytest.raises(PpctlError, match="`second` by"),
        LocalHost().lock(path, purpose="third", wait=False),
    ):
        pass
    done.set()
    waiter.join(60)


def test_a_copy_between_where_others_write_follows_no_link(tmp_path: Path) -> None:
    host = LocalHost()
    old, new, elsewhere = (tmp_path / name for name in ("old", "new", "elsewhere"))
    for path in (old, new, elsewhere):
        path.mkdir()
        (path / "file").write_bytes(path.name.encode())
        (path / "link").symlink_to(elsewhere)
    within = (old, new)
    host.copy_file(old / "file", new / "a" / "b" / "copy", mode=0o644, within=within)
    assert (new / "a" / "b" / "copy").read_bytes() == b"old"
    assert {(new / name).stat().st_mode & 0o777 for name in ("a", "a/b")} == {0o755}
    host.copy_file(old / "file", new / "a" / "copy", mode=0o644, within=within)
    for goal in ("link/copy", "file/copy"):
        with pytest.raises(PpctlError, match="is a link, or no directory"):
            host.copy_file(old / "file", new / goal, mode=0o644, within=within)
    for source in ("link", "link/file", "a"):
        with pytest.raises(PpctlError):
            host.copy_file(old / source, new / "copy", mode=0o644, within=within)
    assert sorted(path.name for path in elsewhere.iterdir()) == ["file", "link"]
    host.copy_file(old / "file", new / "link", mode=0o644, within=within)
    assert not (new / "link").is_symlink(), "it is replaced"
    # The directory itself may be a link: an operator's, to another disk.
    (tmp_path / "disk").symlink_to(new)
    host.copy_file(
        old / "file", tmp_path / "disk" / "c" / "copy", mode=0o644, within=(old, tmp_path / "disk")
    )
    assert (new / "c" / "copy").read_bytes() == b"old"


def test_what_others_have_put_there_is_read_only_if_it_is_a_file(tmp_path: Path) -> None:
    """The workers' account writes into `run` and `packages`, where root reads: no secret, and no waiting."""
    host = LocalHost()
    path = tmp_path / "log"
    assert host.read(path, foreign=True) is None
    path.write_bytes(b"line")
    assert host.read(path, foreign=True) == b"line"
    (tmp_path / "link").symlink_to(path)
    assert host.read(tmp_path / "link") == b"line"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("link", "pipe", "directory"):
        with pytest.raises(PpctlError, match=name):
            host.read(tmp_path / name, foreign=True)


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with lock_held(tmp_path / ".lock") as holder:
        holder.kill()
        holder.wait(10)
        with LocalHost().lock(tmp_path / ".lock", purpose="x", wait=False):
            pass


def test_lock_can_be_taken_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with LocalHost().lock(tmp_path / "lock", purpose="make room"):
        pass


def test_lock_is_not_a_link_that_somebody_planted(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / ".lock").symlink_to("victim")
    with pytest.raises(PpctlError, match="cannot lock"), LocalHost().lock(tmp_path / ".lock", purpose="x"):
        pass
    assert (tmp_path / "victim").read_text() == "kept"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tiny file system with these options; needs root and the right to mount."""
    place = tmp_path / "mounted"
    place.mkdir()

    def do(options: str) -> Path:
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(argv, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
        return place

    yield do
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def test_full_disk(mount: Callable[[str], Path]) -> None:
    place = mount("size=64k")
    host = LocalHost()
    host.write(place / "file", b"old", mode=0o600)
    host.append(place / "log", b"old\n", mode=0o600)
    attempts: list[Callable[[], None]] = [
        lambda: host.write(place / "file", bytes(200_000), mode=0o600),
        lambda: host.append(place / "log", bytes(200_000), mode=0o600),
    ]
    for attempt in attempts:
        with pytest.raises(PpctlError, match="No space left on device") as raised:
            attempt()
        assert "free some space" in raised.value.hint
    assert sorted(os.listdir(place)) == ["file", "log"]
    assert host.read(place / "file") == b"old"


def test_read_only_file_system(mount: Callable[[str], Path]) -> None:
    place = mount("ro")
    with pytest.raises(PpctlError, match="Read-only file system") as raised:
        LocalHost().write(place / "file", b"", mode=0o600)
    assert "mounted read-only" in raised.value.hint


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[None]:
    """Root may write anywhere; so the test's process is nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.usefixtures("unprivileged")
def test_no_permission(tmp_path: Path) -> None:
    with contextlib.suppress(PermissionError):  # nobody may not, and need not
        tmp_path.chmod(0o500)
    with pytest.raises(PpctlError, match="Permission denied") as raised:
        LocalHost().write(tmp_path / "file", b"", mode=0o600)
    assert "owner" in raised.value.hint
