"""One place for everything a project keeps: a folder on a local path or under an S3 prefix.

Paths are relative POSIX paths inside `<storage>/<name>/`. Nothing becomes visible half-written: a
single file appears whole or not at all, and a folder counts once its manifest is there, which
`publish_folder` writes last. boto3 and pyarrow are imported when a store is used, never before.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CHUNK_BYTES = 1 << 20
Names = list[str]  # `list` is a method below
SAFE_PATH = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[^/\0\n][^\0\n]*(?<!/)")


class StorageError(ValueError):
    """The store could not do what was asked; the text names the address, the cause and a cure."""


class MissingError(StorageError):
    """There is nothing at that path."""


class DamagedError(StorageError):
    """What is stored is not what was written."""


class UnavailableError(StorageError):
    """The store does not answer, is overloaded or is full: the same request may work later."""


class StorageAddress(Protocol):
    """The part of the YAML's `cluster.storage` that this module reads."""

    @property
    def url(self) -> str: ...
    @property
    def endpoint(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...
    @property
    def credentials(self) -> Any | None: ...


@dataclass(frozen=True)
class Entry:
    """A stored file: its path inside the store, bytes, and seconds since the epoch."""

    path: str
    size: int
    modified: float


class Storage(ABC):
    """What every store can do. All methods raise StorageError; objects pickle without secrets."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The file's content; MissingError where there is none."""

    @abstractmethod
    def read_tagged(self, path: str) -> tuple[bytes, str]:
        """The content and a tag of this very content, for `swap`."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Replaces the file: readers see the old content or the new, nothing between."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Writes only where nothing is: of many who race, exactly one gets True."""

    @abstractmethod
    def swap(self, path: str, data: bytes, tag: str) -> bool:
        """Replaces only the content that `tag` was read from; False where it has changed."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file is there (folders do not count)."""

    @abstractmethod
    def age(self, path: str) -> float:
        """Seconds since the file was last written, by the store's own clock."""

    @abstractmethod
    def list(self, prefix: str = "") -> list[Entry]:
        """All files at any depth in the folder `prefix`, sorted by path; empty where none."""

    @abstractmethod
    def folders(self, prefix: str = "") -> Names:
        """Names of the direct sub-folders, sorted; empty where none."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Removes a file; nothing happens where there is none."""

    @abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Removes a folder with all in it; nothing happens where there is none."""

    @abstractmethod
    def upload(self, local: Path, path: str) -> str:
        """Copies a local file in, whole or not at all; its SHA-256 in hex."""

    @abstractmethod
    def download(self, path: str, local: Path) -> str:
        """Copies a file out, whole or not at all; the SHA-256 of what arrived."""

    @abstractmethod
    def url(self, path: str = "") -> str:
        """The address to show to people: a local path or an s3:// URL."""

    @abstractmethod
    def local_path(self, path: str = "") -> Path | None:
        """The file on this machine, where the store is a local path."""

    @abstractmethod
    def filesystem(self) -> FileSystem:
        """pyarrow's file system for bulk data, used with `bulk_path`."""

    @abstractmethod
    def bulk_path(self, path: str) -> str:
        """The path to give to `filesystem()`."""

    @abstractmethod
    def check(self) -> None:
        """Reachable, writable and honest about conditional writes, else StorageError."""

    def read_json(self, path: str) -> Any:
        """The file's JSON value; DamagedError where it is not JSON."""
        return self.parse_json(path, self.read(path))

    def parse_json(self, path: str, data: bytes) -> Any:
        """The JSON value of what was read from `path`."""
        try:
            return json.loads(data)
        except (UnicodeDecodeError, json.JSONDecodeError):
            raise DamagedError(
                f"{self.url(path)} is damaged: not valid JSON; restore it or delete it"
            ) from None

    def write_json(self, path: str, value: Any) -> None:
        self.write(path, encode_json(value))


def open_storage(spec: StorageAddress, name: str) -> Storage:
    """The store of the project `name` at the spec's address; touches nothing until it is used."""
    if spec.url.startswith("s3://"):
        from cluster.s3 import S3Storage

        return S3Storage(
            url=f"{spec.url.rstrip('/')}/{name}",
            endpoint=spec.endpoint,
            region=spec.region,
            credentials=spec.credentials,
        )
    from cluster.local_storage import LocalStorage

    return LocalStorage(Path(spec.url) / name)


def upload_folder(storage: Storage, local: Path, path: str) -> dict[str, dict[str, Any]]:
    """Uploads every file below `local`; {relative name: {"sha256", "size"}}, sorted by name."""
    names = sorted(f.relative_to(local).as_posix() for f in local.rglob("*") if f.is_file())
    return {
        name: {
            "sha256": storage.upload(local / name, f"{path}/{name}"),
            "size": (local / name).stat().st_size,
        }
        for name in names
    }


def publish_folder(
    storage: Storage, local: Path, path: str, manifest: str, content: Mapping[str, Any]
) -> dict[str, Any]:
    """Uploads a folder and makes it visible by its manifest, which is written last.

    Returns the manifest: `content` plus "files": {name: {"sha256", "size"}}. Where the folder was
    published before, that manifest stands and is returned, and nothing is uploaded.
    """
    if storage.exists(f"{path}/{manifest}"):
        return dict(storage.read_json(f"{path}/{manifest}"))
    published = {**content, "files": upload_folder(storage, local, path)}
    if not storage.create(f"{path}/{manifest}", encode_json(published)):
        return dict(storage.read_json(f"{path}/{manifest}"))
    return published


def encode_json(value: Any) -> bytes:
    """JSON as all our small files have it: sorted, indented, UTF-8, one newline at the end."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def sha256_file(path: Path | str) -> str:
    """The file's SHA-256 in hex, read in chunks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(path: str) -> str:
    """The path itself, where it stays inside the store; StorageError otherwise."""
    if path and not SAFE_PATH.fullmatch(path):
        raise StorageError(f"{path!r} is not a path inside the storage; use names without '..'")
    return path
