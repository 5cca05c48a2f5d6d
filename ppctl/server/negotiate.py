"""Which representation a client wants (RFC 9110, section 12; PEP 691)."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache


class Format(Enum):
    """The representations of the simple API; the value is the media type."""

    HTML = "text/html"
    JSON = "application/vnd.pypi.simple.v1+json"
    V1_HTML = "application/vnd.pypi.simple.v1+html"

    @property
    def content_type(self) -> str:
        """Return the header of an answer in this format."""
        return "text/html; charset=UTF-8" if self is Format.HTML else self.value

    @property
    def is_json(self) -> bool:
        """Return whether it is JSON; the two others have the same text."""
        return self is Format.JSON


_NAMES = {
    **{found.value: found for found in Format},
    "application/vnd.pypi.simple.latest+json": Format.JSON,
    "application/vnd.pypi.simple.latest+html": Format.V1_HTML,
}
# What a client gets that wants several equally: the richer one if it knows it, and else what it always got.
_BY_NAME = (Format.HTML, Format.V1_HTML, Format.JSON)
_BY_WILDCARD = (Format.V1_HTML, Format.JSON, Format.HTML)


def by_name(name: str) -> Format | None:
    """Return the format that `?format=` names (PEP 691, "URL parameter"); None for an unknown one."""
    # A `+` in a query means a blank, to all but the authors of PEP 691's examples.
    return _NAMES.get(name.strip().lower().replace(" ", "+"))


@lru_cache(maxsize=512)
def by_accept(header: str) -> Format | None:
    """Return the format that a client with this header `Accept` wants; None when it wants none of them."""
    if not header.strip():
        return Format.HTML
    wanted = _weights(header)
    best: tuple[float, int, int] = (0.0, 0, 0)
    chosen = None
    for found in Format:
        quality, how = _quality(found, wanted)
        rank = (_BY_NAME if how == 2 else _BY_WILDCARD).index(found)
        if quality > 0 and (quality, how, rank) > best:
            best, chosen = (quality, how, rank), found
    return chosen


@lru_cache(maxsize=512)
def accepts_gzip(header: str) -> bool:
    """Return whether a client with this header `Accept-Encoding` understands gzip, and likes it as well."""
    weights = _weights(header)
    quality = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return 0.0 < quality >= weights.get("identity", 0.0)


def _quality(found: Format, wanted: dict[str, float]) -> tuple[float, int]:
    """Return the weight of a format, and how exactly the client has named it (2 by name, 0 by `*/*`)."""
    named = [wanted[name] for name, meant in _NAMES.items() if meant is found and name in wanted]
    if named:
        return max(named), 2
    kind = found.value.partition("/")[0] + "/*"
    if kind in wanted:
        return wanted[kind], 1
    return wanted.get("*/*", 0.0), 0


def _weights(header: str) -> dict[str, float]:
    """Return the names in a header with their weights; what makes no sense is left out."""
    found: dict[str, float] = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = _weight(value.strip())
        if name:
            found[name] = max(weight, found.get(name, 0.0))
    return found


def _weight(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if 0 <= found <= 1 else 0.0
