"""Connections that have no thread: the event loop gathers the head of a request, and answers what is at hand.

Nothing here waits for a disk, a password's hash, a lock or the client: what the client does not take at once
goes on in a thread.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.workers import gthread

from ppctl.server import moment, quick
from ppctl.server.access_log import AccessLog
from ppctl.server.partings import Partings

HEAD_SECONDS = 15.0
"""How long a client may take for the head of a request."""

MOST_HEAD_BYTES = 1 << 16
"""What the head of a request may have at most."""

# Above gunicorn's own limit: its answer is 414.
_LONGEST_LINE = 8194
_TOO_LARGE = (431, "Request Header Fields Too Large", "")

Step = Callable[[Any], object]
"""What becomes of a connection."""


class HeadsFirst(gthread.ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, whose connections come to a thread with the head of a request."""

    alive: bool
    _partings: Partings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._writer = quick.Writer()
        self._access_log = AccessLog(self.log, self.cfg.access_log_format)

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
            in_thread: Step = self.enqueue_req
            return in_thread
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
                if isinstance(conn.client, tuple) and _is_silent(conn.sock):  # not the manager's
                    waiting.remove(conn)
                    self._unwatch_and_forget(conn)
                    return True
        return False

    def _watch(self, conn: Any, callback: Any) -> None:
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(callback, conn))

    def _unwatch_and_forget(self, conn: Any) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self._forget(conn)

    def _forget(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()


def _is_silent(client: Any) -> bool:
    """Return whether nothing has come that has not been read: who has sent something is about to be heard.

    Perhaps in this very round of the event loop, which must not meet a closed connection.
    """
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _is_ready(head: bytes) -> bool:
    """Return whether gunicorn's parser needs no more to answer: the head is complete, or broken already."""
    if b"\r\n\r\n" in head:
        return True
    # It refuses bare line feeds and too long request lines without reading on.
    return head.count(b"\n") != head.count(b"\r\n") or (len(head) > _LONGEST_LINE and b"\n" not in head)
