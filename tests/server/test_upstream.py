"""Which names are looked for elsewhere, by whatever route they are asked for; nothing private is."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppctl.server import upstream
from ppctl.server.app import create_application
from ppctl.server.config import ServerConfig, WorkerInfo
from ppctl.server.front import Front
from ppctl.server.known import FILE_NAME
from ppctl.server.upstream import Upstream, Verdict
from tests.server.archives import wheel
from tests.server.patience import within
from tests.server.test_access_table import ask
from tests.server.worker_process import new_home, upload_form

URL = "http://198.51.100.9/simple"
PRIVATE = ("corp-*", "secret")
ROUTES = (
    *("/simple/{}/", "/simple/{}", "/{}", "/{}/", "/{}/json", "/pypi/{}/json", "/simple//{}/"),
    *("/simple/{}/?format=json", "/packages/{}/", "/upstream/{}/x-1.0.tar.gz", "/simple/./{}/"),
)


class Names:
    def __init__(self, *names: str) -> None:
        self.names = names

    def has(self, project: str) -> bool:
        return project in self.names


@pytest.mark.parametrize(
    ("policy", "project", "verdict"),
    [
        ("none", "numpy", Verdict.NOWHERE),
        ("redirect", "numpy", Verdict.ASK),
        ("cache", "numpy", Verdict.ASK),
        ("cache", "corp-tools", Verdict.PRIVATE),
        ("cache", "secret", Verdict.PRIVATE),
        ("cache", "secrets", Verdict.ASK),
        ("cache", "corp", Verdict.ASK),
        ("cache", "old", Verdict.KNOWN),
        ("cache", "ppctlcheck0123", Verdict.PRIVATE),
        *(
            ("cache", odd, Verdict.NOWHERE)
            for odd in ("", "-", "Numpy", "a_b", "a.b", "a ", "../x", "ü", "a/b")
        ),
    ],
)
def test_verdicts(policy: str, project: str, verdict: Verdict) -> None:
    made = Upstream(policy, URL, PRIVATE, Names("old"))  # type: ignore[arg-type]
    assert made.judge(project) is verdict
    if verdict is not Verdict.ASK:
        assert upstream.unknown(project, verdict).status.startswith("404")


@pytest.fixture(scope="module", params=["none", "redirect"])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    home = tmp_path_factory.mktemp("home")
    for name in ("packages", "run"):
        (home / name).mkdir()
    places: Any = {name: home / name for name in ("packages", "htpasswd", "run")}
    made = create_application(
        ServerConfig(
            **places,
            permissions=home / "permissions.json",
            login=frozenset(),
            upstream=request.param,
            upstream_url=URL,
            private=PRIVATE,
        ),
        WorkerInfo(),
    )
    made.start()
    name, content = wheel("Was.Here", "1.0")
    content_type, body = upload_form(name, content)
    assert ask(made, "POST", "/", None, body, content_type)[0] == 200
    yield made
    made.stop()


def remove(front: Front) -> None:
    content_type, body = upload_form("x", b"", action="remove_pkg", name="Was.Here", version="1.0")
    assert ask(front, "POST", "/", None, body, content_type)[0] in (200, 404)


def leads_away(front: Front, path: str) -> bool:
    """Return whether a client that follows all redirects ends elsewhere."""
    for _ in range(5):
        status, headers, _ = ask(front, "GET", path, None)
        if not 300 <= status < 400:
            return False
        location = headers["location"]
        if location.startswith(URL):
            return True
        path = unquote(re.sub(r"^https?://[^/]+", "", location), "latin-1")
    return False  # as stock pypiserver does: names with other letters redirect to themselves


spelled = st.text(alphabet="-_.", min_size=1, max_size=3)


@st.composite
def spellings(draw: st.DrawFn, *names: str) -> str:
    """Draw one of the ways to write a name that means the same (PEP 503), or nearly the same."""
    parts = draw(st.sampled_from(names)).split("-")
    name = parts[0] + "".join(draw(spelled) + part for part in parts[1:])
    letters = [draw(st.sampled_from(_alike(letter))) for letter in name]
    around = st.sampled_from(["", "", "", "-", ".", "_", " ", "%20", "\u00a0"])
    return draw(around) + "".join(letters) + draw(around)


def _alike(letter: str) -> list[str]:
    more = {"k": ["\u212a"], "s": ["\u017f"], "i": ["\u0130", "\u0131"]}.get(letter, [])
    wide = [chr(ord(letter) + 0xFEE0)] if letter in string.ascii_lowercase else []
    return [letter, letter, letter.upper(), *more, *wide]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    name=spellings("corp-tools", "corp-x-risk", "secret", "was-here"),
    route=st.sampled_from(ROUTES),
)
def test_no_spelling_of_a_private_name_leads_away(front: Front, name: str, route: str) -> None:
    remove(front)
    path = route.format(name).encode().decode("latin-1")
    assert not leads_away(front, path)


def test_others_do(front: Front) -> None:
    for route in ("/simple/numpy/", "/simple/NumPy", "/numpy/", "/simple/NumPy/"):
        assert leads_away(front, route) is (front_policy(front) == "redirect")


def front_policy(front: Front) -> str:
    found: str = front._application._upstream.policy  # type: ignore[attr-defined]
    return found


@pytest.mark.e2e
def test_a_name_that_was_here_stays_here_for_all_workers_and_restarts() -> None:
    """Also when it came by hand, and when the catalogue is lost."""
    name, content = wheel("Team-Tool", "1.0")
    other, by_hand = wheel("By.Hand", "1.0")
    with new_home(upstream="redirect", upstream_url=URL, private=["corp-*"]) as home:
        (home.packages / other).write_bytes(by_hand)
        first, second = home.start(1), home.start(2)
        for worker in (first, second):
            assert worker.get("/simple/team-tool/").status == 303
        assert home.upload(name, content).status == 200
        (home.packages / name).unlink()
        (home.packages / other).unlink()
        _until_gone(home.workers, "team-tool", "by-hand")
        for worker in home.workers:
            worker.kill()
        for path in (home.path / "run").glob("catalogue*"):
            path.unlink()
        third = home.start(3)
        for project in ("team-tool", "by-hand", "corp-new"):
            assert third.get(f"/simple/{project}/").status == 404
        assert third.get("/simple/numpy/").status == 303
        assert "it was here" in third.get("/simple/by-hand/").text

        # The operator lets one go.
        ask_ = {"Content-Type": "application/json"}
        body = b'{"action": "forget", "project": "By_Hand"}'
        assert third.request("POST", "/_ppctl/packages", body, ask_).text == '{"changed": true, "files": []}'
        assert third.get("/simple/by-hand/").status == 303
        assert third.get("/simple/team-tool/").status == 404

        # The list itself is deleted, and the workers restart.
        third.kill()
        (home.packages / FILE_NAME).unlink()
        third = home.start(4)
        assert third.get("/simple/team-tool/").status == 404
        assert third.get("/simple/by-hand/").status == 303
        assert "was gone: made anew" in third.log.read_text()

        (home.packages / FILE_NAME).write_bytes(b"nonsense")
        assert third.get("/simple/numpy/").status == 404
        assert home.upload(name, content).status == 200


def _until_gone(workers: list[Any], *projects: str) -> None:
    for worker in workers:
        for project in projects:
            assert within(1, lambda w=worker, p=project: w.get(f"/simple/{p}/").status == 404)  # type: ignore[misc]


@pytest.mark.e2e
def test_what_is_here_cannot_be_forgotten() -> None:
    name, content = wheel("foo", "1.0")
    with new_home() as home:
        worker = home.start()
        assert home.upload(name, content).status == 200
        answer = worker.request("POST", "/_ppctl/packages", b'{"action": "forget", "project": "foo"}')
        assert (answer.status, "foo is here" in answer.text) == (409, True)
        assert (Path(home.packages) / FILE_NAME).read_text().endswith("\nfoo\n")
