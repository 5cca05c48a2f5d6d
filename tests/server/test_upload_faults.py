"""Uploads while things go wrong: killed, disk full, failing at every step, many at once."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ppctl.server.catalogue import Catalogue
from ppctl.server.drafts import Draft
from tests.effort import QUICK
from tests.server.archives import source, wheel
from tests.server.faults import Steps
from tests.server.in_process import Index
from tests.server.killed_uploads import OLD_CONTENT
from tests.server.signed import ALL, CONTENT, WHEEL, listed, signed_form
from tests.server.worker_process import Home, new_home, upload_form

CAN_MOUNT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")


def is_complete(files: list[dict[str, Any]]) -> bool:
    """Return whether the page has the file with all that belongs to it; False when it has nothing."""
    if files:
        (file,) = files
        assert file["hashes"] == {"sha256": hashlib.sha256(CONTENT).hexdigest()}
        assert {"gpg-sig", "provenance", "core-metadata"} <= set(file)
    return bool(files)


def kill_at_every_step(*arguments: str) -> list[dict[str, Any]]:
    """Return what each upload left that was killed a step later than the one before; the last one was not."""
    command = [sys.executable, "-m", "tests.server.killed_uploads", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["killed"] for found in results] == [True] * (len(results) - 1) + [False]
    return results


@pytest.mark.e2e
def test_killed_at_every_step(tmp_path: Path) -> None:
    """Whatever the step: all of it is there or nothing, nothing is left, and a retry works."""
    results = kill_at_every_step(str(tmp_path))
    assert len(results) > 25
    was_placed = False
    for found in results:
        assert found["names"] in ([], ALL)
        is_placed = found["names"] == ALL
        assert is_placed >= was_placed  # from one step on it is there
        was_placed = is_placed
        assert not is_complete(found["at once"]) or is_placed
        assert is_complete(found["later"]) is is_placed
        assert found["retry"] == 200
        assert found["at last"] == ALL
        assert is_complete(found["listed"])
        assert found["sha256"] == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.e2e
def test_killed_at_every_step_of_replacing(tmp_path: Path) -> None:
    """With `overwrite: true`: the old file or the new one, whole, never with what belongs to the other."""
    results = kill_at_every_step("--overwrite", str(tmp_path))
    assert len(results) > 30
    was_new = False
    for found in results:
        is_new = found["file"] == NEW_SHA256
        assert is_new or found["file"] == OLD_SHA256
        assert is_new >= was_new  # from one step on
        was_new = is_new
        assert found["signature"] == ("new" if is_new else "old")
        (file,) = found["later"]
        assert file["hashes"]["sha256"] == found["file"]
        assert file["provenance"] and found["attested"] == found["file"]
        assert found["names"] == ALL
        assert (found["retry"], found["at last"], found["sha256"]) == (200, ALL, NEW_SHA256)
        assert is_complete(found["listed"])


OLD_SHA256, NEW_SHA256 = (hashlib.sha256(content).hexdigest() for content in (OLD_CONTENT, CONTENT))
DISK_FULL, FAULTY = [errno.ENOSPC, errno.EDQUOT], [errno.EIO, errno.EROFS, errno.EACCES]


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS] if QUICK else DISK_FULL + FAULTY)
def test_failing_at_every_step(tmp_path: Path, code: int, overwrite: bool) -> None:
    """Removing never fails for want of room; every other step does. What was there before is there again."""
    names = ("mkdir", "open", "write", "fsync", "link", "replace")

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    for number in range(1, 100):
        home = tmp_path / str(number)
        home.mkdir()
        index = Index(home, overwrite=overwrite)
        index.get("/simple/")
        if overwrite:
            assert index.post(*signed_form(WHEEL, OLD_CONTENT)).status == 200
        before = [(name, (index.packages / name).read_bytes()) for name in index.names()]
        page = listed(index)
        steps = Steps(number, fail)
        with steps.watching(names):
            status = index.post(*signed_form()).status
        if steps.count < number:
            assert status == 200
            break
        assert status == (507 if code in DISK_FULL else 503)
        assert [(name, (index.packages / name).read_bytes()) for name in index.names()] == before
        assert listed(index) == page
        assert index.post(*signed_form()).status == 200
        assert index.names() == ALL
    assert number > 12


def test_what_has_arrived_is_deleted(tmp_path: Path) -> None:
    """By an `rsync --delete` of all packages, perhaps."""
    index = Index(tmp_path)
    write = Draft.write

    def swept(draft: Draft, block: bytes) -> None:
        write(draft, block)
        for path in index.packages.glob(".ppctl-upload-*"):
            shutil.rmtree(path)

    with mock.patch.object(Draft, "write", swept):
        said = index.post(*signed_form())
    assert (said.status, "try again" in said.reason) == (503, True)
    assert (index.names(), listed(index)) == ([], [])
    assert index.post(*signed_form()).status == 200


def test_a_catalogue_that_cannot_be_written(tmp_path: Path) -> None:

    index = Index(tmp_path)
    with mock.patch.object(
        Catalogue, "put", side_effect=sqlite3.OperationalError("database or disk is full")
    ):
        assert index.post(*signed_form()).status == 507
    assert (index.names(), listed(index)) == ([], [])
    assert index.post(*signed_form()).status == 200


def test_a_catalogue_that_cannot_be_written_when_a_file_is_replaced(tmp_path: Path) -> None:
    index = Index(tmp_path, overwrite=True)
    assert index.post(*signed_form(WHEEL, OLD_CONTENT, b"old")).status == 200
    page = listed(index)
    with mock.patch.object(Catalogue, "put", side_effect=sqlite3.OperationalError("disk I/O error")):
        assert index.post(*signed_form()).status == 503
    assert (index.names(), listed(index)) == (ALL, page)
    assert (index.packages / WHEEL).read_bytes() == OLD_CONTENT
    assert (index.packages / f"{WHEEL}.asc").read_bytes() == b"old"
    assert index.post(*signed_form()).status == 200
    assert (index.packages / WHEEL).read_bytes() == CONTENT


def test_a_packages_directory_that_is_away(tmp_path: Path) -> None:
    """A disk that is not mounted just now."""
    index = Index(tmp_path)
    assert index.post(*signed_form()).status == 200
    index.packages.rename(tmp_path / "away")
    said = index.upload(*wheel("foo", "2.0"))
    assert (said.status, said.text) == (503, "The server's disk does not work\n")
    (tmp_path / "away").rename(index.packages)
    assert index.upload(*wheel("foo", "2.0")).status == 200


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """Mount a file system of this size in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@CAN_MOUNT
@pytest.mark.e2e
def test_a_full_disk() -> None:
    with new_home() as home, small_disk(home.packages, "3m"):
        home.start()
        name, content = wheel("foo", "1.0", content=os.urandom(4 << 20))
        said = home.upload(name, content)
        assert (said.status, said.text) == (507, "No space left on the server\n")
        assert home.stored() == []
        assert home.get("/simple/foo/").status == 404
        name, content = wheel("foo", "1.0", content=os.urandom(1 << 20))
        assert home.upload(name, content).status == 200
        assert home.get(f"/packages/{name}").body == content
        assert home.upload(*wheel("foo", "1.1", content=os.urandom(4 << 20))).status == 507
        assert home.stored() == [name]


