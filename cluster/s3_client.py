"""The boto3 client and the pyarrow file system for one S3 address, with its credentials."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from cluster.secrets import resolve_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from pyarrow.fs import FileSystem

Style = Literal["virtual", "path"]
# These answer only at bucket.host; everything else that is not AWS is safest at host/bucket.
VIRTUAL_HOSTED = ("aliyuncs.com", "myqcloud.com", "volces.com")
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 20
NUM_ATTEMPTS = 3


@dataclasses.dataclass(frozen=True)
class S3Address:
    """Where an S3 store is and the name of the secret that opens it; never the secret itself."""

    endpoint: str | None
    region: str | None
    credentials: Any | None

    def client(self) -> S3Client:
        """The client of this process; a new one once the secret's files have changed."""
        keys = self._keys("access", "secret")
        style: Style = "virtual" if self._virtual() else "path"
        access, secret = keys.get("access"), keys.get("secret")
        return _client(self.endpoint, self.region, style, access, secret, os.getpid())

    def filesystem(self) -> FileSystem:
        """pyarrow's own client, told the endpoint: it ignores AWS_ENDPOINT_URL at times."""
        from cluster.s3_filesystem import KeylessFileSystem

        options: dict[str, Any] = self._keys("access_key", "secret_key")
        if self.endpoint:
            parts = urlsplit(self.endpoint)
            options |= {"scheme": parts.scheme, "endpoint_override": parts.netloc}
            options["force_virtual_addressing"] = self._virtual()
        if self.region or self.endpoint:
            options["region"] = self.region or "us-east-1"
        return KeylessFileSystem(
            self, connect_timeout=CONNECT_TIMEOUT_S, request_timeout=READ_TIMEOUT_S, **options
        )

    def _keys(self, access: str, secret: str) -> dict[str, Any]:
        """The key pair under the names that the library wants; nothing where none is given."""
        if self.credentials is None:
            return {}
        return {
            access: resolve_key(self.credentials, "access_key"),
            secret: resolve_key(self.credentials, "secret_key"),
        }

    def _virtual(self) -> bool:
        host = urlsplit(self.endpoint).hostname or "" if self.endpoint else ""
        return not self.endpoint or host.endswith(VIRTUAL_HOSTED)


@functools.lru_cache(maxsize=8)
def _client(
    endpoint: str | None,
    region: str | None,
    style: Style,
    access: str | None,
    secret: str | None,
    pid: int,
) -> S3Client:
    """Few attempts and short timeouts, so that a dead store fails in seconds.

    Kept because making one takes longer than most requests; safe among threads, but not across a
    fork, hence `pid`.
    """
    import boto3
    from botocore.config import Config

    session = boto3.Session(aws_access_key_id=access, aws_secret_access_key=secret)
    # Checksums that only AWS is sure to know are not sent to other stores.
    checksums: Literal["when_required", "when_supported"]
    checksums = "when_required" if endpoint else "when_supported"
    config = Config(
        retries={"mode": "standard", "total_max_attempts": NUM_ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=16,
        s3={"addressing_style": style},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
    name = region or session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint, region_name=name, config=config)
