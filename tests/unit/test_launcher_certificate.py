"""Machines of a cluster believe each other, and nobody else."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.launcher.remote.slipway_certificate import authority
from cluster.launcher.startup import AUTHORITY, CERTIFICATE


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The folder that Ray's variables point at, as a machine makes it before Ray starts."""
    for name, content in zip(AUTHORITY, authority(), strict=True):
        (tmp_path / name).write_bytes(content)
    for _ in range(2):  # each start makes it anew
        subprocess.run([sys.executable, str(CERTIFICATE), str(tmp_path)], check=True)
    return tmp_path


def greet(machine: Path, believes: Path, name: str) -> str | None:
    """What goes wrong when a client that trusts an authority meets a machine under a name."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(machine / "node.pem", machine / "node.key")
    server.load_verify_locations(machine / "authority.pem")
    client = ssl.create_default_context(cafile=str(believes))
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as met:
                met.recv(1)
        except (ssl.SSLError, OSError):
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as met:
            met.send(b"x")
        return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        here.close()
        thread.join()


def test_a_machine_is_believed_by_each_of_its_names(machine: Path) -> None:
    for name in ("127.0.0.1", "localhost", socket.gethostname()):
        assert greet(machine, machine / "authority.pem", name) is None


def test_another_clusters_authority_and_another_name_are_not(machine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(authority()[0])
    assert greet(machine, other, "127.0.0.1") is not None
    assert "mismatch" in str(greet(machine, machine / "authority.pem", "192.0.2.1"))


def test_its_key_is_its_own(machine: Path) -> None:
    assert stat.S_IMODE((machine / "node.key").stat().st_mode) == 0o600
