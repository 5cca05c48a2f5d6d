"""Commands with `--on`: what is asked of the hosts, and one table of what they answered."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ppctl import fleet
from ppctl.commands.fleet_words import UNCHANGED, findings, hints, indexes, lines, plans, summary
from ppctl.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, PpctlError
from ppctl.fleet import HostResult, Target
from ppctl.live import progress
from ppctl.output import Output
from ppctl.server.permissions import describe, from_data
from ppctl.server.text import printable

Row = tuple[str, str, str, str]
"""Host, index, result, what."""

READ_ONLY = frozenset({"status", "logs", "doctor", "audit", "users", "token list"})


def command(
    target: Target,
    argv: Sequence[str],
    out: Output,
    *,
    stdin: str = "",
    made: Mapping[str, str] | None = None,
) -> int:
    """Run `ppctl argv...` on the hosts; one Ansible task each. Returns the exit code.

    `made`: a password or a token that was made up, to be told programs.
    """
    name = _name(argv)
    results = ask(target, argv, out, stdin=stdin)
    if name == "adduser":
        kept = [result.host for result in results if result.state == fleet.OK and not result.changed]
        if kept:
            out.warn(
                f"there already, with the password as before: on {', '.join(kept)} (see ppctl passwd --on)"
            )
    if name == "doctor":
        for line in findings(results):
            out.text(printable(line))
    code = report(name, results, out, made=made, again=lambda hosts: target.command(argv[:2], hosts))
    ill = [result.host for result in results if result.state == fleet.OK and not _is_well(name, result)]
    if name == "status" and ill:
        out.hint(f"{target.command(['doctor'], ill)} says what is wrong")
    return code


def _is_well(name: str, result: HostResult) -> bool:
    return all(healthy for _, healthy, _ in summary(name, result))


def _name(argv: Sequence[str]) -> str:
    names = (" ".join(argv[:count]) for count in (2, 1))
    return next((name for name in names if name in ("users apply", "users export", "token list")), argv[0])


def ask(target: Target, argv: Sequence[str], out: Output, *, stdin: str = "") -> list[HostResult]:
    """Run `ppctl argv...` on the hosts and return what they answered."""
    read_only = _name(argv) in READ_ONLY
    variables: dict[str, Any] = {
        "ppctl_on": target.pattern,
        "ppctl_command": list(argv),
        "ppctl_read_only": read_only,
        # Whoever only looks means every index; whoever changes something says which, if there are several.
        "ppctl_index": target.index or ("all" if read_only else ""),
        "ppctl_home": target.home,
    }
    if stdin:
        variables["ppctl_stdin"] = stdin
    if argv[0] == "restart":
        variables["ppctl_serial"] = [1, "100%"]  # the first host is the canary
    with progress(out) as tell:
        return fleet.run("playbooks/command.yml", target, variables, tell)


def up(target: Target, out: Output, *, dry_run: bool) -> int:
    """Bring the hosts to what the inventory says: the playbook site.yml. Returns the exit code."""
    options = ["--limit", target.pattern, *(["--check", "--diff"] if dry_run else [])]
    with progress(out) as tell:
        results = fleet.run("site.yml", target, {"ppctl_hosts": "all"}, tell, options=options)
    if dry_run:
        for line in plans(results):
            out.text(printable(line))
    return report("up", results, out)


def report(
    name: str,
    results: Sequence[HostResult],
    out: Output,
    *,
    made: Mapping[str, str] | None = None,
    again: Callable[[Sequence[str]], str] | None = None,
) -> int:
    """Print the table, and who is done and who is not. Returns the exit code.

    `made`: a password or a token that was made up; `again` returns what to type to finish with the password
    on hosts.
    """
    for result in results:
        for line in lines(name, result):
            out.text(printable(line))
    rows = [row for result in results for row in _rows(name, result)]
    out.table(["host", "index", "result", "what"], _on_a_screen(rows, out) if name == "status" else rows)
    failed = sorted({row[0] for row in rows if row[2] in (fleet.FAILED, fleet.UNREACHABLE, "not well")})
    waiting, interrupted = (
        [result.host for result in results if result.state == state]
        for state in (fleet.NOT_BEGUN, fleet.INTERRUPTED)
    )
    left = [*failed, *waiting, *interrupted]
    done = [result.host for result in results if result.host not in left]
    if left:
        rest = _the_same(results, left, made, again)
        _tell_what_is_left(out, name, (done, left), hints(results), rest)
        if interrupted:
            # With what was made up it goes on as was said above.
            on = "" if rest else f"; {_go_on(name, failed)}"
            out.warn(f"interrupted: {', '.join(interrupted)} had not answered{on}")
        elif name not in READ_ONLY and not rest:
            out.warn("mend the cause and run the same command again: what is done stays as it is")
        if made and not rest:
            out.warn("the password above was set nowhere: the next run makes up another one")
    data: dict[str, Any] = {
        "hosts": [_data(result) for result in results],
        "done": done,
        "failed": failed,
        "not_begun": waiting,
        "interrupted": interrupted,
        **(made or {}),
    }
    code = EXIT_INTERRUPTED if interrupted else EXIT_FAILED if left else EXIT_OK
    return out.result(data, exit_code=code)


def _rows(name: str, result: HostResult) -> Iterator[Row]:
    """Yield a row of the table for each index of a host."""
    for index, healthy, words in summary(name, result):
        state = "ok" if healthy else "not well" if result.state == fleet.OK else result.state
        if state == "ok" and result.changed and words not in UNCHANGED:
            state = "changed"
        yield result.host, index, state, printable(words)


def _the_same(
    results: Sequence[HostResult],
    left: Sequence[str],
    made: Mapping[str, str] | None,
    again: Callable[[Sequence[str]], str] | None,
) -> str:
    """Return how the hosts that are left get the password or token that was made up; "" where none has it."""
    if made and "token" in made:
        return "token, give it on standard input: --token-stdin"
    if made and again and _may_be_set(results):
        return f"password, type it in: {again(left)}"
    return ""


def _may_be_set(results: Sequence[HostResult]) -> bool:
    """Whether a host has the password that was made up, or may have taken it before it went silent."""
    return any(
        result.state not in (fleet.FAILED, fleet.NOT_BEGUN)
        or any(
            each.get("result", {}).get("changed") for part in result.parts for each in part.get("results", [])
        )
        for result in results
    )


def _on_a_screen(rows: Sequence[Row], out: Output) -> Sequence[Row]:
    """Return the rows, on a terminal that is too small for them one for each host where all is well."""
    room = shutil.get_terminal_size().lines - 4  # the header, the command, what is said below
    if len(rows) <= room or not out.stdout.isatty():
        return rows
    found: list[Row] = []
    for host, group in itertools.groupby(rows, key=lambda row: row[0]):
        own = list(group)
        if len(own) > 1 and all(row[2] == "ok" for row in own):
            names = ", ".join(row[1] for row in own)
            own = [(host, f"all {len(own)}", "ok", f"healthy: {names}")]
        found += own
    return found


def _tell_what_is_left(
    out: Output, name: str, hosts: tuple[Sequence[str], Sequence[str]], found: Sequence[str], rest: str
) -> None:
    """Tell people which hosts are done and which are not, and what to do about it."""
    names = [", ".join(each) or "none" for each in hosts]
    if name in READ_ONLY:
        out.warn("well: {}; not well: {}".format(*names))
    else:
        out.warn("done: {}; not done: {}".format(*names))
    for hint in found:
        out.hint(hint)
    if rest:
        out.warn(f"to finish with the same {rest}")


def _go_on(name: str, failed: Sequence[str]) -> str:
    """Return what to do after Ctrl-C."""
    again = "run the same command again"
    if name in READ_ONLY:
        return again
    return f"{'mend the cause and ' if failed else ''}{again} to finish: what is done stays as it is"


def _data(result: HostResult) -> Mapping[str, Any]:
    return {
        "host": result.host,
        "state": result.state,
        "changed": result.changed,
        "message": result.message,
        "indexes": indexes(result),
    }


def differences(target: Target, out: Output) -> int:
    """Show where the users of the hosts' indexes differ. Returns the exit code."""
    results = ask(target, ["users"], out)
    there: dict[str, dict[str, str]] = {}
    hashes: dict[str, set[str]] = {}
    places = []
    for result in results:
        for answer in (each for part in result.parts for each in part.get("results", [])):
            place = f"{result.host} {answer['index']}"
            places.append(place)
            for user in answer.get("result", {}).get("users", []):
                there.setdefault(user["name"], {})[place] = _user_words(user)
                hashes.setdefault(user["name"], set()).add(user.get("hash_id", ""))
    rows = []
    for name, found in sorted(there.items()):
        words = [found.get(place, "missing") for place in places]
        if len(set(words)) > 1:
            rows += [(printable(name), place, each) for place, each in zip(places, words, strict=True)]
    failed = [result.host for result in results if result.state != fleet.OK]
    if rows:
        out.table(["user", "host and index", "is"], rows)
    elif places:
        where = "on those that have answered" if failed else "everywhere"
        out.info(f"the users are the same {where}: {len(there)} on {len(places)} indexes")
    hashed_apart = sorted(name for name, found in hashes.items() if len(found) > 1)
    if hashed_apart:
        out.info(
            f"hashed on each host by itself, so the password may be another one: {', '.join(hashed_apart)}"
        )
    for result in results:
        if result.host in failed:
            out.warn(f"{result.host}: {result.state} {result.message}".rstrip())
    for hint in hints(results):
        out.hint(hint)
    data = {
        "differences": [{"user": user, "where": place, "is": words} for user, place, words in rows],
        "hashed_apart": hashed_apart,
        "failed": failed,
    }
    return out.result(data, exit_code=EXIT_FAILED if failed else EXIT_OK)


