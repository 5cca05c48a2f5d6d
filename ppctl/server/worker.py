"""gunicorn's threaded worker, made to lose nothing when it stops and to be held up by nobody.

Differences to `gunicorn.workers.gthread.ThreadWorker` (27.0):

- A stopping worker closes an idle kept-alive connection no earlier than a running one would. gunicorn
  closes it after two seconds, perhaps just when the client sends its next request on it.
- It accepts a connection only while a thread is free for it. gunicorn takes every connection at once, to
  wait behind others although another worker of the index has nothing to do; and if it is killed at the end of
  its patience, those connections are lost.
- A request gets a thread when its head is complete: until then the event loop gathers it, for a limited time.
- What is at hand is answered at once, in the event loop: a page that is rendered, a small file. Giving it
  to a thread and back costs more than all the rest (see `ppctl.server.heads`).
- A request whose client is being waited for does not count among the `threads` that work; there may be
  MOST_WAITING of them. Who moves too little is given up (see `ppctl.server.connection`).
- When there are too many connections, the oldest one that has sent no request, or is idle, makes room.
- After the last answer it waits for the client to close (RFC 9112, section 9.6) beside its other work.
  gunicorn waits in its only event loop, up to two seconds for each such client.
- The worker's own UNIX socket has a thread of its own, so that the manager gets an answer however busy
  the others are.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gunicorn.workers import gthread

from ppctl.server import moment
from ppctl.server.connection import ClientSocket, Places
from ppctl.server.heads import HeadsFirst
from ppctl.server.partings import Partings

MOST_WAITING = 200
"""So many requests may wait for their clients at once, besides those that are worked on."""


class Threads(ThreadPoolExecutor):
    """Threads for requests; where no more can be had, those that are there do the work."""

    _owed = 0

    def _adjust_thread_count(self) -> None:
        """Let there be a thread for what `submit` has put into the queue already."""
        # What had to wait has made a thread busy that was counted as idle.
        while self._owed and self._idle_semaphore.acquire(timeout=0):
            self._owed -= 1
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise
            self._owed += 1


class Callbacks(gthread.PollableMethodQueue):  # type: ignore[misc]
    """What threads want the event loop to do."""

    def close(self) -> None:
        """Leave the pipe to the end of the process: threads that are still at work write into it.

        Its number would be another file's, perhaps that of an upload under way.
        """


class DrainingWorker(HeadsFirst):
    """The worker class of an index."""

    sockets: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._most_connections = 0
        self._ready: deque[Any] = deque()
        self._next_notice = 0.0
        self._control: list[Any] = []
        self._control_pool = Threads(max_workers=1)
        super().__init__(*args, **kwargs)
        self.method_queue = Callbacks()
        self._places = Places(
            self.cfg.threads,
            self.cfg.threads + MOST_WAITING,
            lambda: self.method_queue.defer(self._begin_ready),
        )

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Return the threads; those that wait for clients are among them."""
        return Threads(max_workers=self.cfg.threads + MOST_WAITING)

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
        for pool in (self.tpool, self._control_pool):
            pool.submit(int)  # so that it has a thread, whatever there is later
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
        # Never set to what it was a moment ago: the TERM that came meanwhile would be forgotten.
        if not super().is_parent_alive():
            self.alive = False
        return self.alive
