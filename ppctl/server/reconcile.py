"""Bringing the catalogue in line with the disk: what has come, gone or changed by hand.

For one thread, that of the watching worker (see ppctl.server.watch).
"""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from ppctl.server import names, scan
from ppctl.server.catalogue import Catalogue
from ppctl.server.changes import Entry
from ppctl.server.digest import Examination, examine
from ppctl.server.later import Later
from ppctl.server.scan import Stamp

log = logging.getLogger("ppctl.server.watch")

T = TypeVar("T")

LARGE = 8 << 20
"""A file from this size on is read in steps, when no smaller one is waiting."""

SETTLED_SECONDS = 0.5
"""A file that is found without a note from the kernel may still be being written for so long."""

SECOND_LOOK_SECONDS = 5.0
"""Without notes from the kernel, a file is looked at again so long after it was found, then ever later."""

_SECOND_LOOKS = 4
"""At 5, 20, 65 and 200 seconds: the next look at everything is due after five minutes."""

_RECENT_SECONDS = 60.0
"""Without notes, a known file that was written so shortly ago is looked at again: it may not be complete."""

_STEP = 16 << 20
_BATCH = 64
_PIECE = 500


class Reconciler:
    """What is known to be different, and the work that is left."""

    def __init__(self, catalogue: Catalogue, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalogue = catalogue
        self._root = catalogue.packages
        self._clock = clock
        self._small: OrderedDict[str, None] = OrderedDict()
        self._large: OrderedDict[str, None] = OrderedDict()
        self._unsettled = Later(SETTLED_SECONDS, clock)
        self._second_looks = [Later(SECOND_LOOK_SECONDS * 3**n, clock) for n in range(_SECOND_LOOKS)]
        self._unreadable: set[str] = set()
        self._reading: Examination | None = None
        self._without_hash = True
        self.has_notes = True

    def check(self, paths: Iterable[str], changed: Iterable[str] = ()) -> None:
        """Compare files with the catalogue. Those in `changed` are read in any case."""
        entries: list[Entry] = []
        gone: list[str] = []
        forced = set(changed)
        for path in {**dict.fromkeys(paths), **dict.fromkeys(forced)}:
            if names.parse(path) is None:
                continue
            found = scan.look(self._root / path)
            if found is None:
                gone.append(path)
            elif path in forced or not self._is_known(path, found, entries):
                self._queue(path, found)
        # First what has come: of a file that has been moved, the hash is still known.
        if entries:
            self._catalogue.put(entries)
        if gone:
            self._forget(gone)

    def check_directory(self, directory: str, *, quick: bool = False) -> Iterator[None]:
        """Compare a directory, without those in it, with the catalogue; yields where there may be a pause.

        `quick` looks for names that have come or gone only.
        """
        before, _ = self._catalogue.last_changes()
        count = 0
        new: list[str] = []
        try:
            for piece in _in_pieces(scan.files(self._root, directory)):
                there = {scan.join(directory, name): entry for name, entry in piece}
                known = self._catalogue.stamps(there)
                count += len(known)
                for path, entry in there.items():
                    stamp = known.get(path)
                    if stamp is None or (not quick and _differs(entry, stamp)):
                        new.append(path)
                    elif not quick and not self.has_notes and _is_recent(stamp):
                        self._second_looks[0].add(path)
                yield
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as e:
            log.warning("%s cannot be read: %s", directory or ".", e)
            return
        if new and self._is_away():
            return
        self._check_settled(new)
        # All of the known ones are there, unless somebody has changed something meanwhile.
        if (self._catalogue.count_in(directory), self._catalogue.last_changes()[0]) != (count, before):
            yield from self._check_gone(directory)

    def _check_gone(self, directory: str) -> Iterator[None]:
        for paths in self._catalogue.paths_in(directory, _PIECE):
            gone = [path for path in paths if scan.look(self._root / path) is None]
            if gone and self._is_away():
                return
            self.check(gone)
            yield

    def check_all(self) -> Iterator[None]:
        """Compare everything; yields where there may be a pause."""
        seen = set()
        for directory in scan.directories(self._root):
            seen.add(directory)
            yield from self.check_directory(directory)
        for directory in self._catalogue.directories():
            if directory not in seen:
                yield from self.check_directory(directory)
        self._without_hash = True

    def work(self, seconds: float) -> bool:
        """Read waiting files for about so long. Returns whether more are waiting now."""
        until = self._clock() + seconds
        self._check_later()
        entries: list[Entry] = []
        while self._small and self._clock() < until and len(entries) < _BATCH:
            path, _ = self._small.popitem(last=False)
            entry = self._examine(path)
            if entry:
                entries.append(entry)
        if not self._small and self._clock() < until:
            entries += self._read_large()
        if entries:
            self._catalogue.put(entries)
        if not self._small and not self._large and not self._reading and self._without_hash:
            self._take_without_hash()
        return bool(self._small or self._large or self._reading)

    def has_seen(self, path: str) -> bool:
        """Return whether a file is in the catalogue, or would be if it could be read."""
        return path in self._unreadable or self._catalogue.file(path) is not None

    def next_check(self) -> float | None:
        """Return in how many seconds a file wants to be looked at again; None for none."""
        every = (self._unsettled, *self._second_looks)
        times = [found for later in every if (found := later.next()) is not None]
        return min(times) if times else None

    def close(self) -> None:
        """Give up what is being read."""
        if self._reading:
            self._reading.close()
        self._reading = None

    def _is_away(self) -> bool:
        """Return whether all has gone, but hardly for good: a directory that is moved, a disk not mounted.

        In what is empty not even that is which the server keeps beside the packages (ppctl.server.known).
        """
        try:
            with os.scandir(self._root) as entries:
                return next(entries, None) is None
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # whoever reads it tells of it

    def _is_known(self, path: str, found: Stamp, entries: list[Entry]) -> bool:
        """Return whether the hash of a file is known, perhaps under another name."""
        file = self._catalogue.file(path)
        if file and file.sha256 and file.stamp == found:
            return True
        same = self._catalogue.same_content(found)
        if same and not file:
            entries.append(replace(same, path=path))
            return True
        return False

    def _queue(self, path: str, found: Stamp) -> None:
        self._unreadable.discard(path)
        self._unsettled.drop(path)
        if not self.has_notes:
            self._second_looks[0].add(path)  # nobody will tell when its writer has finished
        (self._large if found.size >= LARGE else self._small)[path] = None

    def _check_settled(self, paths: Iterable[str]) -> None:
        """Check files, but those that were written a moment ago only later: perhaps they are not complete."""
        now = time.time()
        settled = []
        for path in paths:
            found = scan.look(self._root / path)
            is_fresh = found and abs(now - found.mtime_ns / 1e9) < SETTLED_SECONDS
            if found and is_fresh and not self._catalogue.same_content(found):
                self._unsettled.add(path)
            else:
                settled.append(path)
        self.check(settled)

    def _check_later(self) -> None:
        due = self._unsettled.take_due()
        for number, looks in enumerate(self._second_looks, start=1):
            again = looks.take_due()
            due += again
            for path in again:
                if number < _SECOND_LOOKS and not self.has_notes:
                    self._second_looks[number].add(path)
        if due:
            self._check_settled(due)

    def _examine(self, path: str) -> Entry | None:
        try:
            entry = examine(self._root, path)
        except OSError as e:
            self._not_readable(path, e)
            return None
        if entry is None:
            self._unsettled.add(path)
        return entry

    def _read_large(self) -> list[Entry]:
        if self._reading is None and not self._large:
            return []
        path = self._reading.path if self._reading else self._large.popitem(last=False)[0]
        try:
            self._reading = self._reading or Examination(self._root, path)
            if not self._reading.read(_STEP):
                return []
            entry = self._reading.finish()
        except OSError as e:
            self.close()
            self._not_readable(path, e)
            return []
        self._reading = None
        if entry is None:
            self._unsettled.add(path)
        return [entry] if entry else []

    def _not_readable(self, path: str, error: OSError) -> None:
        if scan.look(self._root / path) is None:
            self._forget([path])
            return
        log.warning("%s cannot be read: %s", path, error)
        self._unreadable.add(path)

    def _take_without_hash(self) -> None:
        """Queue files that a new catalogue knows by their names only."""
        found = self._catalogue.without_hash(_BATCH + len(self._unreadable))
        found = [path for path in found if path not in self._unreadable]
        self._without_hash = bool(found)
        for path in found:
            stamp = scan.look(self._root / path)
            if stamp:
                self._queue(path, stamp)
            else:
                self._forget([path])

    def _forget(self, paths: list[str]) -> None:
        for path in paths:
            self._small.pop(path, None)
            self._large.pop(path, None)
            self._unreadable.discard(path)
        for start in range(0, len(paths), _BATCH):
            self._catalogue.put((), paths[start : start + _BATCH])


def _is_recent(stamp: Stamp) -> bool:
    return abs(time.time() - stamp.mtime_ns / 1e9) < _RECENT_SECONDS


def _differs(entry: os.DirEntry[str], known: Stamp) -> bool:
    with suppress(OSError):
        return scan.stamp(entry.stat()) != known
    return True


def _in_pieces(found: Iterable[T]) -> Iterator[list[T]]:
    """Yield what is found, a piece at a time: all of a large directory would take much memory."""
    left = iter(found)
    while piece := list(islice(left, _PIECE)):
        yield piece
