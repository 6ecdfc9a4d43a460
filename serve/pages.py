"""The static page at `/` and the API page at `/docs`: files as they are, without a build step."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from starlette.responses import Response

FOLDER = Path(__file__).with_name("page")
PATHS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
}
"""Address -> file and media type."""
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; media-src blob:",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page(path: str) -> Response:
    """One of the files, with headers that keep scripts of others out."""
    name, media_type = PATHS[path]
    return Response(_read(name), 200, HEADERS, media_type)


@cache
def _read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
