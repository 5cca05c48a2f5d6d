"""ppctl.server.body: a body is complete or an error."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server import body as body_module
from ppctl.server.body import BadBody, guard, then_drain


def environ(content: bytes, **more: str) -> dict[str, Any]:
    return {"wsgi.input": io.BytesIO(content), "CONTENT_LENGTH": str(len(content)), **more}


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_a_complete_body_is_read_in_pieces_of_any_size(content: bytes, size: int) -> None:
    env = environ(content)
    guard(env)
    assert b"".join(iter(lambda: env["wsgi.input"].read(size), b"")) == content


@given(st.binary(max_size=5000), st.integers(1, 10000))
def test_a_short_body_is_an_error(content: bytes, missing: int) -> None:
    env = environ(content, CONTENT_LENGTH=str(len(content) + missing))
    guard(env)
    with pytest.raises(BadBody):
        env["wsgi.input"].read()


def test_what_follows_a_body_is_left_alone() -> None:
    env = environ(b"body and more", CONTENT_LENGTH="4")
    stream = env["wsgi.input"]
    guard(env)
    assert env["wsgi.input"].read() == b"body"
    assert stream.read() == b" and more"


@pytest.mark.parametrize("boundary", ["b", '"b c"', "b;charset=utf-8", "x" * 70])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_form_has_an_end(boundary: str, chunked: bool) -> None:
    bare = boundary.strip('"').partition(";")[0].encode()
    for end, complete in [(b"--\r\n", True), (b"--", True), (b"-", False), (b"", False)]:
        env = environ(b"x" * 200_000 + b"\r\n--" + bare + end)
        env["CONTENT_TYPE"] = f"multipart/form-data; boundary={boundary}"
        if chunked:
            env["HTTP_TRANSFER_ENCODING"] = "chunked"
        guard(env)
        if complete:
            assert len(env["wsgi.input"].read()) > 200_000
        else:
            with pytest.raises(BadBody, match="no end"):
                env["wsgi.input"].read()


def test_a_form_has_a_boundary() -> None:
    with pytest.raises(BadBody):
        guard(environ(b"x", CONTENT_TYPE="multipart/form-data"))


def test_a_request_without_a_body() -> None:
    env = environ(b"", CONTENT_TYPE="multipart/form-data")
    assert guard(env) is None
    assert guard({"wsgi.input": io.BytesIO()}) is None


def test_an_error_of_the_connection_is_a_cut() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise BlockingIOError

    env = {**environ(b"x"), "wsgi.input": Broken()}
    guard(env)
    with pytest.raises(BadBody) as caught:
        env["wsgi.input"].read()
    assert isinstance(caught.value.__cause__, BlockingIOError)


class Answer(list[bytes]):
    closed = False

    def close(self) -> None:
        self.closed = True


def test_the_answer_comes_before_the_rest_of_the_body() -> None:
    env = environ(b"x" * 1_000_000)
    stream = env["wsgi.input"]
    body = guard(env)
    assert body is not None
    answer = Answer([b"no"])
    given_out = then_drain(body, answer)
    assert next(given_out) == b"no"
    assert stream.tell() == 0
    assert list(given_out) == []
    assert stream.tell() == 1_000_000
    assert body.finished
    assert answer.closed


def test_a_client_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return b"x"

    monkeypatch.setattr(body_module, "DRAIN_SECONDS", 0.1)
    body = guard({"wsgi.input": Endless(), "HTTP_TRANSFER_ENCODING": "chunked"})
    assert body is not None
    body.drain()
    assert not body.finished
