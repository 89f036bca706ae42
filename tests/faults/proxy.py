"""A TCP proxy that fails on request: it forwards, refuses, hangs, or answers every HTTP request with an error."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultProxy:
    """Stands between a client and a server on this machine.

    Args:
        port: Of the server.

    Attributes:
        mode: `forward`, `refuse`, `hang` or `error`; may be changed at any time, and holds for open connections too.
        on_request: Called with each piece of data that a client sends; returns whether to forward it.
    """

    def __init__(self, port: int, on_request: Callable[[bytes], bool] = lambda data: True) -> None:
        self.mode = "forward"
        self.on_request = on_request
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server: socket.socket | None = None
        with client, suppress(OSError):
            while data := client.recv(1 << 16):
                mode = self.mode
                if not self.on_request(data):
                    return
                if mode == "refuse":
                    return
                if mode == "hang":
                    threading.Event().wait(3600)
                if mode == "error":
                    client.sendall(ERROR)
                    return
                if server is None:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                    threading.Thread(target=self._answer, args=(server, client), daemon=True).start()
                server.sendall(data)
        if server is not None:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with server, suppress(OSError):
            while data := server.recv(1 << 16):
                if self.mode == "hang":
                    threading.Event().wait(3600)
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
