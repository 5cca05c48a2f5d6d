"""One file on its way: fetched once, read along by all who want it, kept when it is what it should be."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

from ppctl.server.cache.keeping import Keeper
from ppctl.server.cache.source import Source, UpstreamError

log = logging.getLogger("ppctl.server.cache")

_BLOCK = 1 << 16
# So much is held back until the hash is known: whoever reads along gets a wrong file never completely.
_HELD_BACK = 1 << 16
_MAX_METADATA = 8 << 20


class Transfer:
    """A file that is being fetched. `said`: what its page says of it (`hashes`, `size`)."""

    def __init__(self, name: str, url: str, said: dict[str, Any], keeper: Keeper) -> None:
        self.name = name
        self.size: int | None = None
        self._url = url
        self._said = said
        self._keeper = keeper
        self._temporary = keeper.temporary()
        self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._written = 0
        self._is_complete = False
        self._error: UpstreamError | None = None
        self._has_begun = asyncio.Event()
        self._changed = asyncio.Condition()

    async def run(self, source: Source, key: str, *, metadata: bool) -> None:
        """Fetch the file, and keep it. Never raises: who reads along is told."""
        try:
            await self._fetch(source, _MAX_METADATA if metadata else None)
            self._keep(key, metadata=metadata)
            self._is_complete = True
        except UpstreamError as e:
            self._error = e
        except OSError as e:
            self._error = UpstreamError(507, f"it cannot be kept: {e.strerror}")
        except Exception as e:  # nobody would ever hear of it
            log.exception("fetching %s failed", self.name)
            self._error = UpstreamError(502, f"it cannot be fetched: {type(e).__name__}")
        if self._error:
            log.warning("%s: %s", self.name, self._error)
            self._temporary.unlink(missing_ok=True)
        self._has_begun.set()
        await self._tell()

    def _keep(self, key: str, *, metadata: bool) -> None:
        """Keep the file, which is whole: where that cannot be, those who read along get it all the same."""
        try:
            os.fchmod(self._descriptor, 0o640)
            self._keeper.put_file(self._temporary, key, metadata=metadata)
        except OSError as e:
            log.warning("%s cannot be kept: %s", self.name, e)
            self._temporary.unlink(missing_ok=True)

    async def begin(self) -> None:
        """Wait until something can be read. Raises UpstreamError."""
        await self._has_begun.wait()
        if self._error:
            raise self._error

    def reader(self) -> int:
        """Return a descriptor for `blocks`: it lasts when the file is kept, dropped, or has to make room."""
        return os.dup(self._descriptor)

    async def blocks(self, descriptor: int) -> AsyncIterator[bytes]:
        """Yield the content as it comes. Raises UpstreamError when it breaks off or is a wrong one."""
        position = 0
        while True:
            if self._error:
                raise self._error
            end = self._written if self._is_complete else self._written - _HELD_BACK
            if position < end:
                block = os.pread(descriptor, min(_BLOCK, end - position), position)
                position += len(block)
                yield block
            elif self._is_complete:
                return
            else:
                async with self._changed:
                    while not self._has_more(position):
                        await self._changed.wait()

    def close(self) -> None:
        """Give up what is open; who reads along goes on."""
        self._keeper.under_way -= self._written
        os.close(self._descriptor)

    def _has_more(self, position: int) -> bool:
        return self._is_complete or self._error is not None or self._written - _HELD_BACK > position

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _fetch(self, source: Source, limit: int | None) -> None:
        hashes = _hashes(self._said)
        async with source.file(self._url) as answer:
            length = answer.headers.get("Content-Length", "")
            self.size = int(length) if length.isascii() and length.isdigit() else None
            if self.size and self.size <= self._keeper.max_bytes // 2:
                self._keeper.make_room(self.size)
            self._has_begun.set()
            async for block in answer.aiter_raw(_BLOCK):
                self._write(block)
                for _, found in hashes:
                    found.update(block)
                if limit and self._written > limit:
                    raise UpstreamError(502, "it is too large")
                await self._tell()
        if any(found.hexdigest() != wanted for wanted, found in hashes):
            raise UpstreamError(502, f"{self._url} is not what the page promises: its hash is another one")
        await asyncio.to_thread(os.fsync, self._descriptor)

    def _write(self, block: bytes) -> None:
        left = memoryview(block)
        while left:
            count = os.write(self._descriptor, left)
            self._written += count
            self._keeper.under_way += count
            left = left[count:]


def _hashes(said: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the digests that a file must have, each with what computes it."""
    known = [(kind, value) for kind, value in said["hashes"].items() if kind in hashlib.algorithms_guaranteed]
    # Those of variable length (shake) have no digest of their own.
    return [(value, hashlib.new(kind)) for kind, value in known if not kind.startswith("shake")]
