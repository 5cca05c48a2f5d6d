"""ppctl.server.auth: changes count at once, nothing is slow twice, nobody gets in by accident."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from ppctl.server import followed, htpasswd, refused, remembered
from ppctl.server.attempts import BY_USER_AND_ADDRESS, TooMany
from ppctl.server.auth import Origin, Users
from ppctl.server.remembered import Logins


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "htpasswd"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that were computed with."""
    calls: list[str] = []
    real = htpasswd.verify

    def verify(password: str, hash: str) -> bool:
        calls.append(hash)
        return real(password, hash)

    monkeypatch.setattr(htpasswd, "verify", verify)
    return calls


def put(file: Path, text: str) -> None:
    """Replace the file as ppctl does."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.rename(file)


def hashed(password: str) -> str:
    return htpasswd.hash_password(password, 4)


def test_who_gets_in(file: Path) -> None:
    put(file, f"a:{hashed('x')}\nb:!{hashed('x')}\n#c:{hashed('x')}\nd:\n")
    users = Users(file, file.parent)
    assert users.check("a", "x")
    for user, password in [("a", "y"), ("b", "x"), ("c", "x"), ("#c", "x"), ("d", ""), ("", ""), ("z", "x")]:
        assert not users.check(user, password)


def test_nobody_gets_in_by_the_password_of_somebody(file: Path) -> None:
    """A name of nobody is compared with somebody's hash, for the time that it takes."""
    put(file, f"a:{hashed('x')}\ndisabled:!{hashed('x')}\n")
    users = Users(file, file.parent)
    for name in ("nobody", "disabled"):
        assert not users.check(name, "x")
        assert not users.check(name, "x")


@pytest.mark.parametrize("password", ["", "x" * 73, "x\0", "\ud800", "x" * 5000])
def test_odd_passwords_are_wrong_passwords(file: Path, password: str) -> None:
    put(file, f"a:{hashed('x')}\n")
    assert not Users(file, file.parent).check("a", password)
    assert not Users(file, file.parent).check(password, password)


def test_a_change_counts_at_once(file: Path) -> None:
    users = Users(file, file.parent)
    put(file, f"a:{hashed('x')}\n")
    assert users.check("a", "x")
    put(file, f"a:{hashed('y')}\n")
    assert not users.check("a", "x")
    assert users.check("a", "y")
    was = file.read_text()
    put(file, was.replace(":", ":!"))
    assert not users.check("a", "y")
    put(file, was)
    assert users.check("a", "y")
    put(file, "")
    assert not users.check("a", "y")


