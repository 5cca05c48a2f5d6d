"""ppctl.server.attempts: who guesses is slowed down, nobody else, and the memory is bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server import attempts
from ppctl.server.attempts import BY_ADDRESS, BY_USER_AND_ADDRESS, LIMIT, Attempts, TooMany

HERE, THERE = "192.0.2.1", "198.51.100.1"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fails(made: Attempts, user: str, address: str, most: int = 1000) -> int:
    """Return how many wrong logins in a row are looked at, `most` at most."""
    for count in range(most):
        try:
            made.begin(user, address)
        except TooMany as e:
            assert e.seconds > 0
            return count
    return most


def test_a_user_at_an_address_is_slowed_down() -> None:
    clock = Clock()
    made = Attempts(clock=clock)
    assert fails(made, "ann", HERE) == BY_USER_AND_ADDRESS.at_once
    with pytest.raises(TooMany) as refused:
        made.begin("ann", HERE)
    clock.now += refused.value.seconds
    assert fails(made, "ann", HERE) == 1
    clock.now += 3600
    assert fails(made, "ann", HERE) == BY_USER_AND_ADDRESS.at_once


def test_nobody_is_locked_out_from_elsewhere() -> None:
    made = Attempts(clock=Clock())
    for number in range(200):
        fails(made, "ann", f"10.0.0.{number}")
    assert fails(made, "ann", HERE) == BY_USER_AND_ADDRESS.at_once


def test_an_address_that_tries_many_names_is_slowed_down() -> None:
    made = Attempts(clock=Clock())
    assert sum(fails(made, f"user{number}", HERE, 1) for number in range(100)) == BY_ADDRESS.at_once
    assert fails(made, "other", THERE, 1) == 1


def test_who_has_got_in_from_there_is_not_held_up_by_a_neighbour() -> None:
    made = Attempts(clock=Clock())
    made.begin("ann", HERE)
    made.succeeded("ann", HERE)
    for number in range(100):
        fails(made, f"user{number}", HERE, 1)
    assert fails(made, "bob", HERE, 1) == 0
    assert fails(made, "ann", HERE) == BY_USER_AND_ADDRESS.at_once  # ann's own mistakes count
    assert made.is_known("ann", HERE) and not made.is_known("ann", THERE)


def test_one_program_with_an_old_password_leaves_room_for_its_neighbours() -> None:
    clock = Clock()
    made = Attempts(clock=clock)
    for second in range(600):
        clock.now += 1
        fails(made, "old-cron", HERE, 5)
        made.begin(f"user{second}", HERE)
        made.succeeded(f"user{second}", HERE)


def test_a_right_login_gives_back_what_it_took() -> None:
    made = Attempts(clock=Clock())
    for number in range(1000):
        made.begin(f"user{number}", HERE)
        made.succeeded(f"user{number}", HERE)
    fails(made, "ann", HERE, BY_USER_AND_ADDRESS.at_once - 1)
    made.begin("ann", HERE)
    made.succeeded("ann", HERE)
    assert fails(made, "ann", HERE) == BY_USER_AND_ADDRESS.at_once


def test_all_that_are_under_way_count() -> None:
    """Many at once are no way around: each is counted before it is looked at."""
    made = Attempts(clock=Clock())
    assert fails(made, "ann", HERE, 8) == 8  # none of them has been answered yet
    assert fails(made, "ann", HERE) == BY_USER_AND_ADDRESS.at_once - 8


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
        ("fe80::1%eth0", "fe80::/64"),
        ("a:b", "a:b"),
    ],
)
def test_a_client_of_ipv6_has_a_network(address: str, client: str) -> None:
    assert attempts.network_of(address) == client


@given(
    st.lists(
        st.tuples(st.text(max_size=400), st.sampled_from([HERE, THERE, "::1", "x"]), st.booleans()),
        max_size=200,
    )
)
def test_the_memory_is_bounded(logins: list[tuple[str, str, bool]]) -> None:
    clock = Clock()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        made = Attempts(path, clock=clock, limit=8)
        size = path.stat().st_size
        for user, address, is_right in logins:
            clock.now += 10
            made.begin(user, address)
            if is_right:
                made.succeeded(user, address)
            assert len(made._known) <= 8
        assert path.stat().st_size == size < 1000
    assert LIMIT <= 1 << 13


# --- all workers together


def test_what_was_counted_before_the_machine_restarted_holds_up_nobody(tmp_path: Path) -> None:
    """The monotonic clock begins anew then. Nor does it fill the table for ever."""
    clock = Clock()
    clock.now = 5_000_000.0
    before = Attempts(tmp_path / "table", clock=clock, limit=64)
    for number in range(250):
        fails(before, f"user{number}", f"10.0.0.{number}", 1)
    made = Attempts(tmp_path / "table", clock=Clock(), limit=64)
    for number in range(10):
        assert fails(made, f"user{number}", THERE, 1) == 1
    for user, address in (("ann", HERE), ("bob", "192.0.2.2"), ("eve", "192.0.2.3")):
        assert fails(made, user, address) == BY_USER_AND_ADDRESS.at_once


def test_workers_count_together(tmp_path: Path) -> None:
    workers = [Attempts(tmp_path / "table", clock=Clock()) for _ in range(4)]
    tries = 0
    for number in range(100):
        tries += fails(workers[number % 4], "ann", HERE, 1)
    assert tries == BY_USER_AND_ADDRESS.at_once
    workers[0].begin("ann", THERE)
    workers[0].succeeded("ann", THERE)
    assert fails(workers[1], "ann", THERE) == BY_USER_AND_ADDRESS.at_once


GUESS = """
import sys
from pathlib import Path
from ppctl.server.attempts import Attempts, TooMany
made, tries = Attempts(Path(sys.argv[1]), clock=lambda: 1000.0), 0
print("ready", flush=True)
sys.stdin.readline()
for number in range(1000):
    try:
        made.begin("ann", f"192.0.2.{number % 50}")
        tries += 1
    except TooMany:
        pass
print(tries)
"""


def test_many_processes_at_once_count_each_try_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", GUESS, str(tmp_path / "table")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for each in running:
        assert each.stdout.readline() == "ready\n"
    for each in running:
        each.stdin.write("go\n")
        each.stdin.flush()
    assert sum(int(each.communicate()[0]) for each in running) == 50 * BY_USER_AND_ADDRESS.at_once


@pytest.mark.parametrize("harm", ["remove", "cut", "empty", "garbage", "link", "no directory"])
def test_a_table_that_is_harmed_stops_nobody(
    tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted may be lost; counting goes on."""
    path = tmp_path / "run" / "table"
    if harm != "no directory":
        path.parent.mkdir()
    if harm == "link":
        path.symlink_to(tmp_path / "elsewhere")
    made = Attempts(path, clock=Clock())
    assert fails(made, "ann", HERE) == BY_USER_AND_ADDRESS.at_once
    if harm == "remove":
        path.unlink()
    elif harm in ("cut", "empty"):
        os.truncate(path, 100 if harm == "cut" else 0)
    elif harm == "garbage":
        path.write_bytes(os.urandom(path.stat().st_size))
    for each in (made, Attempts(path, clock=Clock())):
        assert fails(each, "bob", THERE) <= BY_USER_AND_ADDRESS.at_once
        assert fails(each, "bob", THERE) == 0
    assert not (tmp_path / "elsewhere").exists()
