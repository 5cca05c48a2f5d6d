"""How projects and files are called. Apart, because pypiserver need not be there to ask."""

from __future__ import annotations

import re

SIGNATURE = ".asc"
PROVENANCE = ".provenance"
SIDECARS = (SIGNATURE, PROVENANCE)
"""The endings of files that are kept beside a package file and belong to it."""


def normal(name: str) -> str:
    """Return the normal form of the name of a project (PEP 503), or of a pattern of names."""
    return re.sub(r"[-_.]+", "-", name).lower()
