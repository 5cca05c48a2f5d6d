"""How the name of a project is spelled (PEP 503). Apart, because pypiserver need not be there to ask."""

from __future__ import annotations

import re


def normal(name: str) -> str:
    """Return the normal form of a name, or of a pattern of names."""
    return re.sub(r"[-_.]+", "-", name).lower()
