"""ppctl.server.reconcile: a directory and the catalogue are compared a piece at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from ppctl.server import reconcile
from ppctl.server.catalogue import Catalogue
from ppctl.server.reconcile import Reconciler

NAMES = [f"foo-{number}.0.zip" for number in range(20)]


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_PIECE", 3)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    for name in ("packages", "packages/sub", "run"):
        (tmp_path / name).mkdir()
    for name in (*NAMES, "sub/bar-1.0.zip"):
        write(tmp_path / "packages" / name, b"1")
    made = Catalogue(tmp_path / "run", tmp_path / "packages")
    made.open()
    assert made.count() == len(NAMES) + 1
    return made


@pytest.fixture
def reconciler(catalogue: Catalogue) -> Reconciler:
    return Reconciler(catalogue)


def write(path: Path, content: bytes) -> None:
    """Write a file that has settled."""
    path.write_bytes(content)
    os.utime(path, (1_600_000_000, 1_600_000_000 + len(content)))


def look(reconciler: Reconciler, *, quick: bool = False) -> None:
    for _ in reconciler.check_directory("", quick=quick):
        pass
    while reconciler.work(1.0):
        pass


def found(catalogue: Catalogue) -> dict[str, int]:
    return {file.path: file.size for file in catalogue.files("foo")}


@pytest.mark.parametrize("quick", [False, True])
def test_what_has_come_gone_or_changed(catalogue: Catalogue, reconciler: Reconciler, quick: bool) -> None:
    for name in (NAMES[0], NAMES[9], NAMES[19]):
        (catalogue.packages / name).unlink()
    for name in ("foo-98.0.zip", "foo-99.0.zip"):
        write(catalogue.packages / name, b"22")
    write(catalogue.packages / NAMES[5], b"333")
    look(reconciler, quick=quick)
    expected = dict.fromkeys([*NAMES[1:9], *NAMES[10:19]], 1) | dict.fromkeys(
        ["foo-98.0.zip", "foo-99.0.zip"], 2
    )
    assert found(catalogue) == expected | ({} if quick else {NAMES[5]: 3})
    assert catalogue.projects() == ["bar", "foo"], "another directory's"


def test_what_has_become_a_directory_is_gone(catalogue: Catalogue, reconciler: Reconciler) -> None:
    (catalogue.packages / NAMES[3]).unlink()
    (catalogue.packages / NAMES[3]).mkdir()
    look(reconciler, quick=True)
    assert sorted(found(catalogue)) == sorted(set(NAMES) - {NAMES[3]})


def test_where_nothing_is_missing_nobody_looks_for_it(catalogue: Catalogue, reconciler: Reconciler) -> None:
    with mock.patch.object(Catalogue, "paths_in", side_effect=AssertionError):
        look(reconciler)
        write(catalogue.packages / "foo-99.0.zip", b"22")
        look(reconciler)
    assert len(found(catalogue)) == len(NAMES) + 1


def test_nobody_asks_for_all_of_a_directory_at_once(catalogue: Catalogue, reconciler: Reconciler) -> None:
    """All that is known of 50,000 files would take much memory, which pages then keep in use."""
    with mock.patch.object(catalogue, "_all", side_effect=catalogue._all) as asked:
        (catalogue.packages / NAMES[3]).unlink()
        look(reconciler)
    assert max(len(call.args) for call in asked.call_args_list) == 1 + 3
    assert len(found(catalogue)) == len(NAMES) - 1


def test_a_file_that_goes_during_the_look_hides_no_other_one(
    catalogue: Catalogue, reconciler: Reconciler
) -> None:
    """As many have been seen as are known in the end: one that was seen has been removed meanwhile."""
    seen: list[str] = []

    def stamps(paths: list[str]) -> dict[str, object]:
        seen.extend(paths)
        return dict(real(paths))

    real = catalogue.stamps
    (catalogue.packages / NAMES[4]).unlink()
    with mock.patch.object(catalogue, "stamps", stamps):
        looking = reconciler.check_directory("")
        next(looking)
        removed = next(path for path in seen if path in NAMES)
        (catalogue.packages / removed).unlink()
        catalogue.remove([removed])
        for _ in looking:
            pass
    assert sorted(found(catalogue)) == sorted(set(NAMES) - {NAMES[4], removed})


def test_packages_that_go_away_during_the_look_are_kept(catalogue: Catalogue, reconciler: Reconciler) -> None:
    looking: Iterator[None] = reconciler.check_directory("")
    next(looking)
    catalogue.packages.rename(catalogue.packages.with_name("elsewhere"))
    for _ in looking:
        pass
    assert len(found(catalogue)) == len(NAMES)
    catalogue.packages.mkdir()
    look(reconciler)
    assert len(found(catalogue)) == len(NAMES)
