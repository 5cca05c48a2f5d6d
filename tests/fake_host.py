"""An in-memory machine for tests, with a hook before every change so that a test can pull the plug.

`tests/test_host.py` runs the same contract against this one and against the real one.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ppctl.errors import CommandFailed, PpctlError
from ppctl.host import TEMPORARY, Completed, FileInfo, FileSystem, Kind, WaitAnnouncer, telling

MIDWAY = ("write", "copy_file", "link", "append", "remove_tree")
"""The operations that a kill can hit in the midst."""

ROOT = Path("/")
MAX_LINKS = 40  # like the kernel (path_resolution(7))


class Killed(BaseException):
    """The process was killed here: no `except Exception` may catch it."""


@dataclass
class Node:
    """A file, directory or link."""

    kind: Kind
    mode: int
    owner: str
    group: str
    content: bytes = b""
    target: str = ""
    mtime: float = 0.0


@dataclass(frozen=True)
class Run:
    """One program that was run."""

    argv: tuple[str, ...]
    input: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


Answer = Completed | str | Callable[[Run], "Completed | str | None"]


@cache
def _way(path: Path) -> tuple[Path, ...]:
    """Return what is on the way to `path`, from the root to itself; nothing if there is a `..` in it.

    The same objects each time: pathlib takes its time to make and to compare them.
    """
    assert path.is_absolute(), path
    if path == ROOT:
        return (ROOT,)
    above = _way(path.parent)
    return (*above, path) if above and path.name != ".." else ()


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FakeHost:
    """A machine in memory.

    - `nodes`: every file, directory and link, by absolute path; `put()` makes one without the hook.
    - `programs`: name to path, for `which`; `answer(prefix, ...)` says what a program does, `runs` what ran.
    - `operations`: the changes that were made, as `(operation, arguments)`; `before` is called with the
      same two before each and may raise (`kill_at(n)` makes it raise `Killed`).
    - `file_systems`: what `file_system` answers, by directory; the deepest one above a path counts.
    - `locks`: the locks that were taken, as `(path, purpose)`; `hold()` makes another process hold one.
    """

    def __init__(
        self,
        *,
        user: str | None = None,
        root: bool = False,
        accounts: Mapping[str, str] | None = None,
        announce: WaitAnnouncer | None = None,
    ) -> None:
        self._user = user or ("root" if root else "operator")
        self.root = root
        self.accounts = {"root": "root", self._user: self._user, **(accounts or {})}
        self.nodes: dict[Path, Node] = {ROOT: Node("directory", 0o755, "root", "root")}
        self.file_systems = {ROOT: FileSystem(100 * 2**30, 50 * 2**30, 1_000_000, 500_000)}
        self.programs: dict[str, str] = {}
        self.runs: list[Run] = []
        self.operations: list[tuple[str, tuple[Any, ...]]] = []
        self.locks: list[tuple[Path, str]] = []
        self.held: dict[Path, str] = {}
        self.before: Callable[[str, tuple[Any, ...]], None] | None = None
        self.pid = 1000
        self._dies_midway = False
        self._answers: dict[tuple[str, ...], Answer] = {}
        self._announce = announce
        self._clock = 1_700_000_000.0

    # -- for tests ---------------------------------------------------------------------------------

    def put(
        self, path: Path | str, content: bytes | str = b"", *, mode: int = 0o644, owner: str | None = None
    ) -> None:
        """Make a file and its parents, without the hook."""
        path = Path(path)
        self._parents(path.parent)
        data = content.encode() if isinstance(content, str) else content
        self.nodes[self._find(path)] = self._new("file", mode, owner, content=data)

    def answer(self, *prefix: str, by: Answer = "") -> None:
        """Register what programs do whose argv starts with `prefix` (the longest match counts).

        `by`: what it prints, a Completed, or a function of the Run that returns either.
        """
        self._answers[prefix] = by
        self.programs.setdefault(prefix[0], prefix[0] if "/" in prefix[0] else f"/usr/bin/{prefix[0]}")

    def kill_at(self, step: int, *, midway: bool = False) -> None:
        """Raise Killed before the `step`-th change from now on (1 is the next one).

        `midway`: in the midst of it, where it has one: the temporary file is written and not yet renamed,
        half of a tree is removed, half of a line is appended.
        """
        left = step

        def before(operation: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self.pid += 1  # whoever comes next is another process
                if midway and operation in MIDWAY:
                    self._dies_midway = True
                else:
                    raise Killed(f"before {operation} {arguments[:1]}")

        self.before = before

    def hold(self, path: Path, holder: str = "`ppctl up` by somebody (pid 4711)") -> None:
        """Let another process hold the lock `path`; it lets go when somebody waits for it."""
        self.held[path] = holder

    def snapshot(self) -> dict[str, tuple[Any, ...]]:
        """Return the whole tree without times, for comparison."""
        return {
            str(path): (node.kind, node.mode, node.owner, node.group, node.content, node.target)
            for path, node in self.nodes.items()
        }

    def copy(self) -> FakeHost:
        """Return a machine of its own in the same state, without a hook."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeHost:
        """Copy what can change; paths, runs and operations cannot, and there are many of them."""
        made = memo[id(self)] = copy.copy(self)
        made.before = None
        made.nodes = {path: Node(*vars(node).values()) for path, node in self.nodes.items()}
        for name in ("accounts", "file_systems", "programs", "held"):
            setattr(made, name, dict(getattr(self, name)))
        for name in ("runs", "operations", "locks"):
            setattr(made, name, list(getattr(self, name)))
        made._answers = copy.deepcopy(self._answers, memo)
        return made

    # -- the Protocol ------------------------------------------------------------------------------

    def user(self) -> str:
        return self._user

    def is_root(self) -> bool:
        return self.root

    def account_exists(self, name: str) -> bool:
        return name in self.accounts

    def primary_group(self, name: str) -> str:
        return self.accounts.get(name, name)

    def stat(self, path: Path) -> FileInfo | None:
        try:
            node = self.nodes[self._find(path)]
        except (FileNotFoundError, NotADirectoryError, KeyError):
            return None
        except OSError as e:
            raise PpctlError(f"{path}: cannot look at it: {os.strerror(e.errno)}") from e
        size = len(node.content)
        return FileInfo(node.kind, node.mode, node.owner, node.group, size, node.mtime, node.target)

    def read(self, path: Path, *, foreign: bool = False) -> bytes | None:
        with telling("read", path):
            try:
                node = self._get(path, follow=not foreign)
            except FileNotFoundError:
                return None
            if node.kind == "link":
                raise _error(errno.ELOOP)
            if node.kind == "directory":
                raise _error(errno.EISDIR)
            return node.content

    def list(self, path: Path) -> list[str]:
        with telling("list", path):
            try:
                found = self._find(path, follow=True)
                node = self._get(found)
            except FileNotFoundError:
                return []
            if node.kind != "directory":
                raise _error(errno.ENOTDIR)
            depth = len(_way(found))
            ways = [way for each in self.nodes if len(way := _way(each)) == depth + 1]
            return sorted(way[-1].name for way in ways if way[-2] is found)

    def file_system(self, path: Path) -> FileSystem:
        with telling("look at the file system of", path):
            found = self._find(path, follow=True)
            self._get(found)
        return next(self.file_systems[each] for each in (found, *found.parents) if each in self.file_systems)

    def write(
        self, path: Path, content: bytes, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        self.step("write", path, content, mode, owner, group)
        with telling("write", path):
            found = self._place(path)
            node = self._new("file", mode, content=content)
            self._chown(node, owner, group)
            self._die_midway(found.with_name(f".{found.name}.{self.pid - 1}.tmp"), node)
            self.nodes[found] = node

    def copy_file(
        self,
        source: Path,
        path: Path,
        *,
        mode: int,
        owner: str | None = None,
        group: str | None = None,
        within: tuple[Path, Path] | None = None,
    ) -> None:
        for parent in reversed(path.parents if within else ()):
            if within and within[1] in parent.parents and self.stat(parent) is None:
                self.make_directory(parent, mode=0o755, owner=owner, group=group)
        self.step("copy_file", source, path, mode, owner, group)
        with telling("read", source):
            original = self._get(source, follow=True)
        with telling("write", path):
            found = self._place(path)
            node = self._new("file", mode, content=original.content)
            self._chown(node, owner, group)
            node.mtime = original.mtime
            self._die_midway(found.with_name(f".{found.name}.{self.pid - 1}.tmp"), node)
            self.nodes[found] = node

    def append(self, path: Path, content: bytes, *, mode: int) -> None:
        self.step("append", path, content, mode)
        with telling("append to", path):
            found = self._find(path)
            node = self.nodes.get(found)
            self._die_midway(found, self._new("file", mode, content=content[: len(content) // 2]), node)
            if node is None:
                self.nodes[self._place(path)] = self._new("file", mode, content=content)
                return
            if node.kind != "file":
                raise _error(errno.ELOOP if node.kind == "link" else errno.EISDIR)
            node.content += content
            node.mtime = self._now()

    def make_directory(
        self, path: Path, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        self.step("make_directory", path, mode, owner, group)
        with telling("make the directory", path):
            self._parents(path)
        self._set_attributes(path, mode, owner, group)

    def set_attributes(
        self, path: Path, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        self.step("set_attributes", path, mode, owner, group)
        self._set_attributes(path, mode, owner, group)

    def link(self, path: Path, target: str) -> None:
        self.step("link", path, target)
        with telling("make the link", path):
            found, node = self._place(path), self._new("link", 0o777, target=target)
            self._die_midway(found.with_name(f".{found.name}.{self.pid - 1}.tmp"), node)
            self.nodes[found] = node

    def remove(self, path: Path) -> None:
        self.step("remove", path)
        with telling("remove", path):
            try:
                found = self._find(path)
                node = self._get(found)
            except FileNotFoundError:
                return
            if node.kind == "directory":
                raise _error(errno.EISDIR)
            del self.nodes[found]

    def remove_tree(self, path: Path) -> None:
        self.step("remove_tree", path)
        with telling("remove", path):
            try:
                found = self._find(path)
                node = self._get(found)
            except FileNotFoundError:
                return
            if node.kind != "directory":
                raise _error(errno.ENOTDIR)
            depth = len(_way(found))
            doomed = [each for each in self.nodes if _way(each)[depth - 1 : depth] == (found,)]
            # The deepest first: what is left of a half-removed tree then looks most like a whole one.
            doomed.sort(key=lambda each: len(each.parts), reverse=True)
            for each in doomed[: len(doomed) // 2] if self._dies_midway else doomed:
                del self.nodes[each]
            if self._dies_midway:
                self._dies_midway = False
                raise Killed(f"while removing {path}")

    def leftovers(self, directory: Path) -> tuple[Path, ...]:
        names = [name for name in self.list(directory) if TEMPORARY.fullmatch(name)]
        return tuple(directory / name for name in names if not name.endswith(f".{self.pid}.tmp"))

    def which(self, program: str) -> str | None:
        return self.programs.get(program)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
        dies_with_us: bool = False,
        apart: bool = False,
    ) -> Completed:
        self.step("run", tuple(argv), input)
        run = Run(tuple(argv), input, dict(env or {}))
        matching = [prefix for prefix in self._answers if run.argv[: len(prefix)] == prefix]
        if not matching:
            raise PpctlError(f"{argv[0]}: there is no such program")
        self.runs.append(run)
        answer = self._answers[max(matching, key=len)]
        if callable(answer):
            answer = answer(run) or ""
        done = answer if isinstance(answer, Completed) else Completed(0, answer, "")
        if check and done.returncode != 0:
            raise CommandFailed(list(argv), done.returncode, done.stderr or done.stdout)
        return done

    @contextlib.contextmanager
    def lock(self, path: Path, *, purpose: str, wait: bool = True) -> Iterator[None]:
        with telling("lock", path):
            found = self._find(path)
            node = self.nodes.get(found)
            if node is None:
                self.nodes[self._place(path)] = self._new("file", 0o600)
            elif node.kind != "file":
                raise _error(errno.ELOOP if node.kind == "link" else errno.EISDIR)
        holder = self.held.pop(path, None)
        if holder and not wait:
            self.held[path] = holder
            raise PpctlError(
                f"{path}: another ppctl is at work on this index: {holder}",
                "wait until it has finished, or leave out --no-wait",
            )
        assert not (holder and holder.startswith("me:")), f"deadlock: {path} is already held by this process"
        if holder and self._announce:
            self._announce(f"waiting for another ppctl that is at work on this index: {holder}")
        self.locks.append((path, purpose))
        self.held[path] = f"me: `{purpose}`"
        try:
            yield
        finally:
            self.held.pop(path, None)

    # -- inside ------------------------------------------------------------------------------------

    def step(self, operation: str, *arguments: Any) -> None:
        if self.before:
            self.before(operation, arguments)
        self.operations.append((operation, arguments))

    def _die_midway(self, path: Path, node: Node, before: Node | None = None) -> None:
        if self._dies_midway:
            self._dies_midway = False
            if before:
                before.content += node.content
            else:
                self.nodes[path] = node
            raise Killed(f"while writing {path}")

    def _now(self) -> float:
        self._clock += 1
        return self._clock

    def _new(
        self, kind: Kind, mode: int, owner: str | None = None, *, content: bytes = b"", target: str = ""
    ) -> Node:
        owner = owner or self._user
        return Node(kind, mode, owner, self.primary_group(owner), content, target, self._now())

    def _find(self, path: Path, *, follow: bool = False) -> Path:
        """Return the path that `path` really is: links in it followed, the last one only with `follow`.

        Raises OSError like the kernel: ENOENT and ENOTDIR for its parents, ELOOP.
        """
        way = _way(path)
        nodes = [self.nodes.get(each) for each in way]
        if all(node and node.kind == "directory" for node in nodes[:-1]):
            end = nodes[-1] if nodes else None
            if way and not (follow and end and end.kind == "link"):
                return way[-1]
        left = list(path.parts[1:])
        found = ROOT
        links = 0
        while left:
            part = left.pop(0)
            if part == "..":
                found = found.parent
                continue
            found = found / part
            node = self.nodes.get(found)
            if node and node.kind == "link" and (left or follow):
                links += 1
                if links > MAX_LINKS:
                    raise _error(errno.ELOOP)
                target = Path(node.target)
                left = [*target.parts[1 if target.is_absolute() else 0 :], *left]
                found = ROOT if target.is_absolute() else found.parent
            elif left and node is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            elif left and node and node.kind != "directory":
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return _way(found)[-1]

    def _get(self, path: Path, *, follow: bool = False) -> Node:
        found = self._find(path, follow=follow)
        if found not in self.nodes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.nodes[found]

    def _place(self, path: Path) -> Path:
        """Return where a file or link at `path` goes. Raises OSError where there is none to go to."""
        found = self._find(path)
        if self._get(found.parent).kind != "directory":
            raise _error(errno.ENOTDIR)
        if found in self.nodes and self.nodes[found].kind == "directory":
            raise _error(errno.EISDIR)
        return found

    def _parents(self, path: Path) -> None:
        for each in [*reversed(path.parents), path]:
            found = self._find(each, follow=True)
            node = self.nodes.get(found)
            if node is None:
                self.nodes[found] = self._new("directory", 0o755)
            elif node.kind != "directory":
                raise _error(errno.EEXIST if each == path else errno.ENOTDIR)

    def _set_attributes(self, path: Path, mode: int, owner: str | None, group: str | None) -> None:
        with telling("set mode and owner of", path):
            node = self._get(path, follow=True)
            self._chown(node, owner, group)
            node.mode = mode

    def _chown(self, node: Node, owner: str | None, group: str | None) -> None:
        if (owner and owner not in self.accounts) or (group and group not in self.accounts.values()):
            raise PpctlError(
                f"no such account or group: {owner}:{group}", f"create it: useradd --system {owner}"
            )
        changed = (owner or node.owner, group or node.group) != (node.owner, node.group)
        if changed and not self.root:
            raise _error(errno.EPERM)
        node.owner, node.group = owner or node.owner, group or node.group
