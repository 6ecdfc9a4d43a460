"""Stores to test against: a folder, and a real HTTP S3 server on a free loopback port."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cluster.spec.references import Secret
from cluster.storage import Storage, open_storage


@dataclasses.dataclass(frozen=True)
class Address:
    """What the YAML's `cluster.storage` says."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    credentials: Secret | None = None


def put_secret(folder: Path, name: str, value: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(value + "\n")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def secrets_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    monkeypatch.setenv("SLIPWAY_SECRETS", str(folder))
    put_secret(folder, "s3/access_key", "AKIDEXAMPLE")
    put_secret(folder, "s3/secret_key", "hush-hush")
    return folder


@pytest.fixture
def local_address(tmp_path: Path) -> Address:
    return Address(str(tmp_path / "store"))


@pytest.fixture
def s3_address(s3_endpoint: str, secrets_folder: Path) -> Address:
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    client.create_bucket(Bucket=bucket)
    return Address(f"s3://{bucket}/team", s3_endpoint, None, Secret("s3"))


@pytest.fixture(params=["local", "s3"])
def address(request: pytest.FixtureRequest) -> Address:
    found: Address = request.getfixturevalue(f"{request.param}_address")
    return found


@pytest.fixture
def storage(address: Address) -> Storage:
    return open_storage(address, "acme")
