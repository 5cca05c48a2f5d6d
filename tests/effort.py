"""How hard the tests try: `make unit` is to be quick, `make test` is to find something."""

from __future__ import annotations

import os

QUICK = os.environ.get("PPCTL_QUICK_TESTS") == "1"
"""Whether properties get few examples, and long series of cases are thinned out."""
