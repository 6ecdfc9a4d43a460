"""``slipway init``: look at the data and write a YAML that runs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cluster.request import Request, WrongRequest

# Rows of at least this many steps' worth make an epoch; below it, small data wants small networks.
SMALL_BYTES = 2_000_000

TEMPLATE = """\
# Written by `slipway init {source}`: {found}.
# Every key has a default; `slipway plan` shows what will happen, `slipway run` does it.
name: {name}

cluster:
  provider: {{type: local}}        # this machine; others: ray, kubernetes, onprem, aws, gcp, azure
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
      epochs: 3
      global_batch: 32           # rows of `context` tokens in one optimizer step
      workers: {workers}
      optimizer: {{type: adamw, lr: 1e-3, weight_decay: 0.1}}
      schedule: {{type: cosine, warmup: 5%}}
      zero: {{stage: auto}}        # the lowest ZeRO stage that fits the memory
      checkpoint: {{every: 200, keep: 3}}
"""


@dataclass(frozen=True)
class Found:
    """What a look at the data showed."""

    num_files: int
    num_bytes: int
    encoding: str

    def __str__(self) -> str:
        files = "1 file" if self.num_files == 1 else f"{self.num_files:,} files"
        return f"{files}, {self.num_bytes / 1e6:,.2f} MB, {self.encoding}"


def init(request: Request, source: str) -> None:
    """Write ``--file`` for a text corpus; an existing file is never overwritten."""
    if request.file.exists():
        raise WrongRequest(
            f"{request.file} exists already; name another with -f, or remove it first"
        )
    found = look(source)
    name = _name(source)
    small = found.num_bytes < SMALL_BYTES
    document = TEMPLATE.format(
        source=source,
        quoted=f'"{source}"' if re.search(r"[*?\[\]{}:#]", source) else source,
        found=found,
        name=name,
        model="assistant",
        vocabulary=1024 if small else 4096,
        layers=2 if small else 4,
        width=128 if small else 256,
        workers=min(2, os.cpu_count() or 1),
    )
    request.file.write_text(document)
    request.answer(
        {"path": str(request.file), "files": found.num_files, "bytes": found.num_bytes},
        f"{source}: {found}\nwrote {request.file}; next: slipway plan, then slipway run",
    )


def look(source: str) -> Found:
    """Look at a text source without reading all of it; raises ValueError where it cannot be used."""
    from jobs.domains.text.corpus import inspect

    num_files, num_bytes, encoding = inspect(source)
    return Found(num_files, num_bytes, encoding)


def _name(source: str) -> str:
    """Name the project after the folder, as far as names allow."""
    name = re.sub(r"[^a-z0-9-]+", "-", Path.cwd().name.lower()).strip("-")
    return name if re.match(r"[a-z]", name) else "slipway"
