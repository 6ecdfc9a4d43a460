"""A store under an S3 prefix, at AWS or any endpoint that offers conditional writes.

boto3 does all that has to be whole or conditional: its uploads of many parts are aborted when
anything fails, where pyarrow's output stream would publish what it has. pyarrow gets the bulk.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import contextlib
import email.utils
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.local_storage import translated
from cluster.s3_client import S3Address
from cluster.s3_errors import s3_error
from cluster.storage import (
    Entry,
    MissingError,
    Names,
    Storage,
    StorageError,
    checked,
    sha256_file,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from pyarrow.fs import FileSystem

LOST = {"PreconditionFailed", "412", "NoSuchKey", "404"}
CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
NUM_CONFLICTS = 8
NUM_KEYS_PER_DELETE = 1000


class S3Storage(Storage):
    """Everything of one project below s3://bucket/prefix."""

    def __init__(
        self, url: str, endpoint: str | None, region: str | None, credentials: Any | None
    ) -> None:
        self.root = url
        self.bucket, _, self.prefix = url.removeprefix("s3://").partition("/")
        self.address = S3Address(endpoint, region, credentials)

    def __repr__(self) -> str:
        return f"S3Storage({self.root!r})"

    def read(self, path: str) -> bytes:
        return self.read_tagged(path)[0]

    def read_tagged(self, path: str) -> tuple[bytes, str]:
        with self._translated(path) as client:
            answer = client.get_object(Bucket=self.bucket, Key=self._key(path))
            return answer["Body"].read(), answer["ETag"]

    def write(self, path: str, data: bytes) -> None:
        with self._translated(path) as client:
            client.put_object(Bucket=self.bucket, Key=self._key(path), Body=data)

    def create(self, path: str, data: bytes) -> bool:
        return self._put_if(path, data, IfNoneMatch="*")

    def swap(self, path: str, data: bytes, tag: str) -> bool:
        return self._put_if(path, data, IfMatch=tag)

    def exists(self, path: str) -> bool:
        with self._translated(path) as client:
            key = self._key(path)
            answer = client.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1)
            return any(found["Key"] == key for found in answer.get("Contents", []))

    def age(self, path: str) -> float:
        with self._translated(path) as client:
            answer = client.head_object(Bucket=self.bucket, Key=self._key(path))
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            now = email.utils.parsedate_to_datetime(headers["date"])
            return max(0.0, (now - answer["LastModified"]).total_seconds())

    def list(self, prefix: str = "") -> list[Entry]:
        return [
            Entry(found["Key"].removeprefix(self._key("")), found["Size"], _seconds(found))
            for page in self._pages(prefix)
            for found in page.get("Contents", [])
            if not found["Key"].endswith("/")  # pyarrow marks folders so
        ]

    def folders(self, prefix: str = "") -> Names:
        start = self._start(prefix)
        return sorted(  # S3's own order counts the slash at the end
            found["Prefix"].removeprefix(start).rstrip("/")
            for page in self._pages(prefix, Delimiter="/")
            for found in page.get("CommonPrefixes", [])
        )

    def delete(self, path: str) -> None:
        with self._translated(path) as client:
            client.delete_object(Bucket=self.bucket, Key=self._key(path))

    def delete_tree(self, prefix: str) -> None:
        assert checked(prefix), "refusing to delete the whole storage"
        keys = [self._key(entry.path) for entry in self.list(prefix)]
        for start in range(0, len(keys), NUM_KEYS_PER_DELETE):
            doomed: Any = [{"Key": key} for key in keys[start : start + NUM_KEYS_PER_DELETE]]
            with self._translated(prefix) as client:
                answer = client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": doomed, "Quiet": True}
                )
            for failed in answer.get("Errors", []):
                raise StorageError(
                    f"{self.url(prefix)}: not all could be deleted ({failed['Code']}); run again"
                )

    def upload(self, local: Path, path: str) -> str:
        with translated(local):
            before = local.stat()
            digest = sha256_file(local)
            with local.open("rb") as source, self._translated(path) as client:
                client.upload_fileobj(source, self.bucket, self._key(path))
            after = local.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise StorageError(f"{local} changed while it was uploaded; run again when it is whole")
        return digest

    def download(self, path: str, local: Path) -> str:
        temporary = local.with_name(f".{local.name}.{uuid.uuid4().hex}")
        with translated(local):
            local.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file, self._translated(path) as client:
                    client.download_fileobj(self.bucket, self._key(path), file)
                digest = sha256_file(temporary)
                temporary.replace(local)
            finally:
                temporary.unlink(missing_ok=True)
        return digest

    def url(self, path: str = "") -> str:
        return f"{self.root}/{path}" if path else self.root

    def local_path(self, path: str = "") -> Path | None:
        return None

    def filesystem(self) -> FileSystem:
        return self.address.filesystem()

    def bulk_path(self, path: str) -> str:
        return f"{self.bucket}/{self._key(path)}"

    def check(self) -> None:
        probe = f".check-{uuid.uuid4().hex}"
        try:
            if not self.create(probe, b"1") or self.create(probe, b"2"):
                raise StorageError(
                    f"{self.root}: the store ignores conditional writes, so two runs could "
                    "overwrite each other; use AWS S3, MinIO, Ceph or Cloudflare R2"
                )
        finally:
            with contextlib.suppress(StorageError):
                self.delete(probe)

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{checked(path)}"

    def _start(self, prefix: str) -> str:
        return f"{self._key(prefix)}/" if prefix else self._key("")

    def _put_if(self, path: str, data: bytes, **condition: str) -> bool:
        """A conditional put. The store may ask to repeat while another one is under way."""
        from botocore.exceptions import ClientError

        for turn in range(NUM_CONFLICTS):
            with self._translated(path) as client:
                try:
                    client.put_object(
                        Bucket=self.bucket,
                        Key=self._key(path),
                        Body=data,
                        **condition,  # type: ignore[arg-type]
                    )
                    return True
                except ClientError as error:
                    code = error.response["Error"]["Code"]
                    if code in LOST:
                        return self._was_ours(error, path, data)
                    if code not in CONFLICT or turn == NUM_CONFLICTS - 1:
                        raise
            time.sleep(0.05 * 2**turn)
        raise AssertionError("unreachable")

    def _was_ours(self, error: Any, path: str, data: bytes) -> bool:
        """After a lost answer boto3 repeats the put and loses against itself: read what is there.

        Callers whose contents may be equal by chance add a token of their own to them.
        """
        if not error.response["ResponseMetadata"].get("RetryAttempts"):
            return False
        with contextlib.suppress(MissingError):
            return self.read(path) == data
        return False

    def _pages(self, prefix: str, **options: str) -> Iterator[Any]:
        start = self._start(prefix)
        with self._translated(prefix) as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket,
                Prefix=start,
                **options,  # type: ignore[arg-type]
            )
            yield from pages

    @contextlib.contextmanager
    def _translated(self, path: str) -> Iterator[S3Client]:
        """A client, with whatever boto3 raises turned into StorageError about `path`."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self.address.client()
        except (BotoCoreError, ValueError) as error:
            raise s3_error(error, self.root, self.address.endpoint) from None
        try:
            yield client
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise s3_error(error, self.url(path), self.address.endpoint) from None


def _seconds(found: Any) -> float:
    return float(found["LastModified"].timestamp())
