"""Files in a catalogue that are not on the disk: for tests of what becomes of entries."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

from ppctl.server.catalogue import Catalogue
from ppctl.server.changes import Entry


def enter(catalogue: Catalogue, entries: Sequence[Entry], gone: Sequence[str] = ()) -> None:
    """Enter files as if they were there."""
    there = {entry.path: entry.stamp for entry in entries}
    with mock.patch.object(catalogue, "_look", there.get):
        catalogue.put(entries, gone)
