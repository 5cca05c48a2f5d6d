"""How gunicorn runs a worker: `gunicorn --config python:ppctl.server.gunicorn_conf`.

One arbiter with one process of `threads` threads. It serves the listening socket that the manager hands on
as standard input, shared with the index's other workers, and a UNIX socket of its own for the manager's
questions. The names below without an underscore are gunicorn's settings.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import gunicorn

from ppctl.server import drafts, parent, unix
from ppctl.server.config import ConfigError, ServerConfig, WorkerInfo, config_path, load, worker_info

_LISTENING = 0
"""What the manager hands on: by supervisor's fcgi-program, by systemd's StandardInput=socket."""

_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def _read() -> tuple[ServerConfig, WorkerInfo]:
    if os.environ.get("GUNICORN_CMD_ARGS"):
        # It would win over what is set here, and there is no way to ignore it.
        sys.exit("error: GUNICORN_CMD_ARGS is set in the environment of the workers: unset it")
    try:
        return load(config_path(os.environ)), worker_info(os.environ)
    except ConfigError as e:
        sys.exit(f"error: {e}")


def _inherited() -> int:
    """Return a file descriptor of the listening socket, and make standard input an empty one.

    gunicorn closes the descriptor that it is given, and 0 would go to the next file that is opened.
    """
    try:
        with socket.socket(fileno=os.dup(_LISTENING)) as found:
            is_listening = bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        is_listening = False
    if not is_listening:
        sys.exit("error: standard input is not a listening socket: workers are started by the manager")
    kept = os.dup(_LISTENING)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, _LISTENING)
    os.close(empty)
    return kept


def _own_socket(run: Path, number: int) -> int:
    """Return a file descriptor of the worker's UNIX socket `worker-<number>.sock`, made anew."""
    return unix.listen(unix.of_worker(run, number)).detach()


def _shared_memory(otherwise: Path) -> str:
    """Return a directory in memory for gunicorn's sign of life: a slow disk is no death."""
    memory = "/dev/shm"  # noqa: S108 - gunicorn makes its file there with mkstemp and unlinks it
    return memory if stat.S_ISDIR(_mode(memory)) and os.access(memory, os.W_OK | os.X_OK) else str(otherwise)


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


_config, _worker = _read()

# gunicorn would take these as settings.
for _name in ("SCRIPT_NAME", "SENDFILE", "FORWARDED_ALLOW_IPS", "WEB_CONCURRENCY"):
    os.environ.pop(_name, None)

try:
    bind = [f"fd://{_inherited()}", f"fd://{_own_socket(_config.run, _worker.number)}"]
except OSError as _error:
    sys.exit(f"error: {_config.run}: cannot make the socket of worker {_worker.number}: {_error}")
workers = 1
threads = _config.threads
# The subclass knows this version from within.
worker_class = "ppctl.server.worker.DrainingWorker" if gunicorn.version_info[0] == 27 else "gthread"
worker_tmp_dir = _shared_memory(_config.run)
# A process that died is replaced by a fork of the arbiter, in milliseconds; and they share their memory.
preload_app = True
timeout = 120
graceful_timeout = _config.stop_timeout
keepalive = 5
worker_connections = 500  # idle ones included
sendfile = True
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
forwarded_allow_ips = _config.trusted_proxies
forwarder_headers = ""
control_socket_disable = True
logger_class = "ppctl.server.logs.AccessLogger"
accesslog = "-"
errorlog = "-"
# The path without the query; no header of the request but the name of the program.
access_log_format = '%(h)s %(u)s %(t)s "%(m)s %(U)s %(H)s" %(s)s %(B)s %(M)sms "%(a)s"'


def on_starting(server: Any) -> None:
    """Prepare the arbiter."""
    # gunicorn would unlink the UNIX socket at exit, by the name that it was bound to. The file stays: nobody
    # answers on it then, and removing it could hit that of a successor.
    server.systemd = True
    # A supervisord that finds the socket of a group taken does not start at all: workers that outlive that of
    # the machine would keep away every other program of the machine, too.
    parent.end_with_manager()
    server.log.error_log.addFilter(_is_a_fault)
    server.log.access_log.addFilter(_is_a_client)
    os.register_at_fork(after_in_parent=_hear)
    _allow_open_files()
    _be_thrifty()
    ours = logging.getLogger("ppctl")
    ours.handlers = server.log.error_log.handlers
    ours.setLevel(logging.INFO)


def _be_thrifty() -> None:
    """Keep what threads have given back for all of them, not for each (mallopt(3)); glibc only.

    Not all of it goes back to the kernel: what the next upload takes would have to be cleared anew.
    """
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    with contextlib.suppress(AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(arena_max, 2)
        library.mallopt(mmap_threshold, 1 << 20)
        library.mallopt(trim_threshold, 2 << 20)


def pre_fork(_server: Any, _worker: Any) -> None:
    """Leave what is there already to both processes: the collector would write into all of it."""
    gc.collect()
    gc.freeze()
    # The new process has the arbiter's handlers until it sets its own: a TERM would be lost in its copy of
    # the arbiter's queue. It waits instead, until `post_worker_init`.
    signal.pthread_sigmask(signal.SIG_BLOCK, _TO_STOP)


def _hear() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TO_STOP)


def _allow_open_files() -> None:
    """Raise the usual limit of 1024: each connection is a file, and an upload under way two more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Return False for the tracebacks of clients that fell silent (see ppctl.server.worker)."""
    return not (record.exc_info and isinstance(record.exc_info[1], (BlockingIOError, TimeoutError)))


def _is_a_client(record: logging.LogRecord) -> bool:
    """Return False for what ppctl asks over the worker's UNIX socket: too often to be worth a line."""
    return not isinstance(record.args, dict) or record.args.get("h") not in ("", "-")


def post_fork(server: Any, _worker: Any) -> None:
    """Prepare the process that serves."""
    # It would keep the manager from opening the port anew.
    parent.end_with_parent()
    os.environ["PPCTL_ARBITER"] = str(server.pid)
    for path in drafts.remove_leftovers(_config.packages, _config.run / drafts.LOCK_NAME):
        server.log.warning("removed what a killed worker has left: %s", path)


def post_worker_init(worker: Any) -> None:
    """Begin watching the packages, in the process that serves."""
    _hear()
    worker.wsgi.start()


def worker_exit(_server: Any, worker: Any) -> None:
    """End watching, so that another worker takes over at once."""
    if worker.wsgi is not None:
        worker.wsgi.stop()
