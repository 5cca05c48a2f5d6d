"""Tokens for programs: made here, known to nobody afterwards, kept as hashes among the permissions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from datetime import datetime, timezone

from ppctl.errors import UsageError
from ppctl.permissions import check_patterns
from ppctl.server import permissions
from ppctl.server.permissions import TOKEN_NAME, Rights, Token
from ppctl.server.text import printable

DAY = 86_400.0
SOON = 14 * DAY
"""How long before its end a token is warned of, in seconds."""

_UNITS = {"h": DAY / 24, "d": DAY, "w": 7 * DAY, "y": 365 * DAY}
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_LONGEST = 100 * 365 * DAY


def create(
    name: str,
    user: str,
    *,
    read: bool,
    upload: Sequence[str],
    expires: str,
    now: float,
    secret: str | None = None,
) -> tuple[Token, str]:
    """Return a new token and its secret, which is kept nowhere. `now`: seconds since the epoch.

    `secret`: one that was made before. Raises UsageError for a name, a pattern, an end or a secret that makes
    no sense.
    """
    if not TOKEN_NAME.fullmatch(name):
        raise UsageError(
            f"{printable(name)}: the name of a token is made of small letters, digits and . _ -",
            "name it after what uses it, such as ci-release",
        )
    if not read and not upload:
        raise UsageError(f"{name}: a token that may do nothing", "say what for: --upload 'team-*', --read")
    if secret is not None and not permissions.SECRET.fullmatch(secret):
        raise UsageError(
            "that is no token of ppctl", f"it begins with {permissions.TOKEN_PREFIX} and has 49 characters"
        )
    secret = secret or permissions.new_secret()
    rights = Rights(read, check_patterns(upload, "--upload"))
    return Token(name, user, permissions.digest(secret), rights, now, end(expires, now)), secret


def check_digest(digest: str) -> str:
    """Return what is kept of a token that was made elsewhere. Raises UsageError when it is none."""
    if not permissions.DIGEST.fullmatch(digest):
        raise UsageError("that is not what is kept of a token", "it is made by `ppctl token create --on`")
    return digest


def end(expires: str, now: float) -> float | None:
    """Return when `90d`, `12h`, `2w`, `1y`, a date (the end of that day, UTC) or a time is; None for `never`.

    Raises UsageError.
    """
    if expires == "never":
        return None
    until: float | None = None
    if found := re.fullmatch(r"([1-9][0-9]{0,8})([hdwy])", expires):
        until = now + int(found[1]) * _UNITS[found[2]]
    else:
        for form, length in (("%Y-%m-%d", DAY), (_MOMENT, 0.0)):
            with contextlib.suppress(ValueError):
                until = datetime.strptime(expires, form).replace(tzinfo=timezone.utc).timestamp() + length
    if until is None or not now < until <= now + _LONGEST:
        raise UsageError(
            f"--expires: {printable(expires)} is no time to come",
            "90d, 12h, 2w, 1y, a date such as 2030-12-31, or never",
        )
    return until


def moment(seconds: float | None) -> str:
    """Return a time as text: UTC, ISO 8601; `never` for None."""
    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds, timezone.utc).strftime(_MOMENT)
