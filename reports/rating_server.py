"""A server on this machine alone, in which people rate answers in the browser.

It listens on a loopback address. Whoever asks has to know the token: in the address that the
command prints, then in a cookie that no script can read. What pages of other origins ask for is
refused, whichever host name they use, so that a page open in the next tab can neither rate nor
read.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from espalier.errors import EspalierError, UsageError
from espalier.files import atomic_path
from espalier.reports.rating_session import Refused, Session

HOSTS = ("127.0.0.1", "::1")
MOST_BYTES = 256 * 1024
TOKEN_FILE = ".token"

_Answer = Callable[[Session, Mapping[str, Any]], dict[str, Any]]
# What can be asked for: by POST alone, so that no address, history or log holds any of it.
_CALLS: Mapping[str, _Answer] = {
    "/api/about": lambda session, asked: session.about(),
    "/api/next": lambda session, asked: session.following(
        str(asked.get("part")), asked.get("rater", ""), _names(asked.get("passed"))
    ),
    "/api/item": lambda session, asked: session.item(
        str(asked.get("part")), asked.get("rater", ""), str(asked.get("item"))
    ),
    "/api/rate": lambda session, asked: session.save(
        str(asked.get("part")), asked.get("rater", ""), asked
    ),
    "/api/progress": lambda session, asked: session.progress(),
}


def _names(value: Any) -> frozenset[str]:
    return frozenset(str(one) for one in value) if isinstance(value, list) else frozenset()


class RatingServer(ThreadingHTTPServer):
    """Serves one session and its page."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], session: Session, token: str, page: str, policy: str
    ) -> None:
        """Listens at once; raises UsageError where the address is taken."""
        self.session = session
        self.token = token
        self.page = page.encode("utf-8")
        self.policy = policy
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise UsageError(
                f"Port {address[1]} of {address[0]} can't be listened on: {error.strerror}.",
                hint="another server may be running there; choose another --port (0 takes a free "
                "one)",
            ) from error

    @property
    def origin(self) -> str:
        """The address without a path."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def url(self) -> str:
        """The address that lets a rater in."""
        return f"{self.origin}/?token={quote(self.token)}"

    @property
    def hosts(self) -> frozenset[str]:
        """The names under which this server may be asked; any other is somebody else's."""
        port = self.server_address[1]
        return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))

    @property
    def cookie(self) -> str:
        """Cookies of one host are shared by its ports, so the name tells the port."""
        return f"espalier_rate_{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for what a request came to grief by; a client that left is nobody's business."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"espalier: a request failed: {type(error).__name__}", file=sys.stderr)


def token_of(folder: Path) -> str:
    """The token of a run's ratings, readable by its owner alone; drawn when first asked for.

    It stays the same, so that pages that are open go on after the server was started again; one
    that others could have read is drawn anew.
    """
    path = folder / TOKEN_FILE
    if path.is_file() and not (os.name == "posix" and path.stat().st_mode & 0o077):
        token = path.read_text(encoding="ascii", errors="replace").strip()
        if len(token) >= 32 and token.isascii() and token.isprintable():
            return token
    token = secrets.token_urlsafe(32)
    with atomic_path(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as handle:
            handle.write(token + "\n")
    return token


class _Denied(Exception):
    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


class _Handler(BaseHTTPRequestHandler):
    server: RatingServer
    protocol_version = "HTTP/1.1"
    server_version = "espalier"
    sys_version = ""
    timeout = 600

    def log_message(self, format: str, *args: Any) -> None:
        """Addresses hold the token; nothing is logged."""

    def do_GET(self) -> None:
        """The page; with the token in the address the reader is given the cookie."""
        try:
            self._check_host()
            address = urlsplit(self.path)
            if address.path != "/":
                raise _Denied(404, "there is nothing here")
            given = parse_qs(address.query).get("token", [""])[0]
            if given and self._is_token(given):
                self._let_in()
                return
            if not self._is_token(self._cookie()):
                raise _Denied(403, "Open the address that `espalier rate` printed: it holds the "
                              "token, which is missing or wrong here.")  # fmt: skip
            self._send(200, self.server.page, "text/html; charset=utf-8")
        except _Denied as denied:
            self._send(denied.status, f"{denied}\n".encode(), "text/plain; charset=utf-8")

    def do_POST(self) -> None:
        """One call."""
        try:
            body = self._body()
            self._check_host()
            self._check_origin()
            call = _CALLS.get(self.path)
            if call is None:
                raise _Denied(404, "there is no such call")
            self._answer(200, call(self.server.session, body))
        except _Denied as denied:
            self._answer(denied.status, {"error": str(denied)})
        except Refused as refused:
            self._answer(422, {"error": str(refused)})
        except EspalierError as error:
            self._answer(500, {"error": error.what})

    # --- who may ask -------------------------------------------------------------------------

    def _check_host(self) -> None:
        """A name that is not ours was made to point here (DNS rebinding)."""
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            raise _Denied(403, "this server is asked for under another name than its own")

    def _check_origin(self) -> None:
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = self._is_token(bearer) or self._is_token(self._cookie())
        origin = self.headers.get("Origin")
        own = f"http://{self.headers.get('Host', '').lower()}"
        if origin is not None and origin.lower() != own:
            raise _Denied(403, "pages of other origins may not rate")
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise _Denied(403, "pages of other origins may not rate")
        if not known:
            raise _Denied(403, "the token is missing or wrong")
        # A browser that sends the cookie says where it comes from; without it nobody knows.
        if origin is None and not self._is_token(bearer):
            raise _Denied(403, "the origin of the request is not known")
        if self.headers.get("Content-Type", "").split(";")[0].strip() != "application/json":
            raise _Denied(415, "a call is JSON")

    def _cookie(self) -> str:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.server.token.encode())

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        # So many digits that Python would refuse to read them are too many as well.
        if not length.isdecimal() or len(length) > 9 or int(length) > MOST_BYTES:
            self.close_connection = True
            raise _Denied(413, f"a call needs a Content-Length of at most {MOST_BYTES} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _Denied(400, "the call is not valid JSON") from error
        if not isinstance(body, dict):
            raise _Denied(400, "a call is a JSON object")
        return body

    # --- answers -----------------------------------------------------------------------------

    def _let_in(self) -> None:
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header(
            "Set-Cookie",
            f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Lax",
        )
        self._end(0)

    def _answer(self, status: int, value: Mapping[str, Any]) -> None:
        # Escaped: some answer may hold half of a character.
        self._send(status, json.dumps(value, ensure_ascii=True).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self._end(len(data))
        self.wfile.write(data)

    def _end(self, length: int) -> None:
        for name, value in (
            ("Content-Length", str(length)),
            ("Content-Security-Policy", self.server.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
