"""The bytes of HTTP answers as libevent writes them: headers, HTTP/1.0, HEAD, error pages."""

from __future__ import annotations

import time
from email.utils import formatdate

Headers = list[tuple[str, str]]

_PHRASES = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
    429: "Too Many Requests", 499: "Client Closed Request",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


def html_page(status: int) -> bytes:
    """The error page of libevent."""
    phrase = _PHRASES[status]
    return (f"<HTML><HEAD>\n<TITLE>{status} {phrase}</TITLE>\n</HEAD><BODY>\n<H1>{phrase}</H1>\n</BODY></HTML>\n").encode()


def answer(method: str, status: int, headers: Headers, body: bytes, *, http_1_0: bool, keep_alive: bool, close: bool) -> bytes:
    """The bytes of an answer, with libevent's rules for HTTP/1.0, HEAD and Connection."""
    version = "1.0" if http_1_0 else "1.1"
    lines = [f"HTTP/{version} {status} {_PHRASES.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if not http_1_0:
        lines.append(f"Date: {_date()}")
    elif keep_alive and not close:
        lines.append("Connection: keep-alive")
    if method != "HEAD" and (not http_1_0 or keep_alive):
        lines.append(f"Content-Length: {len(body)}")
    if close and not http_1_0 and not any(name == "Connection" for name, _ in headers):
        lines.append("Connection: close")
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("latin-1") + (b"" if method == "HEAD" else body)


_last_date = (0, "")


def _date() -> str:
    global _last_date  # noqa: PLW0603  one text a second, not one an answer
    now = int(time.time())
    if _last_date[0] != now:
        _last_date = (now, formatdate(now, usegmt=True))
    return _last_date[1]


def refusal(status: int) -> bytes:
    """The page for bytes that are no request; the connection is closed behind it."""
    body = html_page(status)
    head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: text/html\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
