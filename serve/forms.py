"""Forms with files (multipart/form-data), read from a body that was checked already."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.errors import ServiceError, malformed


async def read_form(request: Request, body: bytes) -> dict[str, Any]:
    """Name -> text, or bytes where it is a file; 400 or 415 where the body is no such form."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise ServiceError(415, "unsupported_media", "send multipart/form-data with a file")

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    try:
        parser = MultiPartParser(
            request.headers, stream(), max_files=1, max_fields=20, max_part_size=2**20
        )
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        message = getattr(error, "message", "") or "the body is not the form that it says it is"
        raise malformed(message) from None
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        fields[name] = await value.read() if isinstance(value, UploadFile) else value
    await form.close()
    return fields
