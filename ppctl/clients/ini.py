"""Where things are in a file that `configparser` reads, so that it can be edited line by line.

Follows configparser's rules (https://docs.python.org/3/library/configparser.html#supported-ini-file-structure):
whole-line comments with # and ;, `=` and `:`, values that go on in deeper indented lines, comments and
empty lines inside them.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ppctl.clients import blocks
from ppctl.clients.base import Refused

Parsed = dict[str, dict[str, str]]
"""What `parse` returns: the sections' options; those of [DEFAULT] stand only there."""

_OPTION = re.compile(r"(?P<key>.*?)\s*(?P<delimiter>[=:])\s*(?P<value>.*)$")


@dataclass
class Option:
    """A key in lines `start` to `end`; `words` are the words of its value with the number of their line."""

    key: str
    start: int
    end: int
    words: list[tuple[int, str]] = field(default_factory=list)

    @property
    def value(self) -> str:
        """The value, its words separated by blanks."""
        return " ".join(word for _, word in self.words)


@dataclass
class Section:
    """A section whose header is line `start` and whose last option ends before line `end`."""

    name: str
    start: int
    end: int
    options: list[Option] = field(default_factory=list)

    def get(self, key: str) -> Option | None:
        """Return the option `key`, or None."""
        return next((option for option in self.options if option.key == key), None)


def scan(lines: Sequence[str], normalize: Callable[[str], str] = str.lower) -> list[Section]:
    """Return the sections in `lines`, which `parse` has found to be valid."""
    sections: list[Section] = []
    option: Option | None = None
    indent = 0
    for number, line in enumerate(lines):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        column = len(indentation(line))
        if option and column > indent:
            option.words += [(number, word) for word in text.split()]
            option.end = sections[-1].end = number + 1
            continue
        indent = column
        header = re.match(r"\[(?P<name>.+)\]", text)
        found = _OPTION.match(text)
        if header:
            sections.append(Section(header["name"], number, number + 1))
            option = None
        elif sections and found:
            words = [(number, word) for word in found["value"].split()]
            option = Option(normalize(found["key"]), number, number + 1, words)
            sections[-1].options.append(option)
            sections[-1].end = number + 1
    return sections


def section(lines: Sequence[str], name: str, normalize: Callable[[str], str] = str.lower) -> Section | None:
    """Return the section `name` in `lines`, or None."""
    return next((each for each in scan(lines, normalize) if each.name == name), None)


def indentation(line: str) -> str:
    """Return the white space at the beginning of `line`."""
    return line[: len(line) - len(line.lstrip())]


def first_indentation(lines: Sequence[str], inside: Section) -> str:
    """Return the indentation that an option needs right after the header of the section `inside`.

    The same as the next one's: less, and configparser would take the next option for the rest of ours.
    """
    return indentation(lines[inside.options[0].start]) if inside.options else ""


def parse(text: str, normalize: Callable[[str], str] = str.lower) -> Parsed:
    """Return what configparser (raw, as twine and pip use it) reads in `text`. Raises Refused."""
    parser = configparser.RawConfigParser()
    parser.optionxform = normalize  # type: ignore[method-assign,assignment]
    try:
        parser.read_string(text)
    except configparser.Error as e:
        # Only the line's number: the line itself may hold a password.
        number = getattr(e, "lineno", None) or next((n for n, _ in getattr(e, "errors", [])), None)
        where = f" (line {number})" if number else ""
        raise Refused(
            f"the file is not valid: {type(e).__name__}{where}; its own program cannot read it either",
            "mend that line first; nothing was changed",
        ) from None
    shared = dict(parser.defaults())
    own = {name: dict(parser.items(name)) for name in parser.sections()}
    for options in own.values():
        for key in [key for key, value in shared.items() if options[key] == value]:
            del options[key]
    return {**own, "DEFAULT": shared}


def take_out(text: str, name: str) -> str:
    """Return `text` without the blocks of the index `name`.

    Where somebody has added options below a block, the header that they belong to stays with them.
    """
    lines = blocks.split(text)
    sections = scan(lines)
    for block in reversed(blocks.find(lines, name)):
        for each in sections:
            if block.start < each.start < block.end < each.end:
                lines.insert(block.end, lines[each.start])
    return blocks.take_out("".join(lines), name)
