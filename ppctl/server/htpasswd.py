"""The htpasswd format: the one parser of it, for the server and for the command line. Pure.

A line is `name:hash`; a blank line or one that starts with `#` is kept and means nothing. Where a name is
given twice the first line counts, as for Apache (`mod_authn_file`), nginx and passlib's `HtpasswdFile`,
which stock pypiserver uses. A disabled user has a `!` in front of the hash, as in shadow(5).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

DISABLED_MARK = "!"

BCRYPT_MAX_BYTES = 72
"""bcrypt looks at no more bytes than these; bcrypt 5 refuses longer passwords."""

MIN_BCRYPT_COST = 10
"""A bcrypt hash of a lower cost is weak (OWASP Password Storage Cheat Sheet)."""

MAX_NAME_BYTES = 255

# No honest password is longer; the limit bounds the work that a stranger can ask for.
_MAX_PASSWORD_BYTES = 1024
_BLANKS = " \t\r\n\v\f"
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_DES_CRYPT = re.compile(r"[./A-Za-z0-9]{13}")
_PREFIXES = {"$5$": "sha256-crypt", "$6$": "sha512-crypt", "$apr1$": "apr1", "$1$": "md5-crypt"}
_PASSLIB_NAMES = {
    "sha256-crypt": "sha256_crypt",
    "sha512-crypt": "sha512_crypt",
    "apr1": "apr_md5_crypt",
    "md5-crypt": "md5_crypt",
    "sha1": "ldap_sha1",
    "des-crypt": "des_crypt",
}
_STRONG = frozenset({"bcrypt", "sha256-crypt", "sha512-crypt"})


@dataclass(frozen=True)
class Line:
    """One line of the file. `raw` is the whole line as it was found, with its line ending.

    `name` is None for a line that names nobody (blank, comment, broken). `hash` is the second field as it is
    written, so a disabled user's begins with `!` and never verifies.
    """

    raw: str
    name: str | None
    hash: str
    disabled: bool


def decode(content: bytes) -> str:
    """Return the text of a file's bytes; bytes that are not UTF-8 survive `encode` (PEP 383)."""
    return content.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Return the bytes that `decode` made `text` of."""
    return text.encode("utf-8", "surrogateescape")


def parse(text: str) -> list[Line]:
    """Return every line of `text`; `serialise` of them is `text` again, byte for byte. Never raises."""
    # Not splitlines(): that also breaks at U+2028, form feeds and the like.
    return [_parse_line(raw) for raw in re.findall(r"[^\n]*\n|[^\n]+", text)]


def serialise(lines: Iterable[Line]) -> str:
    """Return the text of `lines`."""
    return "".join(line.raw for line in lines)


def entry(name: str, hash: str) -> Line:
    """Return the line that gives `name` the hash `hash` (`!` in front: disabled).

    Raises ValueError when the two would not be read back as they are.
    """
    line = _parse_line(f"{name}:{hash}\n")
    if "\n" in name + hash or (line.name, line.hash) != (name, hash):
        raise ValueError("the name or the hash does not fit into a line of htpasswd")
    return line


def users(lines: Iterable[Line]) -> dict[str, Line]:
    """Return the line that counts for each name: the first one. In the order of the file."""
    found: dict[str, Line] = {}
    for line in lines:
        if line.name is not None:
            found.setdefault(line.name, line)
    return found


def _parse_line(raw: str) -> Line:
    text = raw.rstrip(_BLANKS)
    if ":" not in text or text.lstrip(_BLANKS).startswith("#"):
        return Line(raw, None, "", False)
    # What follows a second colon is ignored, as by Apache; passlib would refuse the whole file.
    name, hash = text.split(":")[:2]
    if not name:
        return Line(raw, None, "", False)
    return Line(raw, name, hash, hash.startswith(DISABLED_MARK))


def scheme_of(hash: str) -> str:
    """Return how `hash` (also a disabled user's) was made.

    One of bcrypt, sha256-crypt, sha512-crypt, apr1, md5-crypt, sha1, des-crypt, plaintext, unknown; the last
    never verifies. The ones that stock pypiserver knows.
    """
    hash = hash.lstrip(DISABLED_MARK)
    if _BCRYPT.fullmatch(hash):
        return "bcrypt"
    if hash.startswith("{SHA}"):
        return "sha1"
    for prefix, scheme in _PREFIXES.items():
        if hash.startswith(prefix):
            return scheme
    if _DES_CRYPT.fullmatch(hash):
        return "des-crypt"
    # `*` locks an account elsewhere; other marks announce a scheme that is not known here.
    return "unknown" if not hash or hash[0] in "${*" else "plaintext"


def is_weak(hash: str) -> bool:
    """Return whether `hash` is too easily guessed from, should the file be seen by others."""
    bcrypt = _BCRYPT.fullmatch(hash.lstrip(DISABLED_MARK))
    return int(bcrypt[1]) < MIN_BCRYPT_COST if bcrypt else scheme_of(hash) not in _STRONG


def verify(password: str, hash: str) -> bool:
    """Return whether `password` is the one that `hash` was made of. Never raises.

    False for a disabled user's hash, a broken or unknown one, and a password that the scheme cannot hold:
    over 72 bytes with bcrypt, or with a NUL in it.
    """
    try:
        given = encode(password)
    except UnicodeEncodeError:
        return False
    if hash.startswith(DISABLED_MARK) or b"\0" in given or len(given) > _MAX_PASSWORD_BYTES:
        return False
    scheme = scheme_of(hash)
    try:
        if scheme == "plaintext":
            return hmac.compare_digest(given, encode(hash))
        return _verifier(scheme)(given, hash)
    except Exception:  # libpass tells broken hashes by ValueError, TypeError and its own errors
        return False


def _verifier(scheme: str) -> Callable[[bytes, str], bool]:
    # Imported when used: libpass costs 130 ms.
    if scheme == "bcrypt":
        import bcrypt

        return lambda given, hash: bcrypt.checkpw(given, hash.encode("ascii"))
    if scheme not in _PASSLIB_NAMES:
        return lambda _given, _hash: False
    import passlib.hash

    handler: Any = getattr(passlib.hash, _PASSLIB_NAMES[scheme])
    return lambda given, hash: bool(handler.verify(given, hash))


def hash_password(password: str, cost: int = 12) -> str:
    """Return the bcrypt hash of `password` as `$2y$…`, which Apache, nginx and pypiserver understand.

    `cost` is bcrypt's logarithm of the rounds, 4 to 31. Raises ValueError (see `check_password`).
    """
    check_password(password)
    import bcrypt

    made = bcrypt.hashpw(password.encode("utf-8"), bcrypt.gensalt(cost)).decode("ascii")
    # The same algorithm by its other name: Apache does not know `$2b$`.
    return "$2y$" + made.removeprefix("$2b$")


def check_name(name: str) -> None:
    """Raise ValueError with the reason when `name` cannot be a user's name (RFC 7617, section 2)."""
    if not name:
        raise ValueError("the name is empty")
    if ":" in name:
        raise ValueError("a name cannot contain `:` (it ends the name in htpasswd and in HTTP)")
    if name != name.strip():
        raise ValueError("a name cannot begin or end with a blank")
    if name.startswith("#"):
        raise ValueError("a name cannot begin with `#` (that makes the line a comment)")
    if not name.isprintable():
        raise ValueError("a name cannot contain line breaks, control or invisible characters")
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        raise ValueError(f"a name has at most {MAX_NAME_BYTES} bytes")


def check_password(password: str) -> None:
    """Raise ValueError with the reason when `password` cannot be stored. Never shows it."""
    if not password:
        raise ValueError("the password is empty")
    if "\0" in password or "\n" in password or "\r" in password:
        raise ValueError("a password cannot contain line breaks or NUL characters")
    try:
        size = len(password.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError("the password is not valid UTF-8 text") from None
    if size > BCRYPT_MAX_BYTES:
        raise ValueError(f"the password has {size} bytes in UTF-8; bcrypt takes at most {BCRYPT_MAX_BYTES}")
