"""Where a new password comes from: a prompt, stdin, a generator, or a ready hash.

Never from argv: every user of the machine can read that, and shells keep it in their history.
"""

from __future__ import annotations

import re
import secrets
import string
import sys
from dataclasses import dataclass
from enum import Enum

from ppctl.errors import PpctlError, UsageError
from ppctl.server import htpasswd
from ppctl.server.htpasswd import DISABLED_MARK

SHORT = 15
"""Characters: the fewest for a password that nothing else goes with (NIST SP 800-63B-4, 3.1.1.2)."""
SOON_GUESSED = f"fewer than {SHORT} characters: whoever gets hold of htpasswd may guess that"

_MAX_INPUT = 4096  # more than any password or hash
_ATTEMPTS = 3
_ALPHABET = string.ascii_letters + string.digits
_GENERATED_LENGTH = 24  # 62 ** 24: more than 2 ** 142
_MAX_BCRYPT_COST = 16  # as in the settings; checking a hash of cost 31 would keep a worker busy for days
_SHAPES = {
    "sha256-crypt": re.compile(r"\$5\$(rounds=\d{4,6}\$)?[^$:\s]{0,16}\$[./A-Za-z0-9]{43}"),
    "sha512-crypt": re.compile(r"\$6\$(rounds=\d{4,6}\$)?[^$:\s]{0,16}\$[./A-Za-z0-9]{86}"),
    "apr1": re.compile(r"\$apr1\$[^$:\s]{0,8}\$[./A-Za-z0-9]{22}"),
    "md5-crypt": re.compile(r"\$1\$[^$:\s]{0,8}\$[./A-Za-z0-9]{22}"),
    "sha1": re.compile(r"\{SHA\}[A-Za-z0-9+/]{27}="),
}


class Source(Enum):
    """Where a password comes from; the value is what people type to say so."""

    PROMPT = "the prompt"
    STDIN = "--password-stdin"
    GENERATE = "--generate"
    HASH_STDIN = "--hash-stdin"


@dataclass(frozen=True)
class Credentials:
    """The hash to store. `generated` is the password that was made up, to be shown once.

    `short`: it is known to have fewer than SHORT characters; a ready hash does not tell.
    """

    hash: str
    generated: str | None = None
    short: bool = False


def obtain(source: Source, *, cost: int, allow_weak: bool = False) -> Credentials:
    """Return new credentials from `source`, hashed with bcrypt of `cost` unless a hash was given.

    Raises UsageError with the reason when what was given cannot work, PpctlError when nothing was.
    """
    if source is Source.HASH_STDIN:
        hash = line_from_stdin(source)
        check_hash(hash, allow_weak=allow_weak)
        return Credentials(hash)
    if source is Source.GENERATE:
        password = generate()
        return Credentials(htpasswd.hash_password(password, cost), password)
    password = line_from_stdin(source) if source is Source.STDIN else _ask()
    _check(password)
    return Credentials(htpasswd.hash_password(password, cost), short=is_short(password))


def is_short(password: str) -> bool:
    """Return whether a password is so short that people are warned; it is taken all the same."""
    return len(password) < SHORT


def generate() -> str:
    """Return a new random password of letters and digits, which no client file needs to quote."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_GENERATED_LENGTH))


def check_hash(hash: str, *, allow_weak: bool) -> None:
    """Raise UsageError when `hash` is none that a server could check, or a weak one. Never shows it."""
    scheme = htpasswd.scheme_of(hash)
    if ":" in hash:
        raise UsageError("that is not a hash: there is a `:` in it", "give only what stands behind the colon")
    if hash.startswith(DISABLED_MARK) or scheme == "unknown":
        raise UsageError("that is not a hash of a known scheme", "make one: htpasswd -nB NAME")
    shape = _SHAPES.get(scheme)
    bcrypt_cost = int(hash[4:6]) if scheme == "bcrypt" else 0
    if (shape and not shape.fullmatch(hash)) or bcrypt_cost > _MAX_BCRYPT_COST:
        raise UsageError(f"that {scheme} hash is damaged, or too costly to check on every request")
    if htpasswd.is_weak(hash) and not allow_weak:
        what = "a bcrypt hash of low cost" if scheme == "bcrypt" else f"a hash of the scheme {scheme}"
        raise UsageError(f"{what} is too weak", "give a bcrypt hash, or say --allow-weak")


def _check(password: str) -> None:
    try:
        htpasswd.check_password(password)
    except ValueError as e:
        raise UsageError(str(e)) from None


def line_from_stdin(source: Source) -> str:
    """Return the one line on stdin without its newline. Raises UsageError; no message shows the line."""
    if sys.stdin.isatty():
        raise UsageError(
            f"{source.value} reads from a pipe or a file, and stdin is a terminal, which would show it",
            "without the option ppctl asks for the password",
        )
    content = sys.stdin.buffer.read(_MAX_INPUT + 1)
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise UsageError(f"{source.value}: there is nothing on stdin")
    if b"\n" in line or len(content) > _MAX_INPUT:
        raise UsageError(f"{source.value}: expected one line on stdin, and there is more")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{source.value}: what is on stdin is not UTF-8 text") from None


def _ask() -> str:
    """Return a password typed twice. Raises PpctlError where nobody can be asked, or gives up."""
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the password on",
            "pipe it in with --password-stdin, or let ppctl make one up: --generate",
        )
    from getpass import getpass

    try:
        for _ in range(_ATTEMPTS):
            password = getpass("New password: ")
            _check(password)
            if getpass("The same again: ") == password:
                return password
            print("The two differ; once more.", file=sys.stderr)
    except EOFError:
        raise PpctlError("no password was given; nothing was changed") from None
    except UnicodeDecodeError:
        raise UsageError("what was typed is not UTF-8 text") from None
    raise PpctlError("the two passwords differ; nothing was changed")
