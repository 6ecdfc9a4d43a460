"""``init`` for a text corpus: how much there is, and a language model that suits it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.spec import parse_model
from cluster.spec.references import is_uri
from jobs.domains import open_preparation
from jobs.inspections import inspect_all
from jobs.verbs.init_classes import written
from jobs.verbs.init_kinds import Kind

# Below this, a small vocabulary and network learn more in the same time.
SMALL_CHARACTERS = 2_000_000
SECTION = """\
    domain: text
    task: generation             # a causal language model
    data:
      source: {source}
{columns}      encoding: auto             # UTF-8 or GB18030
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

    def lines(self) -> list[str]:
        parts = [
            "1 file" if self.num_files == 1 else f"{self.num_files:,} files",
            f"{self.num_documents:,} documents" if self.num_documents > 1 else "1 document",
            f"{self.num_characters:,} characters",
            " and ".join(self.encodings),
        ]
        parts += [f"{count:,} {cause}" for cause, count in self.dropped.items()]
        return [", ".join(parts)]


def look(place: str, kind: Kind) -> Found:
    """Read a text source; raises DataError where it cannot be used."""
    source = place if is_uri(place) else str(Path(place).absolute())
    columns = kind.roles.columns if kind.roles else {}
    data = {"source": source, "split": {"test": 0.0}, "columns": columns}
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
        num_bytes=sum(one.size for one in sources),
        num_documents=sum(span["documents"] for span in spans),
        num_characters=sum(span["characters"] for span in spans),
        encodings=tuple(sorted({one["encoding"] for one in found if one["encoding"]})),
        dropped=dict(dropped),
    )


def section(place: str, kind: Kind, found: Found, quote: Callable[[str], str]) -> str:
    """The model's keys, with comments, from `domain:` on; `quote` names the source."""
    small = found.num_characters < SMALL_CHARACTERS
    return SECTION.format(
        source=quote(place),
        columns=written(kind),
        vocabulary=1024 if small else 4096,
        layers=2 if small else 4,
        width=128 if small else 256,
        workers=min(2, os.cpu_count() or 1),
        steps=500 if small else 2000,
    )
