"""Local sources travel to remote storage once, by digest, before a job that reads them starts.

A file becomes `uploads/<sha256>/<its name>`; the files of a folder or glob also a list of these
under `uploads/lists/`, which names them in order. An album (a folder of pictures) travels as one
zip. Rows depend on content, order and suffix alone, so data, run and version come out under the
same digests as if the files were read where they are.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.request import WrongRequestError
from cluster.storage import Storage, StorageError, encode_json
from jobs.domains import open_preparation
from jobs.domains.albums import digest_of, find_sources, write_zip
from jobs.domains.files import BUILTIN, UPLOADS, Source
from jobs.inspections import inspect_all

if TYPE_CHECKING:
    from cluster.spec import DataSpec, Spec

UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters and what is not UTF-8: no store and no YAML keeps these in a name."""
ASK_BYTES = 1_000_000_000
NUM_THREADS = 4
Report = Callable[[str], None]
Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Upload:
    """A local source and its place in storage."""

    source: Source
    sha256: str

    @property
    def path(self) -> str:
        name = UNSAFE.sub("_", self.source.path.rpartition("/")[2])
        name += ".zip" if self.source.is_album else ""
        return f"{UPLOADS}/{self.sha256}/{name}"


def ask_person(question: str) -> bool:
    """Ask on the terminal; WrongRequestError where there is none."""
    if not sys.stdin.isatty():
        raise WrongRequestError(f"{question} There is no terminal to ask on; add -y to agree")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def travel(
    spec: Spec, name: str, storage: Storage, report: Report, yes: bool, ask: Ask = ask_person
) -> Spec:
    """The spec as a job on the cluster reads it: the model's local files by their place in storage.

    Uploads what is not there yet; above 1 GB it asks first, unless `yes`. With local storage, the
    spec itself. Raises WrongRequestError where the answer is no, else DataError or StorageError.
    """
    if storage.local_path() is not None:
        return spec
    model = spec.model(name)
    preparation = open_preparation(model, store=storage)
    sources = preparation.sources()
    if not any(_is_local(source) for source in sources):
        return spec
    inspections = inspect_all(preparation, sources, report)
    digests = {s.path: str(i["sha256"]) for s, i in zip(sources, inspections, strict=True)}
    uploads = [Upload(s, digests[s.path]) for s in sources if _is_local(s)]
    _send(storage, missing(storage, uploads), report, yes, ask)
    data = moved(model.data, sources, digests, storage)
    models = {**spec.models, name: model.model_copy(update={"data": data})}
    return spec.model_copy(update={"models": models})


def send_data(
    storage: Storage, place: str, suffixes: frozenset[str], report: Report, yes: bool
) -> str:
    """What a job on the cluster reads for data that was named on the command line.

    Paths are the user's, from the folder the command was called in; with remote storage they
    travel there. Raises DataError where there is no such data, else as `travel`.
    """
    if "://" in place or place.startswith(BUILTIN):
        return place
    local = str(Path(place).absolute())
    sources = find_sources([local], suffixes, store=storage)
    if storage.local_path() is not None:
        return local
    uploads = [Upload(source, digest_of(source)) for source in sources]
    _send(storage, missing(storage, uploads), report, yes, ask_person)
    return _place(storage, uploads)


def missing(storage: Storage, uploads: Iterable[Upload]) -> list[Upload]:
    """Those that storage does not hold yet, each place once."""
    held = {entry.path for entry in storage.list(UPLOADS)}
    places = {upload.path: upload for upload in uploads}
    return [upload for path, upload in places.items() if path not in held]


def moved(
    data: DataSpec, sources: Sequence[Source], digests: Mapping[str, str], storage: Storage
) -> DataSpec:
    """The section `data:` with places in storage for local ones; writes the lists it names."""
    places: dict[str, list[str]] = {"": [], "validation": [], "test": []}
    groups = itertools.groupby(sources, lambda s: (s.part, _is_local(s), s.named and s.path))
    for (part, is_local, _), group in groups:
        if is_local:
            places[part].append(_place(storage, [Upload(s, digests[s.path]) for s in group]))
        elif not part:
            places[part] += [source.path for source in group]
    split = {part: places[part][0] for part in ("validation", "test") if places[part]}
    update = {"source": tuple(places[""])}
    return data.model_copy(update=update | {"split": data.split.model_copy(update=split)})


def _place(storage: Storage, uploads: Sequence[Upload]) -> str:
    """The URI of a file that was asked for by name, or of the list of those that were found."""
    if uploads[0].source.named:
        return storage.url(uploads[0].path)
    files = [{"path": upload.path, "size": upload.source.size} for upload in uploads]
    content = encode_json({"files": files})
    path = f"{UPLOADS}/lists/{hashlib.sha256(content).hexdigest()}.json"
    storage.create(path, content)
    return storage.url(path)


def _send(storage: Storage, uploads: Sequence[Upload], report: Report, yes: bool, ask: Ask) -> None:
    """Upload, a few files at a time; what an interruption left is taken up by file."""
    if not uploads:
        return
    size = sum(upload.source.size for upload in uploads)
    what = f"{len(uploads):,} files" if len(uploads) > 1 else uploads[0].source.path
    where = f"{what} ({_shown(size)}) to {storage.url(UPLOADS)}"
    if size > ASK_BYTES and not yes and not ask(f"Upload {where}?"):
        raise WrongRequestError("nothing was uploaded; name less in data.source, or agree with -y")
    report(f"uploading {where}")
    pool = ThreadPoolExecutor(NUM_THREADS)
    try:
        for _ in pool.map(lambda upload: _upload(storage, upload), uploads):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _upload(storage: Storage, upload: Upload) -> None:
    with _file_of(upload.source) as file:
        sha256 = storage.upload(file, upload.path)
    if sha256 != upload.sha256:
        storage.delete(upload.path)
        raise StorageError(f"{upload.source.path} changed while it was uploaded; run again")


@contextmanager
def _file_of(source: Source) -> Iterator[Path]:
    """The source's file; of an album, a zip of it for as long as it takes."""
    if not source.is_album:
        yield Path(source.path)
        return
    with tempfile.NamedTemporaryFile(prefix="slipway-", suffix=".zip") as file:
        write_zip(source, file)
        file.flush()
        yield Path(file.name)


def _is_local(source: Source) -> bool:
    return "://" not in source.path and not source.is_builtin


def _shown(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
