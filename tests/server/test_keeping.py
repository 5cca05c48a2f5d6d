"""ppctl.server.cache.keeping: what the cache program keeps, when the disk says no."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ppctl.server.cache.documents import Document
from ppctl.server.cache.keeping import Keeper

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
