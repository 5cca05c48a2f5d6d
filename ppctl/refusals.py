"""msgspec's refusals in words for people: the key, what is wrong, and what is accepted."""

from __future__ import annotations

import re
from typing import Any

import msgspec

Schema = dict[str, Any]


def explain(error: msgspec.ValidationError, schema: Schema) -> str:
    """Return `key.path: what is wrong (accepted values)` for msgspec's message; `schema`: of the settings."""
    text, _, path = str(error).partition(" - at `")
    path = path.rstrip("`").removeprefix("$").lstrip(".")
    path = re.sub(r"\[(\d+)\]", r".\1", path).replace("[...]", "")
    unknown = re.match(r"Object contains unknown field `(.*)`", text)
    if unknown:
        key = f"{path}.{unknown[1]}" if path else unknown[1]
        return f"{key}: no such key{_suggestion(unknown[1], path, schema)}"
    quotes = ' (text is written in quotes, such as "3.10")' if text == "Expected `str`, got `float`" else ""
    return f"{path or 'settings'}: {_plain(text)}{_accepted(path, schema)}{quotes}"


def _plain(text: str) -> str:
    text = text.replace("`", "")
    for old, new in (
        ("Expected str matching regex", "expected text of the form"),
        ("Expected", "expected"),
        ("Invalid enum value", "not an accepted value:"),
        (" int", " a whole number"),
        (" str", " text"),
        (" bool", " true or false"),
        (" object", " keys and values"),
        (" array", " a list"),
        (" float", " a number"),
        (" null", " nothing"),
    ):
        text = text.replace(old, new)
    return text


def _field_at(path: str, schema: Schema) -> Any:
    """Return the schema of the key at `path`, following lists and nested structs; None if unknown."""
    definitions = schema["$defs"]
    node: Any = {"$ref": "#/$defs/Settings"}
    for part in path.split("."):
        node = resolve(node, definitions)
        if part.isdigit():
            node = node.get("items") or node.get("additionalProperties")
        else:
            node = node.get("properties", {}).get(part)
        if node is None:
            return None
    return resolve(node, definitions)


def resolve(node: Any, definitions: Schema) -> Any:
    """Return the part of the schema that `node` refers to, or itself."""
    for ref in [node.get("$ref"), *(option.get("$ref") for option in node.get("anyOf", []))]:
        if ref:
            return definitions[ref.rsplit("/", 1)[1]]
    return node


def _accepted(path: str, schema: Schema) -> str:
    node = _field_at(path, schema) if path else None
    if not node:
        return ""
    node = node.get("items", node)
    if "$ref" in node:
        node = resolve(node, schema["$defs"])
    if "enum" in node:
        return f" (accepted: {', '.join(node['enum'])})"
    if "minimum" in node and "maximum" in node:
        return f" (accepted: {node['minimum']} to {node['maximum']})"
    return ""


def _suggestion(key: str, path: str, schema: Schema) -> str:
    import difflib

    node = schema["$defs"]["Settings"] if not path else _field_at(path, schema)
    known = list((node or {}).get("properties", {}))
    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"
