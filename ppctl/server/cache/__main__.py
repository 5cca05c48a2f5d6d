"""Starts the cache program: `python -m ppctl.server.cache`, as `run-cache.sh` does."""

from __future__ import annotations

import asyncio
import logging
import netrc
import os
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from ppctl.server import parent, unix
from ppctl.server.cache import source
from ppctl.server.cache.config import CONFIG_NAME, CacheConfig, load
from ppctl.server.cache.keeping import Keeper
from ppctl.server.cache.program import Program
from ppctl.server.cache.source import Source
from ppctl.server.config import ConfigError
from ppctl.server.through import SOCKET

STOP_SECONDS = 30


def main() -> None:
    """Serve until told to stop."""
    parent.end_with_manager()
    logging.basicConfig(
        level=logging.INFO, format="[%(asctime)s] [%(levelname)s] %(message)s", stream=sys.stdout
    )
    # It would log every URL that is asked for.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        config = load(Path(os.environ.get("PPCTL_HOME", "/")) / CONFIG_NAME)
        asyncio.run(_serve(config))
    except (ConfigError, OSError) as e:
        sys.exit(f"error: {e}")
    except netrc.NetrcParseError as e:
        # Not the whole of it, which may hold a piece of the file.
        sys.exit(f"error: {e.filename}: cannot be understood (line {e.lineno})")


async def _serve(config: CacheConfig) -> None:
    about: dict[str, Any] = {
        "pid": os.getpid(),
        "generation": os.environ.get("PPCTL_GENERATION", ""),
        "release": os.environ.get("PPCTL_RELEASE", ""),
        "started": time.time(),
    }
    keeper = Keeper(config.directory, config.max_bytes)
    async with source.client(config.netrc) as http:
        program = Program(keeper, Source(http, config.url), config.refresh, about)
        server = uvicorn.Server(
            uvicorn.Config(
                program,
                lifespan="off",
                http="h11",
                ws="none",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        with unix.listen(config.run / SOCKET) as listening:
            logging.getLogger("ppctl.server.cache").info("fetching from %s", config.url)
            await server.serve([listening])


if __name__ == "__main__":
    main()
