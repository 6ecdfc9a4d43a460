"""``slipway init``: look at the data and write a YAML that runs."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.request import Request, WrongRequestError
from cluster.spec import parse_model
from cluster.spec.references import is_uri
from jobs.domains import open_preparation
from jobs.inspections import inspect_all

# Below this, a small vocabulary and network learn more in the same time.
SMALL_CHARACTERS = 2_000_000

TEMPLATE = """\
# Written by `slipway init {source}`: {found}.
# Every key has a default; `slipway plan` shows what will happen, `slipway run` does it.
name: {name}

cluster:
  provider: {{type: local}}        # this machine, or ray: a cluster that runs already
  storage: ./runs                # or s3://bucket/prefix

models:
  {model}:
    domain: text
    task: generation             # a causal language model
    data:
      source: {quoted}
      encoding: auto             # UTF-8 or GB18030
      split: {{validation: 10%}}   # by document; a corpus of few documents is cut at its end
      tokenizer: {{type: bpe, size: {vocabulary}}}
    network: {{type: gpt, layers: {layers}, heads: 4, width: {width}, context: 128}}
    train:
      steps: {steps}
      global_batch: 32           # rows of `context` tokens in one optimizer step
      workers: {workers}
      optimizer: {{type: adamw, lr: 1e-3, weight_decay: 0.1}}
      schedule: {{type: cosine, warmup: 5%}}
      zero: {{stage: auto}}        # the lowest ZeRO stage that fits the memory
      checkpoint: {{every: 200, keep: 3}}
"""


@dataclass(frozen=True)
class Found:
    """What reading the data showed."""

    num_files: int
    num_bytes: int
    num_documents: int
    num_characters: int
    encodings: tuple[str, ...]
    dropped: dict[str, int]

    def __str__(self) -> str:
        parts = [
            "1 file" if self.num_files == 1 else f"{self.num_files:,} files",
            f"{self.num_documents:,} documents" if self.num_documents > 1 else "1 document",
            f"{self.num_characters:,} characters",
            " and ".join(self.encodings),
        ]
        return ", ".join(parts + [f"{count:,} {cause}" for cause, count in self.dropped.items()])


def init(request: Request, source: str) -> None:
    """Write ``--file`` for a text corpus; an existing file is never overwritten."""
    if request.overrides:
        raise WrongRequestError("init takes no --set; write the keys into the file it makes")
    if request.file.exists():
        raise WrongRequestError(
            f"{request.file} exists already; name another with -f, or remove it first"
        )
    found = look(source)
    small = found.num_characters < SMALL_CHARACTERS
    document = TEMPLATE.format(
        source=source,
        quoted=json.dumps(_from_file(source, request.file), ensure_ascii=False),
        found=found,
        name=_name(),
        model="assistant",
        vocabulary=1024 if small else 4096,
        layers=2 if small else 4,
        width=128 if small else 256,
        workers=min(2, os.cpu_count() or 1),
        steps=500 if small else 2000,
    )
    request.file.write_text(document)
    request.answer(
        {"path": str(request.file), **asdict(found)},
        f"{source}: {found}\nwrote {request.file}; next: slipway plan, then slipway run",
    )


def look(source: str) -> Found:
    """Read a text source; raises DataError where it cannot be used."""
    place = source if is_uri(source) else str(Path(source).absolute())
    data = {"source": place, "split": {"test": 0.0}}
    model = parse_model({"domain": "text", "task": "generation", "data": data})
    preparation = open_preparation(model)
    sources = preparation.sources()
    found = inspect_all(preparation, sources, lambda text: None)
    dropped: Counter[str] = Counter()
    for one in found:
        dropped.update(one["dropped"])
    spans = [span for one in found for span in one["spans"]]
    return Found(
        num_files=len(sources),
        num_bytes=sum(source.size for source in sources),
        num_documents=sum(span["documents"] for span in spans),
        num_characters=sum(span["characters"] for span in spans),
        encodings=tuple(sorted({one["encoding"] for one in found})),
        dropped=dict(dropped),
    )


def _from_file(source: str, file: Path) -> str:
    """The source as the YAML names it: relative to the YAML's own folder."""
    if is_uri(source) or Path(source).is_absolute():
        return source
    return os.path.relpath(source, file.absolute().parent)


def _name() -> str:
    """Name the project after the folder, as far as names allow."""
    name = re.sub(r"[^a-z0-9-]+", "-", Path.cwd().name.lower()).strip("-")[:40].rstrip("-")
    return name if re.match(r"[a-z]", name) else "slipway"
