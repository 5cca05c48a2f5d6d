"""Kills an upload at its first step, then at its second: `python -m tests.server.killed_uploads DIRECTORY`.

A program of its own, since it forks. For each step it prints what is there afterwards, as a line of JSON.
With `--overwrite` before the directory the upload replaces a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ppctl.server import drafts
from ppctl.server.attestations import subject_hash
from ppctl.server.catalogue import Catalogue
from ppctl.server.reconcile import Reconciler
from ppctl.server.spelling import SIDECARS
from tests.server.archives import wheel
from tests.server.faults import Steps
from tests.server.in_process import Index
from tests.server.signed import WHEEL, listed, signed_form

OLD_CONTENT = wheel("foo", "1.0", content=b"the old one")[1]


def main(directory: Path, *, overwrite: bool) -> None:
    for number in range(1, 1000):
        home = directory / str(number)
        home.mkdir()
        index = Index(home, overwrite=overwrite)
        index.get("/simple/")  # the catalogue is there
        if overwrite:
            assert index.post(*signed_form(WHEEL, OLD_CONTENT, b"old")).status == 200
        was_killed = killed_at(number, home, overwrite=overwrite)
        print(json.dumps({"killed": was_killed, **look(home, overwrite=overwrite)}), flush=True)
        if not was_killed:
            return


def killed_at(number: int, home: Path, *, overwrite: bool) -> bool:
    child = os.fork()
    if child == 0:
        steps = Steps(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        with steps.watching(statements=True):
            status = Index(home, overwrite=overwrite).post(*signed_form(signature=b"new")).status
        os._exit(0 if status == 200 else 1)
    ended = os.waitpid(child, 0)[1]
    assert ended in (0, signal.SIGKILL), ended
    return ended == signal.SIGKILL


def look(home: Path, *, overwrite: bool) -> dict[str, Any]:
    """Return what readers saw at once, what is there after the next start, and what became of a retry."""
    index = Index(home, overwrite=overwrite)
    at_once = listed(index)
    drafts.remove_leftovers(index.packages, index.run / drafts.LOCK_NAME)
    settle(index)
    names, later = index.names(), listed(index)
    file, signature, provenance = (content_of(index.packages / f"{WHEEL}{e}") for e in ("", *SIDECARS))
    retry = index.post(*signed_form(signature=b"new", hashed=True)).status
    return {
        "at once": at_once,
        "names": names,
        "later": later,
        "file": file and hashlib.sha256(file).hexdigest(),
        "signature": signature and signature.decode(),
        "attested": provenance and subject_hash(provenance),
        "retry": retry,
        "at last": index.names(),
        "listed": listed(index),
        "sha256": hashlib.sha256((index.packages / WHEEL).read_bytes()).hexdigest(),
    }


def content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def settle(index: Index) -> None:
    """Do what the watcher does at its start."""
    reconciler = Reconciler(Catalogue(index.run, index.packages))
    for _ in reconciler.check_all():
        pass
    until = time.monotonic() + 120
    while (reconciler.work(0.1) or reconciler.next_check() is not None) and time.monotonic() < until:
        time.sleep(0.01)


if __name__ == "__main__":
    main(Path(sys.argv[-1]), overwrite="--overwrite" in sys.argv)
