"""urllib3's pool of connections with a time limit for a whole request: connecting, sending, and every byte of the answer.

urllib3's limits, and a socket's, are for one read: a server that sends a byte now and then would never meet them. Imported
where it is used, as urllib3 is.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection


class _Socket(socket.socket):
    """A socket that waits no longer than until `deadline` (of time.monotonic), in however many parts it is written and read."""

    deadline = 0.0

    def sendall(self, *args: Any) -> None:
        """As socket's. Raises TimeoutError when time is up."""
        self._limit()
        super().sendall(*args)

    def recv_into(self, *args: Any) -> int:
        """As socket's. Raises TimeoutError when time is up."""
        self._limit()
        return super().recv_into(*args)

    def _limit(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)


class _Connection(HTTPConnection):
    _deadline = 0.0

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request. Its time begins here, where urllib3 has just put its limit into `timeout`."""
        assert self.timeout is not None
        self._deadline = time.monotonic() + self.timeout
        if isinstance(self.sock, _Socket):  # kept from the request before
            self.sock.deadline = self._deadline
        super().request(*args, **kwargs)

    def connect(self) -> None:
        super().connect()
        self.sock = _Socket(fileno=self.sock.detach())
        self.sock.deadline = self._deadline


class Pool(HTTPConnectionPool):
    """See above."""

    ConnectionCls = _Connection
