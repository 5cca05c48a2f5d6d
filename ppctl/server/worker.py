"""gunicorn's threaded worker, made to lose nothing when it stops and to be held up by nobody.

Differences to `gunicorn.workers.gthread.ThreadWorker` (27.0):

- A stopping worker closes an idle kept-alive connection no earlier than a running one would. gunicorn
  closes it after two seconds, perhaps just when the client sends its next request on it.
- It accepts a connection only while a thread is free for it. gunicorn takes every connection at once, to
  wait behind slow uploads although another worker of the index has nothing to do; and if it is killed at
  the end of its patience, those connections are lost.
- A connection without a request does not occupy a thread, and one that falls silent is given up.
- After the last answer it waits for the client to close (RFC 9112, section 9.6) beside its other work.
  gunicorn waits in its only event loop, up to two seconds for each such client.
- The worker's own UNIX socket has a thread of its own, so that the manager gets an answer however busy
  the others are.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn.workers import gthread

SILENCE_SECONDS = 60
"""A connection is given up when nothing moves on it for so long in the midst of a request or an answer."""

FIRST_BYTES_SECONDS = 10.0
"""How long a new connection may stay without a request."""

CLOSE_SECONDS = 2.0
"""How long a client may take to close a connection after the last answer on it."""


class DrainingWorker(gthread.ThreadWorker):  # type: ignore[misc]
    """The worker class of an index."""

    alive: bool
    sockets: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._busy = 0
        self._most_connections = 0
        self._closing: deque[Any] = deque()
        self._next_notice = 0.0
        self._control: list[Any] = []
        self._control_pool = ThreadPoolExecutor(max_workers=1)
        super().__init__(*args, **kwargs)

    @property
    def worker_connections(self) -> int:
        """How many connections there may be before no more are accepted; gunicorn's loop compares.

        Idle ones do not count, up to the configured limit: what counts is a free thread.
        """
        free = self._busy < self.cfg.threads and self.nr_conns < self._most_connections
        return int(self.nr_conns) + 1 if free else int(self.nr_conns)

    @worker_connections.setter
    def worker_connections(self, value: int) -> None:
        self._most_connections = value

    def run(self) -> None:
        """Serve until told to stop, then finish what has been begun."""
        self._control = [s for s in self.sockets if s.FAMILY == socket.AF_UNIX]
        self.sockets = [s for s in self.sockets if s.FAMILY != socket.AF_UNIX]
        for listener in self._control:
            self.poller.register(listener, selectors.EVENT_READ, self.accept)
        super().run()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or pause accepting; the UNIX socket never pauses, and is the first to close at the end."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            # Closed, so that the manager is refused at once and does not wait for a worker that has stopped.
            for listener in self._control:
                self.poller.unregister(listener)
                listener.close()
            self._control = []

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection that has something to read to a thread; a new one has to send something first."""
        if not conn.initialized and not conn.data_ready:
            self._wait_for_first_bytes(conn)
            return
        if conn.sock.family == socket.AF_UNIX:
            done = self._control_pool.submit(self.handle, conn)
        else:
            self._busy += 1
            done = self.tpool.submit(self.handle, conn)
        done.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))

    def handle(self, conn: Any) -> Any:
        """Read and answer a request, in a thread."""
        if not conn.initialized:
            _limit_silence(conn.sock)
        return super().handle(conn)

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Decide what becomes of a connection after an answer, in the event loop."""
        if conn.sock.family != socket.AF_UNIX:
            self._busy -= 1
        try:
            keep = not fs.cancelled() and fs.result()
            if keep and conn.parser.unreader.buf.getvalue():
                self.enqueue_req(conn)  # its next request has been read already
            elif keep:
                self._keep_alive(conn)
            else:
                self._close_gently(conn)
        except Exception:
            self._forget(conn)

    def _wait_for_first_bytes(self, conn: Any) -> None:
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + FIRST_BYTES_SECONDS
        self.pending_conns.append(conn)
        self._watch(conn, self.on_pending_socket_readable)

    def _keep_alive(self, conn: Any) -> None:
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        self._watch(conn, self.on_client_socket_readable)

    def _close_gently(self, conn: Any) -> None:
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._forget(conn)
            return
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + CLOSE_SECONDS
        self._closing.append(conn)
        self._watch(conn, self._on_closing_readable)

    def _on_closing_readable(self, conn: Any, client: Any) -> None:
        """Throw away what a client still sends; closing with unread bytes would reset the connection."""
        try:
            more = client.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._closing.remove(conn)
            self._unwatch_and_forget(conn)

    def murder_pending(self) -> None:
        """Close the connections whose time is over; called in each round of the event loop."""
        super().murder_pending()
        while self._closing and self._closing[0].timeout <= time.monotonic():
            self._unwatch_and_forget(self._closing.popleft())

    def _cap_keepalive(self, deadline: float) -> None:
        """Leave the idle connections of a stopping worker their time (see the module's text)."""

    def notify(self) -> None:
        """Give the sign of life, once a second: gunicorn would do it in each round of the event loop."""
        now = time.monotonic()
        if now >= self._next_notice:
            self._next_notice = now + 1.0
            super().notify()

    def is_parent_alive(self) -> bool:
        """Return whether the arbiter is there; without it this worker stops as if it had been told to."""
        self.alive = self.alive and bool(super().is_parent_alive())
        return self.alive

    def _watch(self, conn: Any, callback: Any) -> None:
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(callback, conn))

    def _unwatch_and_forget(self, conn: Any) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self._forget(conn)

    def _forget(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()


def _limit_silence(connection: socket.socket) -> None:
    """Make reading and writing fail when the client does nothing for SILENCE_SECONDS.

    In the kernel, since gunicorn resets Python's timeouts (socket(7)); TCP_USER_TIMEOUT is for what is being
    sent by sendfile(2), to a client that has stopped reading (tcp(7)).
    """
    seconds = struct.pack("ll", SILENCE_SECONDS, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000)
