"""Logins at real workers: cheap for who is right, slow for who guesses, and a hindrance to nobody else."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ppctl.server import htpasswd
from ppctl.server.attempts import BY_ADDRESS, BY_USER_AND_ADDRESS
from ppctl.server.hashing import MOST_STRANGERS
from ppctl.server.refused import FILE_NAME
from tests.server.patience import within
from tests.server.worker_process import Answer, Home, basic_auth, new_home

pytestmark = pytest.mark.e2e

PASSWORD = "a-good-password"
CHEAP = htpasswd.hash_password(PASSWORD, 4)
SLOW = "$2y$12$" + "." * 53  # a quarter of a second each, or more: as long as there is a file `wait`
WAITING = """
import os, time
from pathlib import Path
from ppctl.server import htpasswd
def verify(password, hash, usual=htpasswd.verify):
    home = Path(os.environ["PPCTL_HOME"])
    while hash.startswith("$2y$12$.") and (home / "wait").exists():
        (home / "waiting").touch()
        time.sleep(0.01)
    return usual(password, hash)
htpasswd.verify = verify
"""
# With them no guess is due again in a test that takes its time.
FOR_EVER = """
from ppctl.server import attempts
attempts.BY_USER_AND_ADDRESS, attempts.BY_ADDRESS = (
    rate._replace(seconds=1e6) for rate in (attempts.BY_USER_AND_ADDRESS, attempts.BY_ADDRESS)
)
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with new_home(login=["list", "upload"], threads=2, changes=FOR_EVER) as home:
        home.htpasswd.write_text(f"ann:{CHEAP}\nbob:{CHEAP}\n")
        (home.packages / "foo-1.0.zip").write_bytes(b"content")
        home.start()
        yield home


@pytest.fixture(scope="module")
def slow() -> Iterator[Home]:
    """An index where a hash takes long; but for `ann`."""
    with new_home(login=["list"], threads=2, changes=WAITING) as home:
        others = "".join(f"slow{number}:{SLOW}\n" for number in range(60))
        home.htpasswd.write_text(f"ann:{CHEAP}\neve:{htpasswd.hash_password('x', 12)}\n{others}")
        (home.packages / "foo-1.0.zip").write_bytes(b"content")
        home.start()
        yield home


@contextlib.contextmanager
def hashes_wait(home: Home) -> Iterator[None]:
    """Let no slow hash be done meanwhile."""
    (home.path / "waiting").unlink(missing_ok=True)
    (home.path / "wait").touch()
    try:
        yield
    finally:
        (home.path / "wait").unlink()


def get(home: Home, login: tuple[str, str], address: str) -> Answer:
    return home.get("/simple/foo/", login=login, headers={"X-Forwarded-For": address})


def test_who_guesses_is_slowed_down_and_nobody_else(home: Home) -> None:
    assert get(home, ("ann", PASSWORD), "192.0.2.1").status == 200
    guesses = [get(home, ("ann", f"guess{n}"), "192.0.2.66") for n in range(BY_USER_AND_ADDRESS.at_once + 3)]
    assert [each.status for each in guesses] == [401] * BY_USER_AND_ADDRESS.at_once + [429] * 3
    assert 1 <= int(guesses[-1].headers["Retry-After"]) <= 1e6
    assert guesses[-1].reason == "Too many wrong logins"
    assert "WWW-Authenticate" not in guesses[-1].headers  # no browser asks for another guess
    # The owner of the account, from an old and from a new address; a remembered login passes in any case.
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.66"):
        assert get(home, ("ann", PASSWORD), address).status == 200
    upload = home.upload(
        "foo-2.0.zip", b"x", login=("bob", "guess"), headers={"X-Forwarded-For": "192.0.2.9"}
    )
    assert upload.status == 401
    assert home.get("/packages/foo-1.0.zip").status == 200


def test_an_address_that_tries_many_names_is_slowed_down(home: Home) -> None:
    names = [f"name{number}" for number in range(BY_ADDRESS.at_once + 5)]
    answers = [get(home, (name, "x"), "192.0.2.77").status for name in names]
    assert answers == [401] * BY_ADDRESS.at_once + [429] * 5
    header = {"X-Forwarded-For": "192.0.2.77"}
    uploads = [home.upload("foo-3.0.zip", b"x", login=(name, "y"), headers=header).status for name in names]
    assert set(uploads) <= {401, 429} and 429 in uploads


def test_more_workers_are_no_more_guesses() -> None:
    with new_home(login=["list"], changes=FOR_EVER) as home:
        home.htpasswd.write_text(f"ann:{CHEAP}\n")
        (home.packages / "foo-1.0.zip").write_bytes(b"content")
        workers = [home.start(number) for number in (1, 2, 3)]
        statuses = []
        for number in range(3 * BY_USER_AND_ADDRESS.at_once):
            login = {"Authorization": basic_auth("ann", f"guess{number}"), "X-Forwarded-For": "192.0.2.66"}
            statuses.append(workers[number % 3].request("GET", "/simple/", headers=login).status)
        count = BY_USER_AND_ADDRESS.at_once
        assert statuses == [401] * count + [429] * (len(statuses) - count)
        assert get(home, ("ann", PASSWORD), "192.0.2.1").status == 200


