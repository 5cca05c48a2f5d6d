"""ppctl.elsewhere: the list of another index's projects, as HTML or JSON, and what is said without one."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl import elsewhere
from ppctl.errors import PpctlError
from tests.server.stand_in import StandIn, stand_in
from tests.server.worker_process import basic_auth


@pytest.fixture
def index() -> Iterator[StandIn]:
    with stand_in() as made:
        for name in ("Corp.Tools", "numpy", "a_b"):
            made.add(name, f"{name}-1.0.zip", b"x")
        yield made


@pytest.mark.parametrize("only_html", [True, False], ids=["html", "json"])
def test_the_names_are_those_of_its_page(index: StandIn, only_html: bool) -> None:
    index.only_html = only_html
    assert elsewhere.names_at(index.url.rstrip("/"), None) == {"corp-tools", "numpy", "a-b"}
    assert index.asked == ["/simple/"]


@given(st.lists(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", fullmatch=True)))
def test_whatever_attributes_and_entities_links_have(names: list[str]) -> None:
    written = ("".join(f"&#{ord(letter)};" for letter in name) for name in names)
    page = "".join(f'<A class="x>" HREF="{escape(n)}/">\n {n} </A>' for n in written).replace(
        'class="x>" ', ""
    )
    assert elsewhere._from_html(page.encode()) == [elsewhere.normal(name) for name in names]


@pytest.mark.parametrize(("status", "says"), [(404, "it answers 404"), (500, "it answers 500")])
def test_an_index_without_a_list(index: StandIn, status: int, says: str) -> None:
    index.status = status
    with pytest.raises(PpctlError, match=says):
        elsewhere.names_at(index.url, None)


def test_an_index_that_is_away_or_talks_nonsense(index: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "MAX_BYTES", 10)
    with pytest.raises(PpctlError, match="too large"):
        elsewhere.names_at(index.url, None)
    monkeypatch.undo()
    monkeypatch.setattr(elsewhere, "_from_json", lambda content: [content["no"]])
    with pytest.raises(PpctlError, match="not a list of projects"):
        elsewhere.names_at(index.url, None)
    index.stop()
    with pytest.raises(PpctlError, match="cannot be reached"):
        elsewhere.names_at(index.url, None)


def test_the_login_of_a_netrc_is_sent_and_told_to_nobody(index: StandIn) -> None:
    index.login = basic_auth("reader", "pa55word")
    assert "numpy" in elsewhere.names_at(index.url, b"machine 127.0.0.1 login reader password pa55word\n")
    for content in (None, b"machine other login reader password pa55word\n"):
        with pytest.raises(PpctlError, match="it answers 401"):
            elsewhere.names_at(index.url, content)
    with pytest.raises(PpctlError, match="cannot be understood") as raised:
        elsewhere.names_at(index.url, b"machine h login reader passwd pa55word\n")
    assert "pa55word" not in str(raised.value.message)
