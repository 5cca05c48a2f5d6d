"""ppctl.server.cache.source: an index that is away is left alone for a while."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from ppctl.server.cache.source import Source, UpstreamError


def test_who_is_refused_meanwhile_leaves_nothing_behind() -> None:
    """An error that is raised once more remembers every time that it was, with all that was on the stack."""

    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there", request=request)

    async def depths() -> set[int]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(away)) as http:
            source = Source(http, "https://other.example/simple/")
            found = set()
            for number in range(10):
                with pytest.raises(UpstreamError, match="cannot be reached") as error:
                    await source.page("foo", "")
                if number:  # the first one comes from the network
                    found.add(len(error.traceback))
            return found

    assert len(asyncio.run(depths())) == 1
