"""The application of the cache program (ASGI): `/page/NAME`, `/file/NAME/KEY/FILE` and `/status`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from ppctl.server.cache import documents
from ppctl.server.cache.keeping import Keeper
from ppctl.server.cache.source import PAUSE_SECONDS, Source, UpstreamError
from ppctl.server.cache.transfer import Transfer
from ppctl.server.downloads import METADATA_ENDING
from ppctl.server.fetched import KEY
from ppctl.server.known import ORDINARY

log = logging.getLogger("ppctl.server.cache")

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]

ABSENT_SECONDS = 60.0
_ABSENT_NAMES = 10_000


class Program:
    """Answers the workers. Everything happens in one thread, so that nothing is fetched twice at once."""

    def __init__(self, keeper: Keeper, source: Source, refresh: float, about: dict[str, Any]) -> None:
        self._keeper = keeper
        self._source = source
        self._refresh = refresh
        self._about = about
        self._pages: dict[str, asyncio.Task[None]] = {}
        self._transfers: dict[tuple[str, bool], Transfer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._absent: OrderedDict[str, float] = OrderedDict()

    async def __call__(self, scope: dict[str, Any], _receive: object, send: Send) -> None:
        """Answer one request."""
        parts = scope["raw_path"].decode("latin-1").split("/")[1:]
        try:
            if parts == ["status"]:
                await _answer(send, 200, self._status())
            elif len(parts) == 2 and parts[0] == "page" and ORDINARY.fullmatch(parts[1]):
                await self.ask_for_page(parts[1])
                await _answer(send, 200, {})
            elif len(parts) == 4 and parts[0] == "file" and ORDINARY.fullmatch(parts[1]):
                await self._file(send, parts[1], parts[2], unquote(parts[3]), scope["method"])
            else:
                await _answer(send, 404, {"error": "Not Found"})
        except UpstreamError as e:
            await _answer(send, e.status, {"error": str(e)})
        except OSError as e:
            log.exception("the cache cannot be written")
            await _answer(send, 507, {"error": f"the cache cannot be written: {e.strerror}"})

    async def ask_for_page(self, project: str) -> None:
        """Fetch a page unless there is a fresh one; who asks meanwhile waits for it as well.

        Returns when there is one that can be used, be it an old one. Raises UpstreamError.
        """
        if self._keeper.store.is_fresh(project):
            return
        task = self._pages.get(project)
        if task is None:
            task = self._pages[project] = asyncio.create_task(self._fetch_page(project))
            task.add_done_callback(lambda _: self._pages.pop(project, None))
        await asyncio.shield(task)

    async def _fetch_page(self, project: str) -> None:
        if self._absent.get(project, 0.0) > time.monotonic():
            raise UpstreamError(404, f"it is neither here nor at {self._source.url}")
        record = self._keeper.record(project)
        try:
            found = await self._source.page(project, record.get("etag", ""))
            if found:
                made = documents.convert(project, found.content, found.content_type, found.url)
                self._keeper.put_page(project, made, found.etag)
                self._keeper.make_room(0)
            self._keeper.set_fresh(project, self._refresh)
        except (UpstreamError, ValueError) as e:
            error = e if isinstance(e, UpstreamError) else UpstreamError(502, f"{self._source.url}: {e}")
            if error.status == 404:
                self._note_absent(project)
            elif record:
                log.warning("%s: %s; the page of before is used", project, error)
                self._keeper.set_fresh(project, PAUSE_SECONDS)
                return
            raise error from e

    def _note_absent(self, project: str) -> None:
        self._keeper.drop_page(project)
        self._absent[project] = time.monotonic() + ABSENT_SECONDS
        self._absent.move_to_end(project)
        if len(self._absent) > _ABSENT_NAMES:
            self._absent.popitem(last=False)

    async def _file(self, send: Send, project: str, key: str, name: str, method: str) -> None:
        said = await self._known(project, key)
        metadata = name.endswith(METADATA_ENDING)
        if metadata and not said["metadata"]:
            raise UpstreamError(404, f"there is no {name}")
        if method == "HEAD":
            # Not worth fetching it: what the page says has to do.
            await _answer(send, 200, None, said.get("size") if not metadata else None)
            return
        transfer = self._transfer(key, name, said, metadata=metadata)
        descriptor = transfer.reader()
        try:
            await transfer.begin()
            await _start(send, 200, transfer.size)
            with contextlib.suppress(UpstreamError):  # then uvicorn closes the connection: it is not complete
                async for block in transfer.blocks(descriptor):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(descriptor)

    async def _known(self, project: str, key: str) -> dict[str, Any]:
        """Return what a project's page says of the file of this key. Raises UpstreamError."""
        files = self._keeper.record(project).get("files", {})
        if key not in files and KEY.fullmatch(key):
            await self.ask_for_page(project)
            files = self._keeper.record(project).get("files", {})
        if key not in files:
            raise UpstreamError(404, "there is no such file")
        found: dict[str, Any] = files[key]
        return found

    def _transfer(self, key: str, name: str, said: dict[str, Any], *, metadata: bool) -> Transfer:
        running = self._transfers.get((key, metadata))
        if running:
            return running
        url = said["url"]
        if metadata:
            promised = said["metadata"]
            # PEP 658: at the file's URL with .metadata behind its path.
            path, question, query = url.partition("?")
            url = f"{path}{METADATA_ENDING}{question}{query}"
            said = {"hashes": promised if isinstance(promised, dict) else {}}
        transfer = self._transfers[key, metadata] = Transfer(name, url, said, self._keeper)
        task = asyncio.create_task(transfer.run(self._source, key, metadata=metadata))
        self._tasks.add(task)

        def end(_: object) -> None:
            self._tasks.discard(task)
            del self._transfers[key, metadata]
            transfer.close()

        task.add_done_callback(end)
        return transfer

    def _status(self) -> dict[str, Any]:
        return {
            **self._about,
            "bytes": self._keeper.bytes,
            "max_bytes": self._keeper.max_bytes,
            "url": self._source.url,
            "problem": self._source.problem,
        }


async def _start(
    send: Send, status: int, length: int | None, kind: bytes = b"application/octet-stream"
) -> None:
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _answer(send: Send, status: int, data: object, length: int | None = None) -> None:
    content = b"" if data is None else json.dumps(data).encode()
    await _start(send, status, length if data is None else len(content), b"application/json")
    await send({"type": "http.response.body", "body": content})