def _user_words(user: Mapping[str, Any]) -> str:
    words = str(user["scheme"]) + (", disabled" if user["disabled"] else "")
    if user.get("permissions"):
        words += f"; may {describe(from_data(user['permissions']))}"
    return words


def copy_users(source: Target, target: Target, out: Output, *, exclusive: bool) -> int:
    """Bring the users of the hosts in line with those of one host. Returns the exit code."""
    variables = {
        "ppctl_on": source.pattern,
        "ppctl_command": ["users", "export"],
        "ppctl_read_only": True,
        "ppctl_index": source.index,
        "ppctl_home": source.home,
    }
    with progress(out) as tell:
        results = fleet.run("playbooks/command.yml", source, variables, tell, is_secret=True)
    answers = [each for result in results for part in result.parts for each in part.get("results", [])]
    if len(results) != 1 or len(answers) != 1 or "result" not in answers[0]:
        message = "; ".join(filter(None, (result.message for result in results)))
        raise PpctlError(
            f"--from {source.pattern}: not the users of one index on one host: {message or len(answers)}",
            "name one host; where it has several indexes also --index NAME",
        )
    declaration = {**answers[0]["result"], "exclusive": exclusive, "allow_weak": True}
    # What begins like JSON, Ansible before 2.19 hands on as what Python prints of it.
    return command(target, ["users", "apply", "-"], out, stdin="\n" + json.dumps(declaration))
