"""ppctl.server.cache.keeping: what the cache program keeps, when the disk says no."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ppctl.server.cache.documents import Document
from ppctl.server.cache.keeping import Keeper
from ppctl.server.cache.transfer import Transfer

PAGE = Document(json=b"j" * 3000, html=b"h" * 2000, files={})


@pytest.mark.parametrize("full", [1, 2, 3, 0], ids=["first", "second", "third", "never"])
def test_a_page_for_which_there_is_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: int
) -> None:
    """The program asks for it again and again: what each time left would fill the disk once more."""
    keeper = Keeper(tmp_path, 1 << 20)
    real, count = Path.write_bytes, 0

    def write(path: Path, content: bytes) -> int:
        nonlocal count
        count += 1
        if count != full:
            return real(path, content)
        real(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write)
    if full:
        with pytest.raises(OSError, match="No space left"):
            keeper.put_page("foo", PAGE, "etag")
    else:
        keeper.put_page("foo", PAGE, "etag")
    assert list(keeper.store.temporary.iterdir()) == []
    assert keeper.bytes == sum(path.stat().st_size for path in keeper.store.pages.glob("*/*"))


def test_a_start_beside_one_that_is_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would remove has just got its name."""
    Keeper(tmp_path, 1 << 20)
    real = Path.iterdir
    monkeypatch.setattr(
        Path, "iterdir", lambda path: iter([path / "gone"]) if path.name == "tmp" else real(path)
    )
    Keeper(tmp_path, 1 << 20)


def test_a_page_that_was_fetched_before_the_clock_was_set_back_is_asked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(tmp_path, 1 << 20)
    keeper.put_page("foo", PAGE, "etag")
    assert not keeper.store.is_fresh("foo")
    keeper.set_fresh("foo", 3600.0)
    assert keeper.store.is_fresh("foo")
    now = time.time()
    for moved, is_fresh in ((1800, True), (7200, False), (-86400, False)):
        monkeypatch.setattr(time, "time", lambda then=now + moved: then)
        assert keeper.store.is_fresh("foo") == is_fresh


class Stand:
    """Stands for the other index (Source); `meanwhile` happens while a file comes from it."""

    def __init__(self, content: bytes, meanwhile: Any) -> None:
        self._content = content
        self._meanwhile = meanwhile

    @contextlib.asynccontextmanager
    async def file(self, _url: str) -> AsyncIterator[Any]:
        yield SimpleNamespace(headers={}, aiter_raw=self._blocks)

    async def _blocks(self, _size: int) -> AsyncIterator[bytes]:
        yield self._content
        self._meanwhile()


@pytest.mark.parametrize("why", ["a successor has begun", "there is no room for its directory"])
def test_a_file_that_has_come_whole_is_passed_on_also_if_it_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    content, keeper = os.urandom(300_000), Keeper(tmp_path, 1 << 20)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def meanwhile() -> None:
        if why == "a successor has begun":
            Keeper(tmp_path, 1 << 20)  # supervisord was killed; the program ends, but not before this
        else:
            monkeypatch.setattr(Path, "mkdir", full)

    async def fetch() -> bytes:
        said = {"hashes": {"sha256": hashlib.sha256(content).hexdigest()}}
        transfer = Transfer("foo.whl", "https://other/foo.whl", said, keeper)
        descriptor = transfer.reader()
        await transfer.run(Stand(content, meanwhile), "0" * 64, metadata=False)  # type: ignore[arg-type]
        found = b"".join([block async for block in transfer.blocks(descriptor)])
        os.close(descriptor)
        transfer.close()
        return found

    assert asyncio.run(fetch()) == content
    assert list(keeper.store.temporary.iterdir()) == [] and keeper.under_way == 0
