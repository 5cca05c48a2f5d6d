"""gunicorn's threaded worker, made to lose nothing when it stops and to be held up by nobody.

Differences to `gunicorn.workers.gthread.ThreadWorker` (27.0):

- A stopping worker closes an idle kept-alive connection no earlier than a running one would. gunicorn
  closes it after two seconds, perhaps just when the client sends its next request on it.
- It accepts a connection only while a thread is free for it. gunicorn takes every connection at once, to
  wait behind others although another worker of the index has nothing to do; and if it is killed at the end of
  its patience, those connections are lost.
- A request gets a thread when its head is complete: until then the event loop gathers it, for a limited time.
- What is at hand is answered at once, in the event loop: a page that is rendered, a small file. Giving it
  to a thread and back costs more than all the rest. Nothing there waits for a disk, a password's hash, a
  lock or the client: what the client does not take at once goes on in a thread.
- A request whose client is being waited for does not count among the `threads` that work; there may be
  MOST_WAITING of them. Who moves too little is given up (see `ppctl.server.connection`).
- When there are too many connections, the oldest one that has sent no request, or is idle, makes room.
- After the last answer it waits for the client to close (RFC 9112, section 9.6) beside its other work.
  gunicorn waits in its only event loop, up to two seconds for each such client.
- The worker's own UNIX socket has a thread of its own, so that the manager gets an answer however busy
  the others are.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.workers import gthread

from ppctl.server import moment, quick
from ppctl.server.access_log import AccessLog
from ppctl.server.connection import ClientSocket, Places
from ppctl.server.partings import Partings

HEAD_SECONDS = 15.0
"""How long a client may take for the head of a request."""

MOST_HEAD_BYTES = 1 << 16
"""What the head of a request may have at most."""

MOST_WAITING = 200
"""So many requests may wait for their clients at once, besides those that are worked on."""

# Above gunicorn's own limit: its answer is 414.
_LONGEST_LINE = 8194
_TOO_LARGE = (431, "Request Header Fields Too Large", "")

Step = Callable[[Any], object]
"""What becomes of a connection."""


class DrainingWorker(gthread.ThreadWorker):  # type: ignore[misc]
    """The worker class of an index."""

    alive: bool
    sockets: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._most_connections = 0
        self._ready: deque[Any] = deque()
        self._next_notice = 0.0
        self._control: list[Any] = []
        self._control_pool = ThreadPoolExecutor(max_workers=1)
        self._writer = quick.Writer()
        super().__init__(*args, **kwargs)
        self._access_log = AccessLog(self.log, self.cfg.access_log_format)
        self._places = Places(
            self.cfg.threads,
            self.cfg.threads + MOST_WAITING,
            lambda: self.method_queue.defer(self._begin_ready),
        )

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Return the threads; those that wait for clients are among them."""
        return ThreadPoolExecutor(max_workers=self.cfg.threads + MOST_WAITING)

    @property
    def worker_connections(self) -> int:
        """How many connections there may be before no more are accepted; gunicorn's loop compares.

        Idle ones do not count: what counts is a free thread, and that one can make room.
        """
        has_room = self.nr_conns < self._most_connections or self.pending_conns or self.keepalived_conns
        free = has_room and not self._ready and self._places.is_free()
        return int(self.nr_conns) + 1 if free else int(self.nr_conns)

    @worker_connections.setter
    def worker_connections(self, value: int) -> None:
        self._most_connections = value

    def run(self) -> None:
        """Serve until told to stop, then finish what has been begun."""
        self._control = [s for s in self.sockets if s.FAMILY == socket.AF_UNIX]
        self.sockets = [s for s in self.sockets if s.FAMILY != socket.AF_UNIX]
        self._partings = Partings(self.poller, self._unwatch_and_forget)
        for listener in self._control:
            self.poller.register(listener, selectors.EVENT_READ, self.accept)
        super().run()
        self._access_log.write(wait=True)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do one round of the event loop."""
        events = self.poller.select(timeout)
        moment.begin()
        for key, _ in events:
            key.data(key.fileobj)
        self._access_log.write()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or pause accepting, at the end for good; the UNIX socket never pauses."""
        super().set_accept_enabled(enabled)
        if not self.alive and not enabled:
            # Closed, so that the manager is refused at once and does not wait for a worker that has stopped.
            for listener in self._control:
                self.poller.unregister(listener)
            # If all arbiters were killed, this one keeps the manager from opening the port anew.
            for listener in (*self._control, *self.sockets):
                listener.close()
            self._control, self.sockets = [], []

    def accept(self, listener: Any) -> None:
        """Accept a connection, and wait for the head of its first request."""
        try:
            accepted, address = listener.accept()
        except OSError as e:
            if e.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self.log.warning("a connection cannot be accepted: %s", e)
                if not self._make_room():
                    time.sleep(0.1)  # the next round tries again
            elif e.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        if self.nr_conns >= self._most_connections:
            self._make_room()
        self.nr_conns += 1
        is_own = accepted.family == socket.AF_UNIX
        client = ClientSocket(accepted, None if is_own else self._places)
        conn = gthread.TConn(self.cfg, client, address, listener.getsockname())
        conn.init()
        conn.rest = None
        self._wait_for_head(conn, b"")

    def enqueue_req(self, conn: Any) -> None:
        """Answer the request of a connection as soon as there is a place for it."""
        if conn.sock.family == socket.AF_UNIX:
            self._begin(conn, self._control_pool)
        else:
            self._ready.append(conn)
            self._begin_ready()

    def _begin_ready(self) -> None:
        while self._ready and self._places.take():
            self._begin(self._ready.popleft(), self.tpool)

    def _begin(self, conn: Any, pool: ThreadPoolExecutor) -> None:
        done = pool.submit(self.handle, conn)
        done.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))

    def handle(self, conn: Any) -> Any:
        """Answer a request, or go on with an answer, in a thread. Returns whether the connection stays."""
        if conn.rest is None:
            return super().handle(conn)
        (data, keep), conn.rest = conn.rest, None
        conn.sock.setblocking(True)
        conn.sock.sendall(data)
        return keep

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Decide what becomes of a connection after an answer, in the event loop."""
        if conn.sock.family != socket.AF_UNIX:
            self._places.give_back()
            self._begin_ready()
        try:
            if fs.cancelled() or not fs.result():
                self._partings.add(conn)
            elif early := conn.parser.unreader.take_buffered():
                self._wait_for_head(conn, early)  # of its next request a part has been read already
            else:
                self._keep_alive(conn)
        except Exception:
            self._forget(conn)

    def _wait_for_head(self, conn: Any, head: bytes) -> None:
        # Its request may have been sent since the round began, when another one has looked what there is.
        moment.begin()
        conn.sock.setblocking(False)
        conn.head = head
        step = self._receive(conn) or self._wait
        step(conn)

    def _wait(self, conn: Any) -> None:
        conn.timeout = time.monotonic() + HEAD_SECONDS
        self.pending_conns.append(conn)
        self._watch(conn, self.on_pending_socket_readable)

    def _keep_alive(self, conn: Any) -> None:
        conn.sock.setblocking(False)
        conn.head = b""
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        self._watch(conn, self.on_client_socket_readable)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Read on a connection that was idle: a request begins, or the client has closed."""
        step = self._receive(conn) or self._wait
        self.keepalived_conns.remove(conn)
        if step == self._keep_alive:
            conn.set_timeout()
            self.keepalived_conns.append(conn)  # and it is watched already
        else:
            self.poller.unregister(client)
            step(conn)

    def on_pending_socket_readable(self, conn: Any, client: Any) -> None:
        """Read on a connection whose request is not complete."""
        step = self._receive(conn)
        if step:
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            step(conn)

    def _receive(self, conn: Any) -> Step | None:
        """Take what has come on a connection. Returns what becomes of it; None: its head is not complete."""
        try:
            more = conn.sock.recv(MOST_HEAD_BYTES)
        except BlockingIOError:
            more = None
        except OSError:
            more = b""
        conn.head += more or b""
        if _is_ready(conn.head):
            return self._answer_at_once(conn) or self._answer_in_thread
        if more == b"":
            return self._forget
        return self._refuse_head if len(conn.head) >= MOST_HEAD_BYTES else None

    def _answer_at_once(self, conn: Any) -> Step | None:
        """Answer a simple request, if that is at hand. Returns what becomes of the connection, or None."""
        # A worker that stops says so in each answer, and so does one with too many idle connections.
        is_usual = self.alive and len(self.keepalived_conns) < self.max_keepalived
        if not is_usual or self._access_log.is_stuck or not isinstance(conn.client, tuple):
            return None
        environ = quick.read(conn.head, conn.client[0])
        answer = self.wsgi.at_once(environ) if environ else None
        if environ is None or answer is None:
            return None
        keep = quick.keeps_alive(environ)
        head, body = self._writer.head(answer, keep=keep), b"".join(answer.content)
        if environ["REQUEST_METHOD"] == "HEAD":
            body = b""
        self._access_log.add(environ, answer.status, len(body))
        conn.head = b""
        return self._send(conn, head + body, keep=keep)

    def _send(self, conn: Any, data: bytes, *, keep: bool) -> Step:
        try:
            sent = conn.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._forget
        if sent < len(data):
            conn.rest = data[sent:], keep
            return self.enqueue_req
        return self._keep_alive if keep else self._partings.add

    def _answer_in_thread(self, conn: Any) -> None:
        conn.parser.unreader.unread(conn.head)
        self.enqueue_req(conn)

    def _refuse_head(self, conn: Any) -> None:
        self.log.warning("Invalid request from %s: its head is too long", conn.client)
        with contextlib.suppress(OSError):
            util.write_error(conn.sock, *_TOO_LARGE)
        self._partings.add(conn)

    def _make_room(self) -> bool:
        """Close the oldest connection that has sent no request, or is idle. Returns whether there was one."""
        for waiting in (self.pending_conns, self.keepalived_conns):
            for conn in waiting:
                if isinstance(conn.client, tuple):  # not the manager's
                    waiting.remove(conn)
                    self._unwatch_and_forget(conn)
                    return True
        return False

    def murder_pending(self) -> None:
        """Close the connections whose time is over; called in each round of the event loop."""
        super().murder_pending()
        self._partings.end_late()

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


def _is_ready(head: bytes) -> bool:
    """Return whether gunicorn's parser needs no more to answer: the head is complete, or broken already."""
    if b"\r\n\r\n" in head:
        return True
    # It refuses bare line feeds and too long request lines without reading on.
    return head.count(b"\n") != head.count(b"\r\n") or (len(head) > _LONGEST_LINE and b"\n" not in head)