@CAN_MOUNT
@pytest.mark.e2e
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "replacing"])
def test_a_disk_that_becomes_read_only(overwrite: bool) -> None:
    """As kernels do after an error: reads go on, who wants to change something is told, nothing is lost."""
    name = WHEEL if overwrite else "foo-1.1-py3-none-any.whl"
    content = CONTENT if overwrite else wheel("foo", "1.1")[1]
    removal = ("application/x-www-form-urlencoded", b":action=remove_pkg&name=foo&version=1.0")
    with new_home(overwrite=overwrite) as home, small_disk(home.packages, "3m"):
        worker = home.start()
        assert home.upload(WHEEL, OLD_CONTENT).status == 200
        subprocess.run(["mount", "-o", "remount,ro", str(home.packages)], check=True)
        says = "The server's disk is read-only: nothing can be stored or removed"
        for content_type, body in (upload_form(name, content), removal):
            said = home.request("POST", "/", body, {"Content-Type": content_type})
            assert (said.status, said.reason, said.text) == (503, says, f"{says}\n")
        assert home.stored() == [WHEEL]
        assert home.get(f"/packages/{WHEEL}").body == OLD_CONTENT
        assert home.get("/simple/foo/").text.count("<a ") == 1
        log = worker.log.read_text()
        assert log.count("disk is read-only") == 2 and "Traceback" not in log
        subprocess.run(["mount", "-o", "remount,rw", str(home.packages)], check=True)
        assert home.upload(name, content).status == 200
        assert home.get(f"/packages/{name}").body == content
        assert home.request("POST", "/", removal[1], {"Content-Type": removal[0]}).status == 200


