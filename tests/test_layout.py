"""The paths of a home: what the workers call their files is said in their own code, too."""

from __future__ import annotations

from pathlib import Path

from ppctl.layout import Layout
from ppctl.server import known, marks, owners, refused

HOME = Layout(Path("/srv/pypi"))


def test_files_of_the_workers_are_called_as_they_call_them() -> None:
    beside = {HOME.names: known, HOME.marks: marks, HOME.owners: owners}
    copies = {HOME.names_copy: known, HOME.marks_copy: marks, HOME.owners_copy: owners}
    assert list(beside) == [HOME.packages / module.FILE_NAME for module in beside.values()]
    assert list(copies) == [HOME.run / module.COPY_NAME for module in copies.values()]
    assert HOME.names_lost == HOME.run / known.LOST_NAME
    assert HOME.refused_logins == HOME.run / refused.FILE_NAME
