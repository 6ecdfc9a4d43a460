"""The port-forward of a Kubernetes API: a WebSocket whose binary frames carry a TCP connection."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
DATA, ERROR = b"\x00", b"\x01"


def forward(handler: BaseHTTPRequestHandler, port: int, target: tuple[str, int]) -> None:
    """Serve one connection until either end closes it."""
    accept = hashlib.sha1((handler.headers["Sec-WebSocket-Key"] + MAGIC).encode()).digest()
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
    protocol = handler.headers.get("Sec-WebSocket-Protocol", "").split(",")[0]
    handler.send_header("Sec-WebSocket-Protocol", protocol)
    handler.end_headers()
    handler.wfile.flush()
    handler.close_connection = True
    for channel in (DATA, ERROR):  # each begins with the port it is for
        _send(handler, channel + struct.pack("<H", port))
    with socket.create_connection(target) as far:
        threading.Thread(target=_back, args=(far, handler), daemon=True).start()
        while (frame := _receive(handler.rfile)) is not None:
            if frame[:1] == DATA and len(frame) > 1:
                far.sendall(frame[1:])


def _back(far: socket.socket, handler: BaseHTTPRequestHandler) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := far.recv(65536):
            _send(handler, DATA + data)
        _send(handler, b"", opcode=8)
        handler.connection.shutdown(socket.SHUT_RDWR)


def _send(handler: BaseHTTPRequestHandler, payload: bytes, opcode: int = 2) -> None:
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 65536:
        length = b"\x7e" + struct.pack(">H", size)
    else:
        length = b"\x7f" + struct.pack(">Q", size)
    handler.wfile.write(bytes([0x80 | opcode]) + length + payload)
    handler.wfile.flush()


def _receive(stream: Any) -> bytes | None:
    """A frame's payload, unmasked; None at the end."""
    try:
        head = stream.read(2)
        if len(head) < 2 or head[0] & 0x0F == 8:
            return None
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", stream.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", stream.read(8))
        mask = stream.read(4)
        data = stream.read(size)
    except (OSError, ValueError):
        return None
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