@CAN_MOUNT
def test_a_full_disk_under_the_catalogue(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with small_disk(run, "400k"):
        index = Index(tmp_path)
        index.get("/simple/")
        filler = run / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"x" * 4096)
        assert index.post(*signed_form()).status == 507
        assert index.names() == []
        filler.unlink()
        assert index.post(*signed_form()).status == 200
        assert index.names() == ALL


# --- many at once


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Home]:
    with new_home() as home:
        home.start(1)
        home.start(2)
        yield home


def at_once(count: int, work: Callable[[int], int]) -> list[int]:
    """Return what `work` returns for each number, all called at the same time."""
    start = threading.Barrier(count)

    def one(number: int) -> int:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.e2e
def test_fifty_files_at_once(two_workers: Home) -> None:
    files = [wheel(f"many-{number}", "1.0", content=os.urandom(200_000)) for number in range(50)]
    assert at_once(50, lambda number: two_workers.upload(*files[number]).status) == [200] * 50
    for worker in two_workers.workers:
        page = worker.get("/packages/").text
        assert all(f">{name}</a>" in page for name, _ in files)
    for name, content in files:
        assert two_workers.get(f"/packages/{name}").body == content
    assert not [name for name in two_workers.stored() if name.startswith(".")]


@pytest.mark.e2e
def test_fifty_of_one_name_at_once(two_workers: Home) -> None:
    """One wins, and what is beside the file is what came with it."""
    contents = [wheel("foo", "1.0", content=b"%d" % number * 10_000)[1] for number in range(50)]

    def upload(number: int) -> int:
        signature = b"of %d" % number
        content = contents[number]
        form = signed_form(WHEEL, content, signature) if number % 2 else upload_form(WHEEL, content)
        return two_workers.request("POST", "/", form[1], {"Content-Type": form[0]}).status

    statuses = at_once(50, upload)
    assert sorted(statuses) == [200] + [409] * 49
    winner = statuses.index(200)
    assert two_workers.get(f"/packages/{WHEEL}").body == contents[winner]
    signature = two_workers.get(f"/packages/{WHEEL}.asc")
    if winner % 2:
        assert signature.body == b"of %d" % winner
    else:
        assert signature.status == 404
    page = two_workers.get("/simple/foo/").text
    assert ("data-gpg-sig" in page, "data-provenance" in page) == (bool(winner % 2), bool(winner % 2))
    assert not [name for name in two_workers.stored() if name.startswith(".")]


# --- memory


def peak(pid: int) -> int:
    """Return the most memory that a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


@pytest.mark.e2e
@pytest.mark.parametrize("field", ["content", "description"])
def test_a_huge_body_takes_little_memory(two_workers: Home, field: str) -> None:
    size = 150 << 20
    content_type, body = upload_form(f"large-{len(field)}.0.tar.gz", source())
    head, end = body[: -len(b"\r\n--b0undary--\r\n")], b"\r\n--b0undary--\r\n"
    if field != "content":
        head += f'\r\n--b0undary\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'.encode()

    def blocks() -> Iterator[bytes]:
        yield head
        for _ in range(size >> 20):
            yield b"\0" * (1 << 20)
        yield end

    processes = [worker.describe()["process"] for worker in two_workers.workers]
    before = [peak(pid) for pid in processes]
    connection = http.client.HTTPConnection("127.0.0.1", two_workers.port, timeout=120)
    length = str(len(head) + size + len(end))
    connection.request("POST", "/", blocks(), {"Content-Type": content_type, "Content-Length": length})
    status = connection.getresponse().status
    connection.close()
    assert status == (200 if field == "content" else 413)
    grown = [peak(pid) - was for pid, was in zip(processes, before, strict=True)]
    assert max(grown) < 32 << 20
