"""What a host has answered, in a few words for the table of `--on`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ppctl.fleet import FAILED, OK, UNREACHABLE, HostResult
from ppctl.output import counted
from ppctl.server.permissions import describe, from_data

Result = Mapping[str, Any]

UNCHANGED = ("nothing to change", "nothing to do")
"""The words for an index that is left as it was."""


def summary(name: str, result: HostResult) -> Iterator[tuple[str, bool, str]]:
    """Yield index, whether all is well, and what happened; one for each index of the host."""
    answers = [each for part in result.parts for each in part.get("results", [])]
    if name == "up":
        yield from _up(result)
        return
    for answer in answers:
        error = answer.get("error")
        if error:
            yield answer["index"], False, error["message"]
        else:
            found = answer.get("result", {})
            yield answer["index"], answer.get("exit_code", 0) == 0, _WORDS.get(name, _done)(found)
    if not answers:
        words = _first_line(result.message) or ("no index here" if result.state == OK else "")
        yield "-", result.state == OK, words


def indexes(result: HostResult) -> list[Result]:
    """Return for programs what the host says of each index."""
    found = [
        each
        for part in result.parts
        if {"results", "ppctl_index_name", "ppctl_users_index"} & set(part)
        for each in part.get("results", [part])
    ]
    if found or result.state != OK:
        return found
    names = (name for part in result.parts for name in part.get("indexes", []))
    return [{"ppctl_index_name": name, "changed": False, "changes": []} for name in names]


def _up(result: HostResult) -> Iterator[tuple[str, bool, str]]:
    counts: dict[str, int] = {}
    notes: dict[str, str] = {}
    failed: set[str] = set()
    lacking: list[str] = []
    for part in result.parts:
        if not part.get("pending"):  # a look at all of them was enough
            counts.update(dict.fromkeys(part.get("indexes", []), 0))
        name = part.get("ppctl_index_name") or part.get("ppctl_users_index")
        if name:
            counts[name] = counts.get(name, 0) + len(part.get("changes", []))
            if part.get("failed"):
                failed.add(name)
            # Or in check mode, where there is no plan yet.
            if part.get("failed") or (part.get("changed") and not part.get("changes")):
                notes[name] = _first_line(str(part.get("msg", "")))
        lacking += _lacking(part)
    if lacking:
        yield "-", True, f"the host: {', '.join(lacking)}"
    for name, count in counts.items():
        words = counted(count, "change") if count else UNCHANGED[0]
        yield name, name not in failed, notes.get(name) or words
    if (result.state != OK and not failed) or not (counts or lacking):
        yield "-", result.state == OK, _first_line(result.message)


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _lacking(part: Result) -> list[str]:
    """Return what the role that prepares hosts has found missing."""
    return [] if "indexes" in part else list(part.get("pending", []))


def plans(results: Sequence[HostResult]) -> Iterator[str]:
    """Yield what a dry run of `up` would do, with diffs; once for all hosts where it is the same."""
    hosts: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        for part in result.parts:
            planned = tuple(_planned(part))
            if planned:
                hosts.setdefault(planned, []).append(result.host)
    for planned, names in hosts.items():
        yield f"{', '.join(names)}: {planned[0]}"
        yield from planned[1:]


def _planned(part: Result) -> Iterator[str]:
    """Yield what is changed (an index, or the host), and line by line how."""
    lacking = _lacking(part)
    if lacking:
        yield "the host"
        yield from (f"  install  {name}" for name in lacking)
    name = part.get("ppctl_index_name") or part.get("ppctl_users_index")
    if name is None or not part.get("changed"):
        return
    yield str(name)
    if part.get("msg"):
        yield f"  {part['msg']}"
    for change in part.get("changes", []):
        detail = change.get("summary") or change.get("detail")
        target = change.get("target") or change.get("user")
        yield f"  {change['action']:8} {target}" + (f"  ({detail})" if detail else "")
        if change.get("interrupts"):
            yield f"      warning: {change['interrupts']}"
        yield from (f"      {line}" for line in str(change.get("diff", "")).splitlines())


def _status(found: Result) -> str:
    workers = found.get("workers", [])
    answering = sum(bool(worker["answers"]) for worker in workers)
    words = f"{found['health']}, {answering} of {counted(len(workers), 'worker')}"
    if "packages" in found:
        words += f", {counted(found['packages'], 'package')}, {counted(found['users'], 'user')}"
    return words


def _users(found: Result) -> str:
    return ", ".join(_with_words(user) for user in found["users"]) or "no users"


def _with_words(user: Result) -> str:
    words = ["disabled"] if user["disabled"] else []
    if user.get("permissions"):
        words.append(f"may: {describe(from_data(user['permissions']))}")
    return f"{user['name']} ({'; '.join(words)})" if words else str(user["name"])


def lines(name: str, result: HostResult) -> Iterator[str]:
    """Yield what a host's logs, or audit logs, say; nothing for other commands."""
    for answer in (each for part in result.parts for each in part.get("results", [])):
        found = answer.get("result", {})
        where = f"{result.host} {answer['index']}"
        if name == "logs":
            for log in found.get("logs", []):
                yield from (f"{where} worker {log['worker']}: {line}" for line in log["lines"])
            yield from (f"{where} cache: {line}" for line in found.get("cache", []))
        elif name == "audit":
            for entry in found.get("entries", []):
                detail = f" ({entry['detail']})" if entry.get("detail") else ""
                yield f"{where}: {entry['time']}  {entry['by']}  {entry['action']} {entry['user']}{detail}"


