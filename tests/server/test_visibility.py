"""Real workers that share a home: what one stores, and what is done by hand, is seen by all of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator

import pytest

from ppctl.server import store
from tests.server.archives import sdist, wheel
from tests.server.patience import within
from tests.server.worker_process import Answer, Home, Worker, new_home, upload_form

pytestmark = pytest.mark.e2e

JSON = "application/vnd.pypi.simple.v1+json"


@pytest.fixture
def home() -> Iterator[Home]:
    """An index with two workers."""
    with new_home() as home:
        home.start(1)
        home.start(2)
        yield home


def files(worker: Worker, project: str) -> dict[str, dict[str, object]]:
    """Ask one worker for the files of a project."""
    answer = worker.get(f"/simple/{project}/?format={JSON}")
    if answer.status == 404:
        return {}
    return {file["filename"]: file for file in json.loads(answer.body)["files"]}


def urls(worker: Worker, project: str) -> list[object]:
    return [file["url"] for file in files(worker, project).values()]


def names(worker: Worker) -> list[str]:
    found = json.loads(worker.get(f"/simple/?format={JSON}").body)["projects"]
    return [project["name"] for project in found]


def upload(worker: Worker, name: str, content: bytes) -> Answer:
    content_type, body = upload_form(name, content)
    return worker.request("POST", "/", body, {"Content-Type": content_type})


def is_hashed(worker: Worker, project: str, name: str, content: bytes) -> bool:
    found = files(worker, project).get(name)
    return bool(found) and found["hashes"] == {"sha256": hashlib.sha256(content).hexdigest()}


def kill_catalogue(home: Home, how: str) -> None:
    # The database last: who finds that one gone makes a new one, whose log is to stay.
    for path in sorted((home.path / "run").glob("catalogue-*.db*"), reverse=True):
        with contextlib.suppress(FileNotFoundError):  # a worker has found out already, and makes a new one
            if how == "deleted":
                path.unlink()
            elif not path.name.endswith("-shm"):
                with path.open("r+b") as file:
                    file.write(b"garbage!" * (path.stat().st_size // 8))


# --- uploads


def test_an_upload_is_on_every_page_of_every_worker_in_the_next_request(home: Home) -> None:
    first, second = home.workers
    for number in range(30):
        stored, other = (first, second) if number % 2 else (second, first)
        name, content = wheel("foo", f"1.{number}")
        assert name not in files(other, "foo")
        assert upload(stored, name, content).status == 200
        for worker in (other, stored):
            assert is_hashed(worker, "foo", name, content)
            assert name in worker.get("/simple/foo/").text
            assert name in worker.get("/packages/").text
            assert worker.get(f"/packages/{name}").body == content
            assert worker.get("/foo/json").text.count(f"1.{number}") >= 1
            assert names(worker) == ["foo"]


def test_what_is_removed_is_gone_from_every_worker(home: Home) -> None:
    first, second = home.workers
    for version in ("1.0", "2.0"):
        upload(first, *wheel("foo", version))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for version, left in (("1.0", ["foo-2.0-py3-none-any.whl"]), ("2.0", [])):
        body = f":action=remove_pkg&name=foo&version={version}".encode()
        assert first.request("POST", "/", body, form).status == 200
        for worker in (second, first):
            assert list(files(worker, "foo")) == left
            assert worker.get(f"/packages/foo-{version}-py3-none-any.whl").status == 404
    assert names(second) == []
    assert second.get("/simple/foo/").status == 404


# --- by hand


def test_files_are_noticed_within_a_second(home: Home) -> None:
    deep = home.packages / "team" / "deep"
    deep.mkdir(parents=True)
    for directory in (home.packages, deep):
        name, content = wheel("foo", f"1.{len(directory.parts)}")
        (directory / name).write_bytes(content)
        for worker in home.workers:
            assert within(1, lambda w=worker, n=name, c=content: is_hashed(w, "foo", n, c))  # type: ignore[misc]
        path = (directory / name).relative_to(home.packages)
        assert home.get(f"/packages/{path}").body == content
        (directory / name).unlink()
        for worker in home.workers:
            assert within(1, lambda w=worker: files(w, "foo") == {})  # type: ignore[misc]
        assert home.get(f"/packages/{path}").status == 404


def test_a_file_can_be_downloaded_before_it_is_listed(home: Home) -> None:
    name, content = wheel("foo", "1.0")
    (home.packages / name).write_bytes(content)
    assert home.get(f"/packages/{name}").body == content


def test_a_file_that_is_being_copied_is_not_listed() -> None:
    """As long as the watcher does not look at everything, as at its start and now and then."""
    name, content = wheel("foo", "1.0", content=os.urandom(100_000))
    other, other_content = wheel("bar", "1.0")
    with new_home(changes="from ppctl.server import watch; watch.SAFETY_SECONDS = 1e6") as home:
        home.start(1)
        home.start(2)
        (home.packages / other).write_bytes(other_content)
        assert within(1, lambda: is_hashed(home.workers[0], "bar", other, other_content))
        with (home.packages / name).open("wb") as file:
            file.write(content[:50_000])
            file.flush()
            time.sleep(1)
            assert files(home.workers[0], "foo") == {}
            file.write(content[50_000:])
        assert within(1, lambda: is_hashed(home.workers[1], "foo", name, content))


def test_a_replaced_file_has_its_new_hash(home: Home) -> None:
    """By a rename, as rsync does it; and in place, with the same size and time."""
    name, old = wheel("foo", "1.0", content=b"a" * 5000)
    path = home.packages / name
    path.write_bytes(old)
    assert within(1, lambda: is_hashed(home.workers[0], "foo", name, old))
    before = path.stat()
    new = old[:-1] + b"x"
    temporary = home.packages / f".{name}.Xy12"
    temporary.write_bytes(new)
    temporary.rename(path)
    assert within(1, lambda: is_hashed(home.workers[1], "foo", name, new))
    path.write_bytes(old)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert within(1, lambda: is_hashed(home.workers[1], "foo", name, old))


def test_links_are_noticed_and_moves_are_not_read_again(home: Home) -> None:
    name, content = wheel("foo", "1.0")
    outside = home.path / name
    outside.write_bytes(content)
    for link in (os.link, os.symlink):
        link(outside, home.packages / name)
        assert within(1, lambda: is_hashed(home.workers[0], "foo", name, content))
        (home.packages / "sub").mkdir()
        (home.packages / name).rename(home.packages / "sub" / name)
        assert within(1, lambda: urls(home.workers[1], "foo") == [f"/packages/sub/{name}"])
        (home.packages / "sub").rename(home.packages / "other")
        assert within(1, lambda: urls(home.workers[1], "foo") == [f"/packages/other/{name}"])
        shutil.rmtree(home.packages / "other")
        assert within(1, lambda: files(home.workers[1], "foo") == {})


def test_linked_directories_hidden_files_and_fifos_are_nothing(home: Home) -> None:
    name, content = wheel("foo", "1.0")
    outside = home.path / "elsewhere"
    outside.mkdir()
    (outside / name).write_bytes(content)
    (home.packages / "link").symlink_to(outside)
    (home.packages / f".{name}").write_bytes(content)
    os.mkfifo(home.packages / "bar-1.0.zip")
    name2, content2 = wheel("foo", "2.0")
    (home.packages / name2).write_bytes(content2)
    assert within(1, lambda: is_hashed(home.workers[0], "foo", name2, content2))
    assert list(files(home.workers[0], "foo")) == [name2]
    for path in (f"link/{name}", f".{name}", "bar-1.0.zip", "../htpasswd", "%2e%2e/server.json", "link/../x"):
        assert home.get(f"/packages/{path}").status == 404, path


def test_the_worker_that_watches_is_replaced_when_it_dies(home: Home) -> None:
    for number in (1, 2):
        for worker in home.workers:
            if (
                worker.process.poll() is None
                and len([w for w in home.workers if w.process.poll() is None]) > 1
            ):
                worker.kill()
                break
        name, content = wheel("foo", f"1.{number}")
        (home.packages / name).write_bytes(content)
        alive = next(worker for worker in home.workers if worker.process.poll() is None)
        assert within(3, lambda w=alive, n=name, c=content: is_hashed(w, "foo", n, c))  # type: ignore[misc]
        home.start(number)


def test_what_happened_while_no_worker_ran_is_found_out() -> None:
    with new_home() as home:
        name, content = wheel("foo", "1.0")
        (home.packages / name).write_bytes(content)
        home.start(1).kill()
        (home.packages / name).unlink()
        name, content = sdist("bar", "1.0")
        (home.packages / name).write_bytes(content)
        worker = home.start(1)
        assert within(3, lambda: is_hashed(worker, "bar", name, content))
        assert within(1, lambda: names(worker) == ["bar"])


# --- what can go wrong


@pytest.mark.parametrize("how", ["deleted", "corrupted"])
def test_a_catalogue_that_is_lost_is_made_anew(home: Home, how: str) -> None:
    made = [wheel("foo", f"1.{number}") for number in range(5)]
    for name, content in made:
        upload(home.workers[0], name, content)
    kill_catalogue(home, how)
    upload(home.workers[0], *wheel("bar", "1.0"))
    for worker in home.workers:
        assert worker.get("/simple/bar/").status == 200
        assert list(files(worker, "foo")) == [name for name, _ in made]
    for worker in home.workers:
        assert within(3, lambda w=worker: all(is_hashed(w, "foo", n, c) for n, c in made))  # type: ignore[misc]
    assert within(3, lambda: len(list((home.path / "run").glob("catalogue-*.db"))) == 1)
    for number in range(4):
        name, content = wheel("baz", f"1.{number}")
        assert upload(home.workers[number % 2], name, content).status == 200
        assert is_hashed(home.workers[(number + 1) % 2], "baz", name, content)
    assert "Traceback" not in "".join(worker.log.read_text() for worker in home.workers)


def test_a_clock_that_goes_backwards(home: Home) -> None:
    """Files from the future and from before 1970."""
    for number, when in enumerate((time.time() + 1e6, -1e6, 1e11)):
        name, content = wheel("foo", f"1.{number}")
        path = home.packages / f".{name}"
        path.write_bytes(content)
        with contextlib.suppress(OverflowError, OSError):
            os.utime(path, (when, when))
        path.rename(home.packages / name)
        assert within(1, lambda n=name, c=content: is_hashed(home.workers[0], "foo", n, c))  # type: ignore[misc]
        assert home.get(f"/packages/{name}").body == content
    times = [str(file["upload-time"]) for file in files(home.workers[1], "foo").values()]
    assert all(moment.endswith("Z") and len(moment) == 27 for moment in times)


def test_more_changes_than_the_kernel_keeps_notes_of(home: Home) -> None:
    """16,384 by default; a new file that is closed makes two or three."""
    watching = [worker.describe()["process"] for worker in home.workers]
    for process in watching:
        os.kill(process, signal.SIGSTOP)
    try:
        for number in range(9_000):
            (home.packages / f"foo-1.{number}.zip").write_bytes(b"")
    finally:
        for process in watching:
            os.kill(process, signal.SIGCONT)
    assert within(20, lambda: len(files(home.workers[0], "foo")) == 9_000)


def test_a_watcher_that_is_stopped_is_stood_in_for(home: Home) -> None:
    """By SIGSTOP, a debugger. When it goes on, one of them watches as before."""
    lock = home.path / "run" / f"watch-{store.VERSION}.lock"
    assert within(1, lambda: lock.exists() and lock.read_text() != "")
    (watching,) = [worker for worker in home.workers if str(worker.socket) == lock.read_text()]
    (other,) = [worker for worker in home.workers if worker is not watching]
    process = watching.describe()["process"]
    os.kill(process, signal.SIGSTOP)
    try:
        for version in ("1.0", "1.1"):
            name, content = wheel("foo", version)
            (home.packages / name).write_bytes(content)
            assert within(5, lambda n=name, c=content: is_hashed(other, "foo", n, c))  # type: ignore[misc]
    finally:
        os.kill(process, signal.SIGCONT)
    name, content = wheel("foo", "1.2")
    (home.packages / name).write_bytes(content)
    assert all(within(5, lambda w=worker: is_hashed(w, "foo", name, content)) for worker in home.workers)  # type: ignore[misc]
    assert lock.read_text() == str(watching.socket)
    assert "watching beside it" in other.log.read_text()
    os.kill(process, signal.SIGKILL)
    (home.packages / name).unlink()
    assert within(5, lambda: set(files(other, "foo")) == {wheel("foo", v)[0] for v in ("1.0", "1.1")})
    assert "Traceback" not in "".join(worker.log.read_text() for worker in home.workers)


def test_a_packages_directory_that_is_replaced(home: Home) -> None:
    name, content = wheel("foo", "1.0")
    (home.packages / name).write_bytes(content)
    assert within(1, lambda: is_hashed(home.workers[0], "foo", name, content))
    home.packages.rename(home.path / "old")
    time.sleep(0.5)
    home.packages.mkdir()
    name, content = wheel("bar", "1.0")
    (home.packages / name).write_bytes(content)
    assert within(5, lambda: names(home.workers[1]) == ["bar"])


def test_a_hundred_thousand_files_at_once_starve_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.access("/dev/shm", os.W_OK):
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")  # a disk would need longer than all the rest
    with new_home() as home:
        home.start(1)
        home.start(2)
        name, content = wheel("foo", "1.0")
        upload(home.workers[0], name, content)
        bulk = home.packages / "bulk"
        bulk.mkdir()
        for number in range(100_000):
            os.close(os.open(f"{bulk}/bulk{number % 500}-1.{number}.egg", os.O_WRONLY | os.O_CREAT))
            if number % 10_000 == 0:
                assert home.get("/simple/foo/").status == 200

        def is_done() -> bool:
            assert home.get("/simple/foo/").status == 200  # nobody waits for the others' hashes
            return len(names(home.workers[0])) == 501 and len(files(home.workers[1], "bulk499")) == 200

        assert within(60, is_done)
