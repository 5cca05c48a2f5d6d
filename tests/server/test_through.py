"""Workers with a cache program beside them: what clients get of another index, whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest

from ppctl.server.cache import source
from tests.server.archives import metadata, sdist, wheel
from tests.server.cache_process import Cache, cached_home
from tests.server.patience import within
from tests.server.stand_in import JSON, StandIn
from tests.server.worker_process import Answer, Home

pytestmark = pytest.mark.e2e

World = tuple[Home, Cache, StandIn]
WHEEL, CONTENT = wheel("numpy", "1.0")
METADATA = metadata("numpy", "1.0")
SDIST, SDIST_CONTENT = sdist("numpy", "1.1+local")


@pytest.fixture
def world() -> Iterator[World]:
    with cached_home(private=["corp-*"]) as (home, cache, index):
        index.add("numpy", WHEEL, CONTENT, METADATA)
        index.add("numpy", SDIST, SDIST_CONTENT)
        home.start(1)
        home.start(2)
        yield home, cache, index


def page(home: Home, project: str = "numpy", accept: str = JSON) -> Answer:
    return home.get(f"/simple/{project}/", headers={"Accept": accept})


def link(home: Home, name: str = WHEEL, project: str = "numpy") -> str:
    files = {file["filename"]: file for file in json.loads(page(home, project).body)["files"]}
    return urljoin(f"/simple/{project}/", files[name]["url"])


def test_pages_say_what_the_other_index_says_and_lead_here(world: World) -> None:
    home, _, index = world
    found = json.loads(page(home).body)
    files = {file["filename"]: file for file in found.pop("files")}
    assert found == {"meta": {"api-version": "1.4"}, "name": "numpy", "versions": ["1.0", "1.1+local.tar.gz"]}
    digest = {"sha256": hashlib.sha256(METADATA).hexdigest()}
    key = hashlib.sha256(CONTENT).hexdigest()
    assert files[WHEEL] == {
        "filename": WHEEL,
        "url": f"../../upstream/numpy/{key}/{WHEEL}",
        "hashes": {"sha256": key},
        "size": len(CONTENT),
        "requires-python": ">=3.8",
        "upload-time": "2024-01-02T03:04:05.678901Z",
        "core-metadata": digest,
        "dist-info-metadata": digest,
    }
    html = page(home, accept="text/html").text
    assert f'href="../../upstream/numpy/{key}/{WHEEL}#sha256={key}"' in html
    assert f'data-core-metadata="sha256={digest["sha256"]}"' in html
    assert 'data-requires-python="&gt;=3.8"' in html
    assert index.asked == ["/simple/numpy/"]


def test_a_page_of_html_becomes_json_as_well(world: World) -> None:
    home, _, index = world
    index.only_html = True
    found = json.loads(page(home).body)
    assert found["meta"] == {"api-version": "1.0"} and "versions" not in found
    assert [file["filename"] for file in found["files"]] == [WHEEL, SDIST]
    assert found["files"][0]["requires-python"] == ">=3.8"
    for name, content in ((WHEEL, CONTENT), (SDIST, SDIST_CONTENT)):
        assert home.get(link(home, name)).body == content


def test_files_and_metadata_are_fetched_once(world: World) -> None:
    home, _, index = world
    where = link(home)
    for _ in range(3):
        assert home.get(where).body == CONTENT
        assert home.get(f"{where}.metadata").body == METADATA
    assert home.get(link(home, SDIST)).body == SDIST_CONTENT
    assert [path for path in index.asked if path.startswith("/files/")] == [
        f"/files/numpy/{WHEEL}",
        f"/files/numpy/{WHEEL}.metadata",
        f"/files/numpy/{SDIST.replace('+', '%2B')}",
    ]
    answer = home.get(where, headers={"Range": "bytes=2-5"})
    assert (answer.status, answer.body) == (206, CONTENT[2:6])
    assert "immutable" in answer.headers["Cache-Control"]
    assert home.get(where, headers={"If-None-Match": answer.headers["ETag"]}).status == 304
    assert home.request("HEAD", where).headers["Content-Length"] == str(len(CONTENT))
    assert home.get(f"{link(home, SDIST)}.metadata").status == 404


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=5-", 206, 5, None),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=100000-170000", 206, 100_000, 170_001),
        ("bytes=-7", 206, -7, None),
        ("bytes=0-1,5-6", 200, 0, None),
        ("bytes=300000-", 416, 0, 0),
    ],
)
def test_a_part_of_what_was_not_fetched(
    world: World, asked: str, status: int, first: int, last: int | None
) -> None:
    home, _, index = world
    content = os.urandom(200_000)
    index.add("big", "big-1.0.tar.gz", content)
    where = link(home, "big-1.0.tar.gz", "big")
    answer = home.get(where, headers={"Range": asked})
    assert answer.status == status
    if status != 416:
        assert answer.body == content[first:last]
        assert answer.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    # The same as for one that has been fetched.
    assert home.get(where).body == content
    again = home.get(where, headers={"Range": asked})
    assert (again.status, again.headers["Content-Range"]) == (status, answer.headers["Content-Range"])
    assert again.body == answer.body


def test_head_of_what_was_not_fetched(world: World) -> None:
    home, _, index = world
    answer = home.request("HEAD", link(home))
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(CONTENT)))
    assert not [path for path in index.asked if path.startswith("/files/")]


def test_pages_are_asked_for_anew_when_they_are_old(world: World) -> None:
    home, cache, index = world
    first = page(home)
    assert page(home).headers["ETag"] == first.headers["ETag"]
    cache.age("numpy")
    assert page(home).body == first.body
    assert len(index.asked) == 2
    name, content = wheel("numpy", "2.0")
    index.add("numpy", name, content)
    assert name not in page(home).text
    cache.age("numpy")
    assert name in page(home).text
    del index.files["numpy"]
    cache.age("numpy")
    assert page(home).status == 404


def test_the_other_index_is_away(world: World) -> None:
    home, cache, index = world
    where = link(home)
    assert home.get(where).body == CONTENT
    index.stop()
    cache.age("numpy")
    assert page(home).status == 200
    assert home.get(where).body == CONTENT
    assert home.get(link(home, SDIST)).status == 502
    answer = page(home, "scipy")
    assert (answer.status, "cannot be reached" in answer.text) == (502, True)
    # Also after a restart; and what has not been asked for yet is no 404, which resolvers would believe.
    cache.stop()
    cache.start()
    assert page(home).status == 200
    assert page(home, "scipy").status == 502
    assert cache.status()["problem"]


def test_the_cache_program_is_away(world: World) -> None:
    home, cache, _ = world
    where = link(home)
    assert home.get(where).body == CONTENT
    name, content = wheel("mine", "1.0")
    cache.stop()
    assert home.upload(name, content).status == 200
    assert home.get("/simple/mine/").status == 200
    assert home.get(f"/packages/{name}").body == content
    assert home.get(where).body == CONTENT
    cache.age("numpy")
    assert page(home).status == 200
    answer = page(home, "scipy")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert "the cache of the other index does not run" in answer.text
    cache.start()
    assert page(home, "scipy").status == 404


def test_what_the_other_index_answers(world: World) -> None:
    home, _, index = world
    for status, answer, says in (
        (404, 404, "neither here nor at"),
        (410, 404, "neither here nor at"),
        (401, 502, "wants a login"),
        (403, 502, "wants a login"),
        (429, 503, "too many requests"),
        (500, 502, "answers 500"),
        (503, 502, "answers 503"),
    ):
        index.status = status
        found = page(home, f"project-{status}")
        assert (found.status, says in found.text) == (answer, True), status


def test_a_page_of_nonsense(world: World) -> None:
    home, _, index = world
    index.extra = {"files": [{"nonsense": 1}]}
    assert page(home).status == 502
    index.extra = {"files": [{"filename": "../../x", "url": "/x", "hashes": {}}]}
    assert json.loads(page(home).body)["files"] == []


def test_a_file_that_is_not_what_the_page_promises(world: World) -> None:
    home, cache, index = world
    where = link(home)
    index.lie = True
    with pytest.raises(Exception):  # noqa: B017 - the connection breaks off, in whatever way
        assert home.get(where).body == CONTENT, "a wrong file was passed on as if it were right"
        raise AssertionError
    index.lie = False
    assert home.get(where).body == CONTENT
    assert "its hash is another one" in cache.log.read_text()


def test_many_at_once_fetch_once_and_read_along(world: World) -> None:
    home, _, index = world
    content = os.urandom(3 << 20)
    index.add("big", "big-1.0.tar.gz", content)
    where = link(home, "big-1.0.tar.gz", "big")
    go_on = threading.Event()
    index.slow_block = lambda: go_on.wait(30)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(home.get(where).body)) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert within(2, lambda: any("big-1.0" in path for path in index.asked))
    # Meanwhile everything else goes on.
    name, mine = wheel("mine", "1.0")
    assert home.upload(name, mine).status == 200
    assert home.get(f"/packages/{name}").body == mine
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [content] * 12
    assert len([path for path in index.asked if "big-1.0" in path]) == 1


def test_more_than_enough_waiting_for_a_silent_index_leave_threads_for_what_is_here() -> None:
    with cached_home(threads=2) as (home, _, index):
        name, content = wheel("mine", "1.0")
        home.start(1)
        assert home.upload(name, content).status == 200
        go_on = threading.Event()
        index.gate = go_on
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: statuses.append(page(home, f"p{n}").status))  # type: ignore[misc]
            for n in range(40)
        ]
        for thread in threads:
            thread.start()
        assert within(2, lambda: len(index.asked) >= 32)
        assert home.get(f"/packages/{name}").body == content
        go_on.set()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {404, 503} and 404 in statuses


def test_a_client_that_hangs_up_does_not_stop_the_others(world: World) -> None:
    import http.client

    home, cache, index = world
    content = os.urandom(2 << 20)
    index.add("big", "big-1.0.tar.gz", content)
    where = link(home, "big-1.0.tar.gz", "big")
    go_on = threading.Event()
    index.slow_block = lambda: go_on.wait(30)
    gone = http.client.HTTPConnection("127.0.0.1", home.port)
    gone.request("GET", where)
    assert within(2, lambda: any("big-1.0" in path for path in index.asked))
    gone.close()
    go_on.set()
    assert within(2, lambda: any(cache.directory.glob(f"files/*/{hashlib.sha256(content).hexdigest()}")))
    assert home.get(where).body == content
    assert len([path for path in index.asked if "big-1.0" in path]) == 1


# --- names of this index


def test_what_is_ours_is_never_asked_about(world: World) -> None:
    home, _, index = world
    name, content = wheel("numpy", "0.1")
    where = link(home)
    assert home.get(where).status == 200
    index.asked.clear()
    assert home.upload(name, content).status == 200
    assert json.loads(page(home).body)["versions"] == ["0.1"]
    assert home.get(where).status == 404
    (home.packages / name).unlink()
    assert within(1, lambda: page(home).status == 404)
    assert home.get(where).status == 404
    for project in ("corp-tools", "numpy", "ppctlcheck1"):
        for path in (
            f"/simple/{project}/",
            f"/upstream/{project}/{'a' * 64}/x-1.0.tar.gz",
            f"/{project}/json",
        ):
            assert home.get(path).status == 404, path
    assert index.asked == []


def test_pages_and_files_are_for_those_who_may_list_and_download(world: World) -> None:
    from ppctl.server import htpasswd
    from tests.server.worker_process import basic_auth

    home, cache, index = world
    where = link(home)
    for worker in home.workers:
        worker.kill()
    home.htpasswd.write_text(f"ann:{htpasswd.hash_password('secret', 4)}\n")
    home.configure(
        upstream="cache",
        upstream_url=index.url,
        cache=str(cache.directory),
        login=["list", "download"],
    )
    home.start(3)
    index.asked.clear()
    for path in ("/simple/numpy/", "/simple/scipy/", where, f"{where}.metadata"):
        assert home.get(path).status == 401
    assert index.asked == []
    login = {"Authorization": basic_auth("ann", "secret"), "Accept": JSON}
    for path in ("/simple/numpy/", where, f"{where}.metadata"):
        answer = home.get(path, headers=login)
        assert answer.status == 200 and answer.headers["Cache-Control"].startswith("private")


# --- limits, logins


def test_it_stays_within_its_limit() -> None:
    with cached_home(max_bytes=3 << 20) as (home, cache, index):
        home.start(1)
        files = {f"big-{n}.0.tar.gz": os.urandom(1 << 20) for n in range(6)}
        for name, content in files.items():
            index.add("big", name, content)
        for name, content in files.items():
            assert home.get(link(home, name, "big")).body == content
            assert cache.status()["bytes"] <= 3 << 20
            used = sum(path.stat().st_size for path in cache.directory.rglob("*") if path.is_file())
            assert used <= 3 << 20
        # One that is larger than half of it is passed on, and not kept.
        large = os.urandom(2 << 20)
        index.add("large", "large-1.0.tar.gz", large)
        for _ in range(2):
            assert home.get(link(home, "large-1.0.tar.gz", "large")).body == large
        assert len([path for path in index.asked if "large-1.0" in path]) == 2
        assert list((cache.directory / "tmp").iterdir()) == []


def test_a_login_for_the_other_index_is_in_a_file_and_nowhere_else() -> None:
    from tests.server.worker_process import basic_auth

    with cached_home() as (home, cache, index):
        index.add("numpy", WHEEL, CONTENT)
        index.login = basic_auth("reader", "pa55word")
        home.start(1)
        assert page(home).status == 502
        (home.path / "upstream.netrc").write_text("machine 127.0.0.1 login reader password pa55word\n")
        cache.stop()
        cache.start()
        assert home.get(link(home)).body == CONTENT
        assert cache.process
        with open(f"/proc/{cache.process.pid}/cmdline") as file:
            assert "pa55word" not in file.read()
        assert "pa55word" not in cache.log.read_text()
        cache.stop()
        (home.path / "upstream.netrc").write_text("machine h login reader passwd pa55word\n")
        with pytest.raises(AssertionError, match="cannot be understood") as raised:
            cache.start()
        assert "pa55word" not in str(raised.value)


def test_what_a_killed_program_leaves_is_removed(world: World) -> None:
    _, cache, _ = world
    (cache.directory / "tmp" / "left").write_bytes(b"x")
    cache.stop()
    cache.start()
    assert list((cache.directory / "tmp").iterdir()) == []
    assert time.time() - cache.status()["started"] < 60


def test_pip_hears_the_reason_before_it_gives_up() -> None:
    limits = source._TIMEOUT.as_dict()
    assert (limits["connect"] or 0) + (limits["read"] or 0) < 15, (
        "pip's --timeout, unless it is told otherwise"
    )