def test_a_change_in_the_same_tick_of_the_clock_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is written twice within a few milliseconds may look the same before and after."""
    monkeypatch.setattr(followed, "_file_id", lambda found: (0, 0, 0, 0))
    users = Users(file, file.parent)
    put(file, f"a:{hashed('x')}\n")
    assert users.check("a", "x")
    put(file, f"a:{hashed('y')}\n")
    assert users.check("a", "y")
    assert not users.check("a", "x")


def test_a_settled_file_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(file, f"a:{hashed('x')}\n")
    real = time.time
    monkeypatch.setattr(followed.time, "time", lambda: real() + 60)
    users = Users(file, file.parent)
    assert users.check("a", "x")
    monkeypatch.setattr(htpasswd, "parse", lambda text: pytest.fail("read again"))
    assert users.check("a", "x")


@pytest.mark.parametrize("missing", [True, False])
def test_no_file_means_nobody_and_is_said_once(
    file: Path, caplog: pytest.LogCaptureFixture, missing: bool, cheap_bcrypt: None
) -> None:
    users = Users(file, file.parent)
    put(file, f"a:{hashed('x')}\n")
    assert users.check("a", "x")
    file.unlink()
    if not missing:
        file.mkdir()  # cannot be read, not even by root
    with caplog.at_level(logging.WARNING):
        assert not users.check("a", "x")
        assert not users.check("a", "x")
    assert [str(file) in record.getMessage() for record in caplog.records] == [True]
    if not missing:
        file.rmdir()
    put(file, f"a:{hashed('x')}\n")
    assert users.check("a", "x")


def test_a_verified_login_is_remembered_for_a_while(file: Path, verified: list[str]) -> None:
    clock = Clock()
    users = Users(file, file.parent, clock=clock)
    put(file, f"a:{hashed('x')}\n")
    assert users.check("a", "x")
    clock.now += remembered.REMEMBER_SECONDS - 1
    assert users.check("a", "x")
    assert len(verified) == 1
    clock.now += 2
    assert users.check("a", "x")
    assert len(verified) == 2


@pytest.mark.parametrize("user", ["a", "unknown"])
def test_the_same_wrong_login_again_is_no_guess(file: Path, verified: list[str], user: str) -> None:
    """A program with an old password asks for ever; it is no reason to slow anybody down."""
    clock = Clock()
    users = Users(file, file.parent, clock=clock)
    put(file, f"a:{hashed('x')}\n")
    for _ in range(100):
        assert not users.check(user, "y")
    assert len(verified) == 1
    assert len((file.parent / refused.FILE_NAME).read_text().splitlines()) == 1
    put(file, f"{user}:{hashed('y')}\n")
    assert users.check(user, "y")  # it counts for the password as it was
    put(file, f"a:{hashed('x')}\n")
    clock.now += 3600
    assert not users.check(user, "y")


def test_guesses_are_refused_without_a_look(file: Path, verified: list[str]) -> None:
    users = Users(file, file.parent)
    put(file, f"a:{hashed('x')}\n")
    here, there = Origin("192.0.2.1"), Origin("192.0.2.2")
    for number in range(BY_USER_AND_ADDRESS.at_once):
        assert not users.check("a", f"guess{number}", here)
    for user in ("a", "a"):
        with pytest.raises(TooMany):
            users.check(user, "x", here)
    assert len(verified) == BY_USER_AND_ADDRESS.at_once
    assert users.check("a", "x", there)
    assert users.check("a", "x", here)  # it is remembered


@pytest.mark.parametrize("user", ["unknown", "disabled"])
def test_an_unknown_name_costs_what_a_wrong_password_costs(
    file: Path, verified: list[str], user: str
) -> None:
    put(file, f"a:{hashed('x')}\nb:{hashed('x')}\ndisabled:!{hashed('x')}\nlocked:*\n")
    assert not Users(file, file.parent).check(user, "x")
    assert [hash[:7] for hash in verified] == ["$2y$04$"]
    assert htpasswd.scheme_of(verified[0]) == "bcrypt"


def test_names_of_nobody_cost_what_names_of_users_cost_where_schemes_are_mixed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name always the same, and altogether as often as users have it: measuring tells nothing."""
    stored = {f"u{number}": f"$2y$0{4 + number % 2}${'.' * 53}" for number in range(8)}
    stored |= {"sha1": "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=", "plain": "x"}
    put(file, "".join(f"{name}:{hash}\n" for name, hash in stored.items()))
    verified: list[str] = []
    monkeypatch.setattr(htpasswd, "verify", lambda password, hash: verified.append(hash))
    users = Users(file, file.parent)
    for number in range(300):
        for address in ("192.0.2.1", "192.0.2.2"):
            assert not users.check(f"nobody{number}", f"x{address}", Origin(f"{address}{number}"))
    assert verified[::2] == verified[1::2]
    kinds = Counter(hash[:7] for hash in verified[::2])
    assert set(kinds) == {hash[:7] for hash in stored.values()}
    # 4 of 10 users each; far off by chance less than once in a million runs (binomial, 300 draws).
    assert all(75 <= kinds[kind] <= 165 for kind in ("$2y$04$", "$2y$05$"))


def test_the_decoy_takes_time(file: Path) -> None:
    """bcrypt must accept it as a hash: a refused one would take no time."""
    put(file, f"a:$2y$11${'.' * 53}\n")
    started = time.perf_counter()
    assert not Users(file, file.parent).check("unknown", "x")
    assert time.perf_counter() - started > 0.02


def test_requests_that_come_together_compute_once(file: Path, verified: list[str]) -> None:
    put(file, f"a:{htpasswd.hash_password('x', 10)}\n")
    users = Users(file, file.parent)
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(users.check("a", "x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert len(verified) == 1


def test_the_memory_is_bounded_and_holds_no_password() -> None:
    logins = Logins(limit=3)
    keys = [logins.key("a", f"secret{number}", "hash") for number in range(5)]
    for key in keys:
        logins.add(key)
    assert len(logins) == 3
    assert [logins.has(key) for key in keys] == [False, False, True, True, True]
    assert "secret4" not in repr(vars(logins))


def test_different_logins_have_different_keys() -> None:
    logins = Logins()
    assert logins.key("a", "bc", "d") != logins.key("ab", "c", "d")
    assert logins.key("a", "b", "c") != logins.key("a", "b", "d")
    assert logins.key("a", "b", "c") != Logins().key("a", "b", "c")
