"""The parser of uploads, given anything: it never fails, and nothing stays of what it refuses."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ppctl.server.body import BadBody
from ppctl.server.form import MAX_HEADER, MAX_PARTS, Form
from tests.server.in_process import Index
from tests.server.signed import ACTION, CONTENT, FILE, WHEEL, field, form, signed_form

BOUNDARY = b"b0undary"
LINES = [b"\r\n", b"\n"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    yield Index(tmp_path_factory.mktemp("index"), max_upload_size=1 << 20)


def parse(
    body: bytes, step: int = 1 << 17, boundary: bytes = BOUNDARY
) -> list[tuple[str, str | None, bytes]]:
    """Return the parts of a form that arrives in pieces of so many bytes."""
    stream = io.BytesIO(body)
    parts = Form(lambda size: stream.read(min(size, step)), boundary)
    return [(part.name, part.filename, b"".join(part.blocks())) for part in parts]


# Bytes of which boundaries are made, so that something like one is found often.
nasty = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"-", b"--", b"--b0undary", b"\r\n--b0undar", b"b0undary--", b" ", b"x", b"\0"]
    ),
    max_size=12,
).map(b"".join)


def is_boundary(content: bytes, line: bytes) -> bool:
    """Return whether a line of the content is a boundary, so that no parser could tell."""
    lines = (b"\n" + content + line + b"--b0undary").split(b"\n")[1:-1]
    return any(found.rstrip(b" \t\r") in (b"--b0undary", b"--b0undary--") for found in lines)


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.text("abc", min_size=1), nasty), max_size=4),
    st.sampled_from(LINES),
    st.integers(1, 40),
)
def test_what_was_sent_arrives(parts: list[tuple[str, bytes]], line: bytes, step: int) -> None:
    # A return before a line feed that is the boundary's own cannot be told from one of the content.
    sent = [
        (n, c) for n, c in parts if not is_boundary(c, line) and not (line == b"\n" and c.endswith(b"\r"))
    ]
    body = form(*(field(name, content, line) for name, content in sent), line=line)[1]
    assert parse(body, step) == [(name, None, content) for name, content in sent]
    assert parse(b"preamble" + line + body + b"epilogue", step) == parse(body)


@given(st.binary(max_size=400) | nasty, st.integers(1, 50))
def test_garbage_is_a_bad_body_or_a_form(body: bytes, step: int) -> None:
    try:
        parse(body, step)
    except BadBody:
        return


@given(st.data())
def test_a_form_that_is_cut_off_is_none(data: st.DataObject) -> None:
    body = form(ACTION, FILE)[1]
    end = data.draw(st.integers(0, len(body) - len(b"--\r\n") - 1))
    with pytest.raises(BadBody):
        parse(body[:end])


def test_limits() -> None:
    assert len(parse(form(*[b"a: b\r\n\r\n"] * (MAX_PARTS - 1))[1])) == MAX_PARTS - 1
    with pytest.raises(BadBody, match="parts"):
        parse(form(*[b"a: b\r\n\r\n"] * (MAX_PARTS + 1))[1])
    for header in (b"a: " + b"x" * MAX_HEADER, b"a: b\r\n" * (MAX_HEADER // 6 + 1)):
        with pytest.raises(BadBody, match="headers"):
            parse(form(header + b"\r\n\r\nx")[1])
    with pytest.raises(BadBody, match="beginning"):
        parse(b"x" * (2 * MAX_HEADER) + form(ACTION)[1])


# --- the whole server

header_text = st.text(st.characters(max_codepoint=0x24F), max_size=40)
known_names = st.sampled_from(
    [
        ":action",
        "name",
        "version",
        "filetype",
        "md5_digest",
        "sha256_digest",
        "attestations",
        "content",
        "gpg_signature",
    ]
)
actions = st.sampled_from([b"file_upload", b"doc_upload", b"remove_pkg", b"submit"])
contents = st.sampled_from([CONTENT, CONTENT[:-9], b"[]", b"[{}]"])
values = st.binary(max_size=60) | nasty | actions | contents
some_names = st.sampled_from([WHEEL, f"{WHEEL}.asc", "../x-1.zip", "x-1.tar.gz", "x-1.tar.xz", "x-1.egg"])
more_headers = st.sampled_from(["", "Content-Type: text/html", "X:", ":", " folded", "Content-Length: 5"])


@st.composite
def part(draw: st.DrawFn) -> bytes:
    filename = draw(st.none() | header_text | some_names)
    file = "" if filename is None else f'; filename="{filename}"'
    line, more = draw(st.sampled_from(["\r\n", "\n"])), draw(more_headers)
    head = f'Content-Disposition: form-data; name="{draw(known_names | header_text)}"{file}{line}'
    return f"{head}{more}{line if more else ''}{line}".encode() + draw(values)


def check(index: Index, content_type: str, body: bytes, **environ: str) -> None:
    """Post it: whatever it is, the server has an answer, and what it refuses leaves nothing."""
    before = index.names()
    said = index.post(content_type, body, **environ)
    assert said.status in (200, 400, 404, 409, 413), said.text
    assert all(ord(c) >= 32 for text in [said.reason, *said.headers.values()] for c in text)
    if said.status != 200:
        assert index.names() == before
    assert not [name for name in index.names() if name.startswith(".")]
    (index.packages / WHEEL).unlink(missing_ok=True)


@given(st.lists(part(), max_size=6), st.sampled_from(LINES), st.booleans())
@example([ACTION, FILE], b"\r\n", False)
def test_any_form(index: Index, parts: list[bytes], line: bytes, chunked: bool) -> None:
    content_type, body = form(*parts, line=line)
    check(index, content_type, body, **({"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {}))


@given(st.data())
def test_a_good_form_that_has_been_damaged(index: Index, data: st.DataObject) -> None:
    content_type, body = signed_form()
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 50)))
    damaged = body[:start] + data.draw(st.binary(max_size=50) | nasty) + body[end:]
    check(index, content_type, damaged)
    index.post("application/x-www-form-urlencoded", b":action=remove_pkg&name=foo&version=1.0")


@given(header_text, st.binary(max_size=200))
def test_any_type(index: Index, text: str, body: bytes) -> None:
    for content_type in (text, f"multipart/form-data; boundary={text}", f'multipart/{text}; boundary="x"'):
        check(index, content_type.encode("utf-8").decode("latin-1"), body)
