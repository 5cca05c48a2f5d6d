"""Every key of ppctl.yml: its default, what is accepted, and how a refusal reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ppctl import refusals, sample, settings
from ppctl.errors import UsageError
from ppctl.settings import Action, Settings

FILE = Path("/srv/index/ppctl.yml")


def load(text: str | bytes) -> Settings:
    return settings.load(FILE, text if isinstance(text, bytes) else text.encode())


def test_a_key_with_nothing_behind_it_means_the_default() -> None:
    assert load("port:\nserver:\n  # versions: {}\n") == Settings()


def refusal(text: str | bytes) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(text)
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith(f"{FILE}: ")
    return caught.value


def keys(struct: type = Settings, prefix: str = "") -> list[str]:
    """Return every key, `server.python` and the like included."""
    found = []
    for each in msgspec.structs.fields(struct):
        nested = each.type.__origin__ if hasattr(each.type, "__metadata__") else each.type
        is_struct = isinstance(nested, type) and issubclass(nested, msgspec.Struct)
        found += keys(nested, f"{prefix}{each.name}.") if is_struct else [prefix + each.name]
    return found


# Key, default, a value that is accepted, one that is not, and what the refusal says after the key.
KEYS: list[tuple[str, Any, Any, Any, str]] = [
    ("name", "pypi", "team-1", "Team", "expected text of the form"),
    ("host", "127.0.0.1", "0.0.0.0", "pypi.example.com", "'pypi.example.com' is not an IP address"),
    ("port", 3141, 8080, 65536, "expected a whole number <= 65535 (accepted: 1 to 65535)"),
    ("manager", "auto", "systemd", "runit", "'runit' (accepted: auto, supervisor, systemd)"),
    ("mode", "embedded", "system", "user", "not an accepted value: 'user' (accepted: embedded, system)"),
    ("account", "pypi", "www-data", "root", "the workers must not run as root"),
    ("workers", 2, 64, 1, "expected a whole number >= 2 (accepted: 2 to 64)"),
    ("threads", 8, 1, 0, "expected a whole number >= 1 (accepted: 1 to 256)"),
    ("stop_timeout", 60, 3600, 3601, "expected a whole number <= 3600 (accepted: 1 to 3600)"),
    ("login", ["upload"], [], ["delete"], "'delete' (accepted: download, list, upload)"),
    ("upstream", "none", "redirect", "pypi", "not an accepted value: 'pypi' (accepted: cache, none"),
    ("upstream_url", "https://pypi.org/simple/", "http://h/simple/", "pypi.org", "expected text of the form"),
    ("private", [], ["Corp_X", "x?"], ["corp x"], "expected text of the form"),
    ("cache.max_size", "5GB", "500MB", "5G", "expected text of the form"),
    ("cache.refresh", 600, 0, 86401, "expected a whole number <= 86400 (accepted: 0 to 86400)"),
    ("overwrite", False, True, "sometimes", "expected true or false, got text"),
    ("ownership", False, True, "first", "expected true or false, got text"),
    ("max_upload_size", "4GB", "100MB", "0GB", "expected text of the form"),
    ("url_prefix", "", "/team/pypi", "pypi/", "expected text of the form"),
    ("public_url", "", "https://pypi.example.com/x", "https://u:p@host", "expected http:// or https://"),
    ("trusted_proxies", ["127.0.0.1", "::1"], ["192.0.2.0/24"], ["proxy"], "'proxy' is neither an IP"),
    ("password.bcrypt_cost", 12, 10, 17, "expected a whole number <= 16 (accepted: 10 to 16)"),
    ("logs.max_size", "10MB", "500kB", "10M", "expected text of the form"),
    ("logs.keep", 5, 0, 101, "expected a whole number <= 100 (accepted: 0 to 100)"),
    ("server.versions", {}, {"pypiserver": "2.4.1"}, {"Py_Pi": "1"}, "Py_Pi: not a normalized package name"),
    ("server.python", "", "3.12", 3.12, 'expected text, got a number (text is written in quotes'),
    ("server.index_url", "", "https://mirror/simple", "https://u:p@mirror", "no login in it"),
    ("server.find_links", "", "/srv/wheels", "wheels", "expected an absolute path"),
    ("server.keep_releases", 3, 1, 0, "expected a whole number >= 1 (accepted: 1 to 50)"),
]  # fmt: skip


def nested(key: str, value: Any) -> str:
    """Return ppctl.yml with one key."""
    outer, _, inner = key.rpartition(".")
    return json.dumps({outer: {inner: value}} if outer else {key: value})


def plain(value: Any) -> Any:
    built = msgspec.to_builtins(value)
    if isinstance(value, frozenset):
        return sorted(built)
    return list(built) if isinstance(value, tuple) else built


def get(found: Settings, key: str) -> Any:
    value: Any = found
    for part in key.split("."):
        value = getattr(value, part)
    return plain(value)


def test_the_table_has_every_key() -> None:
    assert [row[0] for row in KEYS] == keys()


@pytest.mark.parametrize(
    ("key", "default", "accepted", "_refused", "_message"), KEYS, ids=[k[0] for k in KEYS]
)
def test_defaults_and_accepted_values(
    key: str, default: Any, accepted: Any, _refused: Any, _message: str
) -> None:
    assert get(load(""), key) == default
    assert get(load(nested(key, accepted)), key) == accepted


@pytest.mark.parametrize(
    ("key", "_default", "_accepted", "refused", "message"), KEYS, ids=[k[0] for k in KEYS]
)
def test_refusals_name_the_key_and_what_is_accepted(
    key: str, _default: Any, _accepted: Any, refused: Any, message: str
) -> None:
    text = refusal(nested(key, refused)).message.removeprefix(f"{FILE}: ")
    assert re.match(rf"{key}(\.\w+)?: ", text), text
    assert message in text
    assert "`" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "prot: no such key (did you mean port?)"),
        ("server: {pyhton: x}", "server.pyhton: no such key (did you mean python?)"),
        ("logs: {xyz: x}", "logs.xyz: no such key (known: max_size, keep)"),
        ('port: "3141"', "port: expected a whole number, got text (accepted: 1 to 65535)"),
        ("port: yes", "port: expected a whole number, got true or false"),
        ("name: 2026-01-01", "name: expected text, got date"),
        ("login: upload", "login: expected a list, got text (accepted: download, list, upload)"),
        ("server: []", "server: expected keys and values, got a list"),
        ("server: {versions: {a: 'x y'}}", "server.versions: expected text of the form"),
        ("server: {find_links: /x, index_url: 'http://x/'}", "index_url and find_links exclude each other"),
        ("host: 'fe80::1%eth0'", "host: 'fe80::1%eth0' is not an IP address"),
        ("host: 10.0.0.0/8", "host: '10.0.0.0/8' is not an IP address"),
        ("port: 1\nname: x\nport: 2", "not valid YAML: the key `port` is given twice (line 3, column 1)"),
        ("server:\n  python: a\n  python: b", "the key `python` is given twice (line 3, column 3)"),
        ("a: b: c", "not valid YAML: mapping values are not allowed here (line 1, column 5)"),
        ("port: 2026-13-45", "not valid YAML: month must be in 1..12"),
        ("[" * 600, "not valid YAML: nested too deeply"),
        ("!!python/object:os.system {}", "not valid YAML: could not determine a constructor"),
        ("a: &a [*a]", "not valid YAML: found unconstructable recursive node"),
        ("- a", "expected keys and values, such as `port: 3141`"),
        ("true", "expected keys and values"),
        ("1: 2", "1: keys are text"),
        ("server: {versions: {1: '2'}}", "server.versions.1: keys are text"),
        (b"port: \xff", "not UTF-8 text (byte 6)"),
        (b"port: 1\x00", "not valid YAML: unacceptable character #x0000"),
    ],
)  # fmt: skip
def test_other_refusals(text: str | bytes, message: str) -> None:
    assert message in refusal(text).message


@pytest.mark.parametrize(
    "key", ["name", "url_prefix", "upstream_url", "public_url", "server.python", "account"]
)
def test_a_line_end_cannot_hide_at_the_end_of_a_text(key: str) -> None:
    """`$` in a pattern lets one pass, and it would break the generated files."""
    good = next(row[2] for row in KEYS if row[0] == key)
    assert f"{key}: there are control characters" in refusal(nested(key, f"{good}\n")).message


def test_only_one_login_key_replaces_the_default() -> None:
    assert load("login: [list, download]").login == {Action.LIST, Action.DOWNLOAD}


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:3141"),
        ("host: 0.0.0.0\nport: 80", "http://127.0.0.1:80"),
        ("host: '::'\nurl_prefix: /x", "http://[::1]:3141/x"),
        ("host: localhost", "http://localhost:3141"),
        ("public_url: https://pypi.example.com/x/\nurl_prefix: /y", "https://pypi.example.com/x"),
    ],
)
def test_urls(text: str, url: str) -> None:
    found = load(text)
    assert (found.url, found.simple_url, found.upload_url) == (url, f"{url}/simple/", f"{url}/")


# -- sample and schema -----------------------------------------------------------------------------------


def test_the_sample_is_the_defaults() -> None:
    assert load(sample.text({})) == Settings()
    assert len([line for line in sample.text({}).splitlines() if not line.startswith("#") and line]) == 0


def test_the_sample_with_values_says_them() -> None:
    values = {"name": "team", "port": 4000, "manager": "systemd", "host": "0.0.0.0", "mode": "system"}
    assert load(sample.text(values)) == settings.from_data(values, "here")


def test_each_default_of_the_sample_can_be_uncommented() -> None:
    text = sample.text({})
    for name in Settings.__struct_fields__:
        lines = text.splitlines()
        start = next(i for i, line in enumerate(lines) if re.match(rf"# {name}:( |$)", line))
        end = start + 1
        while lines[end : end + 1] and lines[end].startswith("#   "):
            end += 1
        lines[start:end] = [line.removeprefix("# ") for line in lines[start:end]]
        assert load("\n".join(lines)) == Settings(), name


def test_the_reference_has_every_key() -> None:
    assert [row[0] for row in sample.rows()] == keys()
    assert all(meaning.endswith(".") and default for _, _, default, meaning in sample.rows())


def test_the_schema_agrees() -> None:
    """The schema is msgspec's own; what it is asked here is that it says the same as the loader."""
    schema = settings.json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    json.dumps(schema)
    properties = schema["$defs"]["Settings"]["properties"]
    assert list(properties) == list(Settings.__struct_fields__)
    assert schema["$defs"]["Settings"]["additionalProperties"] is False
    assert all("description" in node for node in properties.values())
    for key, default, accepted, refused, _ in KEYS:
        node = schema["$defs"]["Settings"]
        for part in key.split("."):
            node = refusals.resolve(node["properties"][part], schema["$defs"]) | {}
        assert conforms(default, node, schema["$defs"]) and conforms(accepted, node, schema["$defs"]), key
        if key not in CHECKED_BESIDE_THE_SCHEMA:
            assert not conforms(refused, node, schema["$defs"]), key


CHECKED_BESIDE_THE_SCHEMA = {
    *("host", "account", "public_url", "trusted_proxies"),
    *("server.versions", "server.index_url", "server.find_links"),
}
"""What a schema cannot say, or not in a way that makes a good message."""


def conforms(value: Any, node: dict[str, Any], definitions: dict[str, Any]) -> bool:
    """Return whether `value` is valid: the part of JSON schema that ours uses."""
    if "$ref" in node:
        return conforms(value, definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "enum" in node and value not in node["enum"]:
        return False
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    if "type" in node and type(value) is not kinds[node["type"]]:
        return False
    if isinstance(value, str):
        return len(value) >= node.get("minLength", 0) and bool(re.search(node.get("pattern", ""), value))
    if isinstance(value, list):
        return all(conforms(each, node["items"], definitions) for each in value)
    if isinstance(value, int):
        return bool(node.get("minimum", value) <= value <= node.get("maximum", value))
    return True
