"""Text from the templates in `templates/`."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"
"""The templates: a link to the checkout's `templates/`, a real directory in an installed ppctl."""


@functools.cache
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - shell and INI files, and only values that settings.py has checked
    )


def render(template: str, **values: Any) -> str:
    """Return the text of `template` with `values`; a value that is missing is an error, not a blank."""
    return str(_environment().get_template(template).render(**values))


def digest(*texts: str) -> str:
    """Return what tells these texts from others: 12 hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