def test_a_program_with_an_old_password_is_only_refused(home: Home) -> None:
    assert {get(home, ("bob", "the old one"), "192.0.2.5").status for _ in range(30)} == {401}


def test_addresses_are_taken_from_trusted_proxies_only() -> None:
    with new_home(login=["list"], trusted_proxies="192.0.2.200", changes=FOR_EVER) as strict:
        strict.htpasswd.write_text(f"ann:{CHEAP}\n")
        strict.start()
        count = BY_USER_AND_ADDRESS.at_once + 1
        answers = [get(strict, ("ann", f"guess{n}"), f"192.0.2.{n}").status for n in range(count)]
        assert answers[-1] == 429
        assert {json.loads(line)["by"] for line in log(strict)} == {"127.0.0.1"}


def log(home: Home) -> list[str]:
    path = home.path / "run" / FILE_NAME
    return path.read_text().splitlines() if path.exists() else []


def test_refused_logins_are_noted_without_secrets(home: Home) -> None:
    before = len(log(home))
    forged = 'x"\n2030-01-01 admin was here'
    for user, password in [("ann", "s3cret-guess"), ("s3cret-typed-as-name", "x"), (forged, "x")]:
        assert get(home, (user, password), "192.0.2.44").status == 401
    assert home.get("/simple/", headers={"Authorization": "Bearer s3cret-token"}).status == 401
    noted = [json.loads(line) for line in log(home)[before:]]
    assert [(each["user"], each["detail"], each["by"]) for each in noted] == [
        ("ann", "wrong password", "192.0.2.44"),
        ("?", "no such user", "192.0.2.44"),
        ("?", "no such user", "192.0.2.44"),
        ("__token__", "unknown, revoked or expired token", "127.0.0.1"),
    ]
    assert within(5, lambda: home.log().count("192.0.2.44") == 3)
    text = home.log() + "".join(log(home))
    assert "s3cret" not in text and "admin was here" not in text


def test_the_access_log_names_who_has_logged_in_and_forges_no_line(home: Home) -> None:
    get(home, ("ann", PASSWORD), "192.0.2.1")
    home.get("/packages/foo-1.0.zip", login=("eve", "x"))  # needs no login, so nobody has looked at it
    home.get("/packages/x%0a192.0.2.1%20-%20forged%1b", login=("eve", "x"))
    text = home.log("192.0.2.1 ann [", '"GET /packages/foo-1.0.zip ', '"GET /packages/x\\n192.0.2.1 - forged')
    assert "eve" not in text
    assert not [line for line in text.splitlines() if line.startswith("192.0.2.1 - forged")]
    assert "\x1b" not in text


def test_hashes_keep_nobody_waiting_who_needs_none(slow: Home) -> None:
    """More cold logins than threads, each of which takes long: what needs no hash comes first."""
    assert get(slow, ("ann", PASSWORD), "192.0.2.1").status == 200
    with ThreadPoolExecutor(6) as pool, hashes_wait(slow):
        cold = [pool.submit(get, slow, (f"slow{n}", "x"), f"203.0.113.{n}") for n in range(6)]
        assert within(5, (slow.path / "waiting").exists)
        for _ in range(5):
            assert slow.get("/packages/foo-1.0.zip").status == 200
            assert get(slow, ("ann", PASSWORD), "192.0.2.1").status == 200
        assert not any(each.done() for each in cold)
    assert {each.result().status for each in cold} == {401}


def test_more_than_can_wait_are_told_to_come_back(slow: Home) -> None:
    with ThreadPoolExecutor(40) as pool, hashes_wait(slow):
        sent = [pool.submit(get, slow, (f"slow{20 + n}", "y"), f"203.0.113.{n}") for n in range(40)]
        assert within(5, lambda: sum(each.done() for each in sent) == 40 - MOST_STRANGERS)
    answers = [each.result() for each in sent]
    assert sorted(each.status for each in answers) == [401] * MOST_STRANGERS + [503] * (40 - MOST_STRANGERS)
    busy = next(each for each in answers if each.status == 503)
    assert (busy.headers["Retry-After"], busy.reason) == ("1", "Too many logins at once")
    assert get(slow, ("ann", PASSWORD), "192.0.2.1").status == 200


def test_one_login_that_comes_many_times_at_once_is_let_in_each_time(slow: Home) -> None:
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: get(slow, ("eve", "x"), "192.0.2.3"), range(30)))
    assert {each.status for each in answers} == {200}


@pytest.mark.parametrize(
    "header",
    [
        "Basic " + base64.b64encode(b"ann:" + b"x" * 5000).decode(),
        "Basic " + base64.b64encode(b"x" * 4000 + b":y").decode(),
        "Basic " + base64.b64encode(b"ann:\xff\xfe").decode(),
        "Basic " + base64.b64encode(b"\0:\0").decode(),
        "Bearer \xff",
        "Basic \xff",
    ],
)
def test_odd_logins_are_wrong_ones(home: Home, header: str) -> None:
    assert home.get("/simple/", headers={"Authorization": header}).status == 401
