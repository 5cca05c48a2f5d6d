"""This machine: files, links, locks, accounts, processes."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ppctl import local_files, local_locks
from ppctl.errors import CommandFailed, PpctlError
from ppctl.host import TEMPORARY, Completed, FileInfo, FileSystem, Kind, WaitAnnouncer, hint, reason, telling
from ppctl.server import kept

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class LocalHost:
    """This machine."""

    def __init__(self, announce: WaitAnnouncer | None = None) -> None:
        self._announce = announce

    def user(self) -> str:
        return local_files.user_name(os.geteuid())

    def is_root(self) -> bool:
        return os.geteuid() == 0

    def account_exists(self, name: str) -> bool:
        try:
            pwd.getpwnam(name)
        except KeyError:
            return False
        return True

    def primary_group(self, name: str) -> str:
        try:
            return local_files.group_name(pwd.getpwnam(name).pw_gid)
        except KeyError:
            return name

    def stat(self, path: Path) -> FileInfo | None:
        kind: Kind = "other"
        target = ""
        try:
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                kind, target = "link", os.readlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            raise PpctlError(f"{path}: cannot look at it: {reason(e)}", hint(e, path)) from e
        if stat.S_ISREG(found.st_mode):
            kind = "file"
        elif stat.S_ISDIR(found.st_mode):
            kind = "directory"
        return FileInfo(
            kind,
            stat.S_IMODE(found.st_mode),
            local_files.user_name(found.st_uid),
            local_files.group_name(found.st_gid),
            found.st_size,
            found.st_mtime,
            target,
        )

    def read(self, path: Path, *, foreign: bool = False) -> bytes | None:
        with telling("read", path):
            try:
                with local_files.open_inside(path.parent, path) if foreign else path.open("rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def list(self, path: Path) -> list[str]:
        with telling("list", path):
            try:
                return sorted(os.listdir(path))
            except FileNotFoundError:
                return []

    def file_system(self, path: Path) -> FileSystem:
        with telling("look at the file system of", path):
            found, device = os.statvfs(path), os.stat(path).st_dev
        return FileSystem(
            size=found.f_blocks * found.f_frsize,
            free=found.f_bavail * found.f_frsize,
            inodes=found.f_files,
            inodes_free=found.f_favail,
            read_only=bool(found.f_flag & os.ST_RDONLY),
            no_exec=bool(found.f_flag & os.ST_NOEXEC),
            device=device,
        )

    def write(
        self, path: Path, content: bytes, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        with telling("write", path), local_files.replacing(path, mode, owner, group) as file:
            file.write(content)

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
        with telling("read", source):
            original = local_files.open_inside(within[0], source) if within else source.open("rb")
        with original, telling("write", path):
            if within is None:
                local_files.copy(original, path, mode, owner, group)
                return
            with local_files.inside(within[1], path.parent, make=(owner, group)) as directory:
                local_files.copy(original, directory / path.name, mode, owner, group)

    def append(self, path: Path, content: bytes, *, mode: int) -> None:
        with telling("append to", path):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, mode)
            try:
                if os.fstat(descriptor).st_size == 0:
                    os.fchmod(descriptor, mode)  # the umask has taken its bits away
                if os.write(descriptor, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # only a full disk writes less
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def make_directory(
        self, path: Path, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        with telling("make the directory", path):
            path.mkdir(parents=True, exist_ok=True)
        self.set_attributes(path, mode=mode, owner=owner, group=group)

    def set_attributes(
        self, path: Path, *, mode: int, owner: str | None = None, group: str | None = None
    ) -> None:
        with telling("set mode and owner of", path):
            local_files.chown(path, owner, group)
            path.chmod(mode)  # after chown, which clears setgid

    def link(self, path: Path, target: str) -> None:
        temporary = local_files.temporary(path)
        with telling("make the link", path):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            try:
                temporary.rename(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            kept.sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        with telling("remove", path):
            path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        with telling("remove", path):
            while os.path.lexists(path):
                # Something in it may go meanwhile, as what a worker that ends takes with it.
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path)

    def leftovers(self, directory: Path) -> tuple[Path, ...]:
        found = [(name, TEMPORARY.fullmatch(name)) for name in self.list(directory)]
        return tuple(
            directory / name for name, match in found if match and not local_locks.is_running(int(match[1]))
        )

    def which(self, program: str) -> str | None:
        # sbin is not on the PATH of ordinary users, but systemd's and supervisor's tools may be there.
        search = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/local/sbin:/usr/sbin:/sbin"
        return shutil.which(program, path=search)

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
        try:
            done = subprocess.run(
                preexec_fn=_die_with_parent() if dies_with_us else None,
                start_new_session=apart,
                args=argv,
                input=input,
                stdin=subprocess.DEVNULL if input is None else None,
                env={**os.environ, **env} if env else None,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError as e:
            raise PpctlError(f"{argv[0]}: there is no such program") from e
        except OSError as e:
            raise PpctlError(f"{argv[0]}: cannot be run: {reason(e)}") from e
        except subprocess.TimeoutExpired as e:
            raise PpctlError(f"{' '.join(argv)} did not finish within {timeout:g} s") from e
        if check and done.returncode != 0:
            raise CommandFailed(list(argv), done.returncode, done.stderr or done.stdout)
        return Completed(done.returncode, done.stdout, done.stderr)

    def lock(self, path: Path, *, purpose: str, wait: bool = True) -> contextlib.AbstractContextManager[None]:
        return local_locks.held(path, self.user(), purpose, self._announce, wait=wait)


def _die_with_parent() -> Callable[[], None] | None:
    """Return what a child calls so that the kernel kills it when its parent dies (Linux; prctl(2))."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl, ours = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != ours:
            os._exit(1)  # it has died in between

    return ask