def _tokens(found: Result) -> str:
    words = []
    for token in found["tokens"]:
        ends = "over" if token["expired"] else token["expires"] or "never ends"
        words.append(f"{token['name']} ({token['user']}, {ends})")
    return ", ".join(words) or "no tokens"


def _logs(found: Result) -> str:
    lines = [*(each["lines"] for each in found["logs"]), found.get("cache", [])]
    return counted(sum(map(len, lines)), "line")


def _audit(found: Result) -> str:
    return f"{len(found['entries'])} entries"


def findings(results: Sequence[HostResult]) -> Iterator[str]:
    """Yield what `ppctl doctor` has found wrong, and what to type there; the same only once."""
    places: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for answer in (each for part in result.parts for each in part.get("results", [])):
            for found in _bad(answer.get("result", {})):
                where = f"{found['where']}: " if found["where"] else ""
                said = f"{found['severity']}: {found['check']}: {where}{found['message']}"
                places.setdefault((said, found["mend"]), []).append(f"{result.host} {answer['index']}")
    for (said, mend), names in places.items():
        first, *rest = said.splitlines()
        yield f"{', '.join(names)}: {first}"
        yield from (f"    {line}" for line in rest)
        if mend:
            yield f"    mend, on the host: {mend}"


def _bad(found: Result) -> list[Result]:
    return [each for each in found.get("findings", []) if each["severity"] in ("problem", "warning")]


def _doctor(found: Result) -> str:
    severities = [each["severity"] for each in _bad(found)]
    words = [counted(severities.count(word), word) for word in ("problem", "warning") if word in severities]
    return ", ".join(words) or "nothing wrong"


def _done(found: Result) -> str:
    return "done" if found.get("changed") else UNCHANGED[1]


def _user(words: str) -> Callable[[Result], str]:
    """Return what tells of a change to one user; `words` has a place for the name."""

    def tell(found: Result) -> str:
        return words.format(found["user"]) if found.get("changed") and "user" in found else _done(found)

    return tell


def _removed(found: Result) -> str:
    return f"{', '.join(found['removed'])} removed" if found.get("removed") else _done(found)


def _workers(word: str) -> Callable[[Result], str]:
    """Return what tells of workers that were started, stopped or restarted."""

    def tell(found: Result) -> str:
        numbers = ", ".join(str(number) for number in found.get("workers", []))
        noun = "worker" if numbers.isdigit() else "workers"
        return f"{noun} {numbers} {word}" if numbers else _done(found)

    return tell


def _may(found: Result) -> str:
    """Tell of a change to what a user may do."""
    if "user" not in found:
        return _done(found)
    rights = from_data(found["permissions"]) if found.get("permissions") else None
    words = f"may: {describe(rights)}" if rights else "may read and upload everything"
    return f"{found['user']} {words}" + ("" if found.get("changed") else " already")


def _token(found: Result) -> str:
    if not (found.get("changed") and "name" in found):
        return _done(found)
    # What was made has an end, what is gone has none.
    return f"token {found['name']} of {found['user']} {'made' if 'expires' in found else 'revoked'}"


def _applied(found: Result) -> str:
    return ", ".join(f"{each['action']} {each['user']}" for each in found.get("changes", [])) or _done(found)


_WORDS: dict[str, Callable[[Result], str]] = {
    "status": _status,
    "users": _users,
    "token list": _tokens,
    "logs": _logs,
    "audit": _audit,
    "doctor": _doctor,
    "adduser": _user("{} added"),
    "passwd": _user("new password of {}"),
    "deluser": _removed,
    "disable": _user("{} disabled"),
    "enable": _user("{} enabled"),
    "start": _workers("started"),
    "stop": _workers("stopped"),
    "restart": _workers("restarted"),
    "users apply": _applied,
    "user": _may,
    "token": _token,
}

_HINTS = {
    "sudo password": "-K asks for sudo's password; or ansible_become_password in a vault",
    "interpreter": "install Python 3.10 or newer there, or set ansible_python_interpreter in the inventory",
    "ppctl is not installed": "ppctl up --on PATTERN, or the playbook site.yml, installs it",
    "several indexes are on": "--index NAME means one of them, --index all each of them",
    "reached over ssh": "try it: ansible HOST -m ping; when it is back, run the same command again",
}


def hints(results: Sequence[HostResult]) -> list[str]:
    """Return what to do about the failures, each thing once: what the hosts' ppctl says, or we know."""
    found: list[str] = []
    for result in results:
        if result.state in (FAILED, UNREACHABLE):
            found += [hint for words, hint in _HINTS.items() if words in result.message]
        for part in result.parts:
            found.append(str(part.get("msg", "")).partition("\nhint: ")[2])
            found += [(each.get("error") or {}).get("hint", "") for each in part.get("results", [])]
    return list(dict.fromkeys(filter(None, found)))
