"""pyarrow's S3 file system, pickled without its keys.

pyarrow's own pickles its options, and Ray keeps what it pickles: in the head's state, on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyarrow.fs import S3FileSystem

from cluster.s3_client import S3Address


class KeylessFileSystem(S3FileSystem):  # type: ignore[misc]
    """Another process makes its own of the address, and reads the keys where it runs."""

    def __init__(self, address: S3Address, **options: Any) -> None:
        super().__init__(**options)
        self.address = address

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[S3Address]]:
        return S3Address.filesystem, (self.address,)
