"""ppctl.server.proxies: who is believed, and what."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppctl.server.proxies import Proxies, has_valid_host, look_through


def seen(listed: str = "127.0.0.1", peer: str = "127.0.0.1", **headers: str) -> dict[str, Any]:
    """Return what is left of a request that comes from `peer`."""
    environ = {"REMOTE_ADDR": peer, **{f"HTTP_{name}": value for name, value in headers.items()}}
    look_through(environ, Proxies(listed), is_local=False)
    return environ


@pytest.mark.parametrize(
    ("listed", "address", "trusted"),
    [
        ("127.0.0.1,::1", "127.0.0.1", True),
        ("127.0.0.1, ::1", "::1", True),
        ("127.0.0.1,::1", "127.0.0.2", False),
        ("10.0.0.0/8", "10.200.3.4", True),
        ("10.1.2.3/8", "10.200.3.4", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("*", "203.0.113.9", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:11.1.2.3", False),
        ("::1", "::1", True),
        ("", "127.0.0.1", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "not an address", False),
    ],
)
def test_which_proxies_are_believed(listed: str, address: str, trusted: bool) -> None:
    assert (address in Proxies(listed)) is trusted


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("127.0.0.1", "203.0.113.9, 127.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.7, 203.0.113.9, 127.0.0.1, 127.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "forged, 127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", "[2001:db8::1]:4711, 127.0.0.1:80", "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("127.0.0.1", "203.0.113.9:", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.7, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "forged\nline", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
    ],
)
def test_who_the_client_is(peer: str, header: str, client: str) -> None:
    found = seen(peer=peer, X_FORWARDED_FOR=header)
    assert found["REMOTE_ADDR"] == client
    assert ("HTTP_X_FORWARDED_FOR" in found) is (peer == "127.0.0.1")


def test_where_everyone_is_believed_the_last_address_counts() -> None:
    assert seen("*", "192.0.2.1", X_FORWARDED_FOR="198.51.100.7, 203.0.113.9")["REMOTE_ADDR"] == "203.0.113.9"


FORWARDED = [
    *("X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "X_FORWARDED_PREFIX", "X_FORWARDED_PORT"),
    *("X_FORWARDED_SSL", "X_REAL_IP", "FORWARDED", "X_SCRIPT_NAME"),
]


def test_a_stranger_is_believed_nothing() -> None:
    headers = dict.fromkeys(FORWARDED, "203.0.113.9")
    assert seen(peer="192.0.2.1", **headers) == {"REMOTE_ADDR": "192.0.2.1"}


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("pypi.example.com", "pypi.example.com"),
        ("pypi.example.com:8080/base/", "pypi.example.com:8080/base/"),
        ("[2001:db8::1]:80/base", "[2001:db8::1]:80/base"),
        ("evil.example.com, pypi.example.com", "pypi.example.com"),
        ('pypi.example.com/"><script>', None),
        ("a b", None),
        ("user@pypi.example.com", None),
        ("", None),
    ],
)
def test_a_host_that_is_none_is_not_believed(host: str, kept: str | None) -> None:
    assert seen(X_FORWARDED_HOST=host).get("HTTP_X_FORWARDED_HOST") == kept


@pytest.mark.parametrize(
    ("scheme", "kept"),
    [("https", "https"), ("http", "http"), ("http, https", "https"), ("javascript", None), ("", None)],
)
def test_a_scheme_that_is_none_is_not_believed(scheme: str, kept: str | None) -> None:
    assert seen(X_FORWARDED_PROTO=scheme).get("HTTP_X_FORWARDED_PROTO") == kept


@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_whatever_a_proxy_says_an_address_is_one(for_: str, host: str, proto: str) -> None:
    found = seen(X_FORWARDED_FOR=for_, X_FORWARDED_HOST=host, X_FORWARDED_PROTO=proto)
    ipaddress.ip_address(found["REMOTE_ADDR"])
    assert not set(found.get("HTTP_X_FORWARDED_HOST", "")) & set(' "<>\r\n\\')


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        ("index.example.com", True),
        ("my_host:3141", True),
        ("[::1]:80", True),
        ("127.0.0.1", True),
        ("", True),
        ("a b", False),
        ("a/b", False),
        ("user@a", False),
        ("a,b:1", True),
        ('a"', False),
        ("a:b", False),
        ("<a>", False),
    ],
)
def test_hosts(host: str, valid: bool) -> None:
    assert has_valid_host({"HTTP_HOST": host}) is valid


def test_only_old_clients_need_not_name_the_host() -> None:
    assert has_valid_host({"SERVER_PROTOCOL": "HTTP/1.0"})
    assert not has_valid_host({"SERVER_PROTOCOL": "HTTP/1.1"})
