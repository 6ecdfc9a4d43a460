"""Each way a store can fail is one clear line, and nothing is left half-written."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cluster.s3_errors import s3_error
from cluster.storage import MissingError, Storage, StorageError, UnavailableError, open_storage


def refusal(storage: Storage) -> str:
    """The one line that `check` fails with."""
    with pytest.raises(StorageError) as caught:
        storage.check()
    text = str(caught.value)
    assert "\n" not in text
    assert "botocore" not in text
    assert "hush-hush" not in text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


def change(address: Any, **values: Any) -> Storage:
    return open_storage(dataclasses.replace(address, **values), "acme")


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Answering(BaseHTTPRequestHandler):
    """Answers everything with one status and one S3 error code."""

    protocol_version = "HTTP/1.1"  # 1.0 leaves a client that expects "100 Continue" without it
    status, code = 200, ""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = f"<Error><Code>{self.code}</Code></Error>".encode() if self.code else b""
        self.send_response(self.status)
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", '"0"')
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_local_path_is_a_file(tmp_path: Path, local_address: Any) -> None:
    (tmp_path / "store").write_text("I am a file")
    storage = open_storage(local_address, "acme")
    assert "a file is where a folder should be; choose another cluster.storage" in refusal(storage)
    for ask in (storage.list, storage.folders, lambda: storage.read("x")):
        with pytest.raises(StorageError, match="a file is where a folder should be"):
            ask()


def test_local_permission_denied(tmp_path: Path, local_address: Any) -> None:
    storage = open_storage(local_address, "acme")
    storage.write("x", b"1")
    (tmp_path / "store" / "acme").chmod(0o500)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        assert "permission denied; give yourself access" in refusal(storage)
        for ask in (storage.read, storage.exists):
            with pytest.raises(StorageError, match="permission denied"):
                ask("x")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        (tmp_path / "store" / "acme").chmod(0o700)


def test_local_disk_full(
    tmp_path: Path, local_address: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(local_address, "acme")
    storage.write("x", b"old")
    (tmp_path / "file").write_bytes(b"data")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cluster.local_storage.os.fsync", full)
    for ask in (
        lambda: storage.write("x", b"new"),
        lambda: storage.create("y", b"new"),
        lambda: storage.upload(tmp_path / "file", "z"),
    ):
        with pytest.raises(UnavailableError, match=r"acme/.: the disk is full; free some space"):
            ask()
    assert [entry.path for entry in storage.list()] == ["x"]
    assert storage.read("x") == b"old"
    assert list((tmp_path / "store" / "acme" / ".tmp").iterdir()) == []


def test_local_without_hard_links(local_address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("cluster.local_storage.os.link", refuse)
    storage = open_storage(local_address, "acme")
    assert storage.create("x", b"1")
    assert not storage.create("x", b"2")
    assert storage.read("x") == b"1"


def test_check_sweeps_old_scratch_files(tmp_path: Path, local_address: Any) -> None:
    storage = open_storage(local_address, "acme")
    storage.write("x", b"1")
    scratch = tmp_path / "store" / "acme" / ".tmp"
    (scratch / "old").write_bytes(b"left by a kill")
    (scratch / "new").write_bytes(b"under way")
    os.utime(scratch / "old", (0, 0))
    storage.check()
    assert [file.name for file in scratch.iterdir()] == ["new"]


def test_no_such_bucket(s3_address: Any) -> None:
    storage = change(s3_address, url="s3://nobodys-bucket/team")
    text = refusal(storage)
    assert "s3://nobodys-bucket/team/acme" in text
    assert "the bucket does not exist (NoSuchBucket); create it or correct cluster.storage" in text
    with pytest.raises(StorageError, match="bucket does not exist") as caught:
        storage.read("x")
    assert not isinstance(caught.value, MissingError)


def test_not_a_bucket_name(s3_address: Any) -> None:
    assert "not valid; correct cluster.storage" in refusal(change(s3_address, url="s3://No Name"))


def test_connection_refused(s3_address: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        began = time.monotonic()
        text = refusal(change(s3_address, endpoint=f"http://127.0.0.1:{port}"))
    assert time.monotonic() - began < 15
    assert f"http://127.0.0.1:{port} does not answer (no connection); check cluster.storage" in text


def test_bad_endpoint(s3_address: Any) -> None:
    assert "not a valid endpoint; write it as" in refusal(change(s3_address, endpoint="nowhere:1"))


def test_secret_missing(s3_address: Any, secrets_folder: Path) -> None:
    (secrets_folder / "s3" / "access_key").unlink()
    assert "secret s3/access_key: there is no" in refusal(change(s3_address))


def test_no_credentials(s3_address: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    assert "no complete credentials were found" in refusal(change(s3_address, credentials=None))


def test_wrong_credentials(s3_address: Any) -> None:
    handler = type("Refusing", (Answering,), {"status": 403, "code": "SignatureDoesNotMatch"})
    with serving(handler) as endpoint:
        text = refusal(change(s3_address, endpoint=endpoint))
    assert "the credentials are refused (SignatureDoesNotMatch); check the secret" in text


def test_conditions_ignored(s3_address: Any) -> None:
    with serving(Answering) as endpoint:
        text = refusal(change(s3_address, endpoint=endpoint))
    assert "ignores conditional writes" in text


@pytest.mark.parametrize(
    ("code", "status", "kind", "text"),
    [
        ("AccessDenied", 403, StorageError, "access is denied (AccessDenied); the credentials"),
        ("ExpiredToken", 400, StorageError, "have expired (ExpiredToken); renew them"),
        ("PermanentRedirect", 301, StorageError, "lives in another region"),
        ("RequestTimeTooSkewed", 403, StorageError, "clock is wrong"),
        ("NotImplemented", 501, StorageError, "does not offer conditional writes"),
        ("XMinioStorageFull", 507, UnavailableError, "the store is full"),
        ("SlowDown", 503, UnavailableError, "the store is overloaded or failing"),
        ("SomethingNew", 500, UnavailableError, "the store is overloaded or failing"),
        ("SomethingNew", 400, StorageError, "the store refused (SomethingNew)"),
        ("NoSuchKey", 404, MissingError, "s3://b/x does not exist"),
    ],
)
def test_answers(code: str, status: int, kind: type[StorageError], text: str) -> None:
    response: Any = {
        "Error": {"Code": code, "Message": "AKIDEXAMPLE is not allowed"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    error = s3_error(ClientError(response, "PutObject"), "s3://b/x", None)
    assert type(error) is kind
    assert text in str(error)
    assert "AKIDEXAMPLE" not in str(error)


def test_broken_upload_publishes_nothing(
    s3_address: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three parts fails: no object, and no parts that cost money for ever."""
    (tmp_path / "big").write_bytes(bytes(20 << 20))
    storage: Any = open_storage(s3_address, "acme")
    client = storage.address.client()
    upload_part = client.upload_part

    def fail_second(**request: Any) -> Any:
        if request["PartNumber"] == 2:
            raise OSError(errno.EIO, "read error")
        return upload_part(**request)

    monkeypatch.setattr(client, "upload_part", fail_second)
    with pytest.raises(StorageError, match="the disk reports an error"):
        storage.upload(tmp_path / "big", "big")
    assert not storage.exists("big")
    assert not client.list_multipart_uploads(Bucket=storage.bucket).get("Uploads")


def test_lost_answer_does_not_lose_the_race(s3_address: Any) -> None:
    """The put arrives, its answer does not; the repeated put loses only against itself."""

    class Forgetful(Answering):
        stored: list[bytes] = []  # noqa: RUF012

        def do_PUT(self) -> None:
            if self.stored:
                self.status, self.code = 412, "PreconditionFailed"
                return self.answer()
            self.stored.append(self.rfile.read(int(self.headers["content-length"])))
            return self.connection.shutdown(socket.SHUT_RDWR)

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(self.stored[0])))
            self.send_header("etag", '"0"')
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(self.stored[0])

    with serving(Forgetful) as endpoint:
        storage = change(s3_address, endpoint=endpoint)
        assert storage.create("x", b"mine")
        assert not storage.create("x", b"mine")
        assert not storage.create("x", b"yours")
