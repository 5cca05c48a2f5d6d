"""Workers behind a real nginx that strips the prefix, or passes it on, with buffering or without."""

from __future__ import annotations

import contextlib
import html
import http.client
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import pytest

from tests.server.archives import source
from tests.server.patience import within
from tests.server.worker_process import Home, new_home, upload_form

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
NAME = "foo-1.0.tar.gz"

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not NGINX, reason="needs nginx")]

CONFIG = """
daemon off; pid {run}/nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 100; }}
http {{
  upstream index {{ server 127.0.0.1:{upstream}; keepalive 1; }}
  access_log off; client_max_body_size 0;
  client_body_temp_path {run}/1; proxy_temp_path {run}/2; fastcgi_temp_path {run}/3;
  uwsgi_temp_path {run}/4; scgi_temp_path {run}/5;
  server {{
    listen 127.0.0.1:{port};
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering {buffering};
    location /pypi/ {{ proxy_pass http://index{slash}; }}
  }}
}}
"""


@dataclass
class Proxy:
    """An nginx at `url` (without a slash at the end) before the workers of `home`."""

    home: Home
    port: int
    buffers: bool

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/pypi"

    def ask(
        self, url: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, str]:
        """Return status, body and the Location of a redirect."""
        parts = urlsplit(url)
        with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=60)) as connection:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, parts.path, body, sent)
            response = connection.getresponse()
            return response.status, response.read(), response.headers.get("Location", "")


@pytest.fixture(params=["", "/"], ids=["passes on", "strips"])
def slash(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["on", "off"], ids=["buffers", "streams"])
def proxy(request: pytest.FixtureRequest, slash: str) -> Iterator[Proxy]:
    with new_home(url_prefix="/pypi") as home, contextlib.ExitStack() as stack:
        home.start()
        # nginx takes over what is open already, so that nobody else gets the port meanwhile.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        run = home.path / "nginx"
        run.mkdir()
        run.chmod(0o777)  # nginx's own account, when root runs the tests
        home.path.chmod(0o755)
        text = CONFIG.format(run=run, port=port, buffering=request.param, upstream=home.port, slash=slash)
        (run / "nginx.conf").write_text(text)
        assert NGINX
        process = subprocess.Popen(
            [NGINX, "-e", "stderr", "-c", run / "nginx.conf"],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
        )
        try:
            yield Proxy(home, port, request.param == "on")
        finally:
            process.terminate()
            process.wait(60)


def test_a_client_finds_its_way(proxy: Proxy) -> None:
    """Upload, then follow links and redirects as pip does."""
    content = source(os.urandom(300_000))
    content_type, body = upload_form(NAME, content)
    assert proxy.ask(f"{proxy.url}/", "POST", body, Content_Type=content_type)[0] == 200
    url = f"{proxy.url}/simple/Foo/"
    status, page, location = proxy.ask(url)
    assert status == 301
    url = urljoin(url, location)
    assert url == f"{proxy.url}/simple/foo/"
    status, page, _ = proxy.ask(url)
    assert status == 200
    link = re.search(r'href="([^"]+)"', page.decode())
    assert link
    assert proxy.ask(urljoin(url, html.unescape(link[1])).partition("#")[0])[:2] == (200, content)
    assert proxy.ask(f"{proxy.url}/health")[:2] == (200, b"Ok")
    assert proxy.ask(f"{proxy.url}/_ppctl/worker")[0] == 404


def test_a_client_that_hangs_up_leaves_nothing(proxy: Proxy) -> None:
    content_type, body = upload_form(NAME, source(os.urandom(500_000)))
    head = (
        f"POST /pypi/ HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        connection.sendall(head.encode() + body[:300_000])
        # nginx passes nothing on of what it has not whole.
        assert proxy.buffers or within(1, lambda: proxy.home.stored() != [])
    assert within(1, lambda: proxy.home.stored() == [])
    assert proxy.ask(f"{proxy.url}/", "POST", body, Content_Type=content_type)[0] == 200
    assert proxy.home.stored() == [NAME]


TRICKS = [
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%b",
    b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n\r\n%b",
    b"Transfer-Encoding : chunked\r\nContent-Length: %d\r\n\r\n%b",
    b"Transfer-Encoding:\x0bchunked\r\nContent-Length: %d\r\n\r\n%b",
    b"Transfer_Encoding: chunked\r\nContent-Length: %d\r\n\r\n%b",
    b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n%b",
    b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n%b",
    b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n%b",
    b"X: y\r\n Content-Length: 0\r\nContent-Length: %d\r\n\r\n%b",
    b"Transfer-Encoding: chunked\r\nX: %d\r\n\r\n0;a=\nb\r\n\r\n%b",
    b"Transfer-Encoding: chunked\r\nX: %d\r\n\r\n0\n\n%b",
]


@pytest.mark.parametrize("trick", TRICKS)
def test_no_request_is_smuggled_past_nginx(proxy: Proxy, trick: bytes) -> None:
    """nginx keeps a connection to the index; what one client hides in a body must not answer the next one."""
    hidden = b"GET /pypi/simple/smuggled/ HTTP/1.1\r\nHost: x\r\n\r\n"
    data = b"POST /pypi/ HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n" + trick % (len(hidden), hidden)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(65536):
                pass
    for _ in range(3):
        assert proxy.ask(f"{proxy.url}/health")[:2] == (200, b"Ok")
