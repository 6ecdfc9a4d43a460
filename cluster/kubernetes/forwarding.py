"""A port of this machine's loopback that leads to a pod: through the Kubernetes API, no kubectl."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from cluster.api import UnreachableError
from cluster.connection import ClusterError

CHUNK = 65536
CARRIERS = "Kubernetes port forward proxy"
"""What the official client calls the threads that carry the bytes."""


class Forward:
    """Listens while this process lives; ``dial`` makes each connection's other end.

    A pod that was replaced is no matter: the next connection goes to the new one.
    """

    def __init__(self, dial: Callable[[], socket.socket]) -> None:
        _keep_quiet()
        self._dial = dial
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._trouble: str | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def check(self, error: Exception | None = None) -> None:
        """Raise UnreachableError with the cause where the last connection was not made."""
        if self._trouble is not None:
            raise UnreachableError(self._trouble)

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):  # wakes the thread, which closes it
            self._listening.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with self._listening:
            while True:
                try:
                    near, _ = self._listening.accept()
                except OSError:
                    return
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                far = self._dial()
            except ClusterError as error:
                self._trouble = str(error)
                return
            self._trouble = None
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()
            far.close()


def _keep_quiet() -> None:
    """Print no traceback of a connection that broke: who uses it hears of that, and dials again."""
    before = threading.excepthook
    if getattr(before, "is_quiet", False):
        return

    def hook(raised: threading.ExceptHookArgs) -> None:
        name = raised.thread.name if raised.thread else ""
        if not (name.startswith(CARRIERS) and isinstance(raised.exc_value, OSError)):
            before(raised)

    hook.is_quiet = True  # type: ignore[attr-defined]
    threading.excepthook = hook


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes one way until either end is closed."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
