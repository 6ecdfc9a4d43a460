"""Where answers to many inputs are kept: parts that appear whole, joined to one file at the end."""

from __future__ import annotations

import base64
import io
import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.local_storage import SCRATCH
from cluster.request import WrongRequestError
from cluster.spec import StorageSpec
from cluster.storage import MissingError, Storage, encode_json, open_storage

FORMS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
ABOUT = "_predictions.json"
"""What the parts are of. Readers of folders leave out names that begin so."""
DONE = "_done"
JOINED = "_joined"
Names = list[str]


@dataclass(frozen=True)
class Output:
    """A file that is joined from parts (`form` by its suffix), or a folder of parquet parts."""

    place: str
    """Absolute path or URI."""
    storage: StorageSpec
    """With whose endpoint and credentials it is written."""

    @property
    def form(self) -> str:
        """parquet or jsonl."""
        return FORMS.get(Path(self.place).suffix.lower(), "parquet")

    @property
    def is_folder(self) -> bool:
        """Whether the parts stay as they are."""
        return Path(self.place).suffix.lower() not in FORMS

    def parts(self) -> Storage:
        """The folder of the parts."""
        return self._open(self.place.rstrip("/") + ("" if self.is_folder else ".parts"))

    def is_complete(self) -> bool:
        """Whether all is there."""
        if not self.is_folder:
            return self._folder().exists(self._name)
        return bool(self.about().get("complete"))

    def about(self) -> dict[str, Any]:
        """What the parts are of; empty where there are none."""
        try:
            return dict(self.parts().read_json(ABOUT))
        except MissingError:
            return {}

    def claim(self, about: dict[str, Any]) -> dict[int, dict[str, int]]:
        """Takes the place for these answers; piece -> {"records", "failed"} of what is there.

        WrongRequestError where the parts of other answers are in the way.
        """
        known = self.about()
        if not known:
            self.parts().write(ABOUT, encode_json(about))
        elif {**known, "complete": None} != {**about, "complete": None}:
            raise WrongRequestError(
                f"{self.parts().url()} holds answers of another version, input or parameters "
                f"({known.get('version')}); remove it, or name another --output"
            )
        names = [entry.path for entry in self.parts().list(DONE)]
        return {int(Path(name).stem): self.parts().read_json(name) for name in names}

    def write(self, piece: int, table: pa.Table, failed: int) -> None:
        """A part, and then that it is there."""
        parts = self.parts()
        parts.write(self._part(piece), encode(table, self.form))
        parts.write_json(f"{DONE}/{piece:06d}.json", {"records": table.num_rows, "failed": failed})

    def finish(self, num_pieces: int) -> None:
        """Joins the parts where one file is wanted; the folder of parts goes."""
        parts, names = self.parts(), [self._part(piece) for piece in range(num_pieces)]
        if self.is_folder:
            parts.write_json(ABOUT, {**self.about(), "complete": True})
            parts.delete_tree(DONE)
            if (folder := parts.local_path()) is not None:
                shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        elif (local := parts.local_path()) is not None:
            join(parts, names, local / JOINED, self.form)
            (local / JOINED).replace(self.place)
            shutil.rmtree(local)
        else:
            with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
                join(parts, names, Path(scratch) / JOINED, self.form)
                self._folder().upload(Path(scratch) / JOINED, self._name)
            self._folder().delete_tree(f"{self._name}.parts")

    @property
    def _name(self) -> str:
        return self.place.rstrip("/").rpartition("/")[2]

    def _folder(self) -> Storage:
        return self._open(self.place.rstrip("/").rpartition("/")[0] or "/")

    def _open(self, place: str) -> Storage:
        above, _, name = place.rpartition("/")
        return open_storage(self.storage.model_copy(update={"url": above or "/"}), name)

    def _part(self, piece: int) -> str:
        return f"part-{piece:06d}.{self.form}"


def encode(table: pa.Table, form: str) -> bytes:
    """A table as the bytes of a file."""
    if form == "jsonl":
        return "".join(_line(row) for row in table.to_pylist()).encode("utf-8", "surrogatepass")
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def join(parts: Storage, names: Sequence[str], whole: Path, form: str) -> None:
    """Writes the parts behind each other; columns that differ take the type that holds both."""
    if form == "jsonl":
        with whole.open("wb") as file:
            for name in names:
                file.write(parts.read(name))
        return
    schema = _unified([pq.read_schema(io.BytesIO(parts.read(name))) for name in names])
    with pq.ParquetWriter(whole, schema) as writer:
        for name in names:
            writer.write_table(_cast(pq.read_table(io.BytesIO(parts.read(name))), schema))


def _unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        names = dict.fromkeys(name for schema in schemas for name in schema.names)
        fields = []
        for name in names:
            kinds = {schema.field(name).type for schema in schemas if name in schema.names}
            kinds.discard(pa.null())
            fields.append(pa.field(name, kinds.pop() if len(kinds) == 1 else pa.string()))
        return pa.schema(fields)


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values = [None if v is None else json.dumps(v) for v in column.to_pylist()]
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(_plain(row), ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """As JSON holds it: bytes in base64, dates as ISO writes them, null for what is no number."""
    if isinstance(value, dict):
        return {str(key): _plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inside) for inside in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
