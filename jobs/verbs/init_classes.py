"""``init`` for labelled texts and pictures: what they hold, and a model that suits them."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.spec import parse_model
from cluster.spec.references import is_uri
from jobs.domains import open_preparation
from jobs.domains.files import DataError
from jobs.inspections import inspect_all
from jobs.verbs.init_columns import Sample
from jobs.verbs.init_kinds import Kind

MAX_BAD = 0.01
USELESS = 0.5
"""A larger share of bad records than this says that the data was taken for what it is not."""
TOLD_LABELS = 12
SMALL, LARGE = 5_000, 100_000
"""Records below and above which training takes more and fewer passes."""


@dataclass(frozen=True)
class Found:
    """What reading all records showed."""

    num_files: int
    num_bytes: int
    num_records: int
    encodings: tuple[str, ...]
    forms: tuple[str, ...]
    labels: dict[str, int]
    duplicates: int
    contradictions: int
    dropped: dict[str, int]
    examples: list[str]
    pictures: dict[str, int] = field(default_factory=dict)
    """Of pictures: "SIDE MODE" to how many there are."""

    @property
    def share_bad(self) -> float:
        bad = sum(self.dropped.values())
        return bad / max(1, bad + self.num_records)

    def lines(self) -> list[str]:
        """What a person is told, a line each."""
        what = "pictures" if self.pictures else "rows"
        files = "" if self.num_files == 1 else f"{self.num_files:,} files, "
        read = [*(form.upper() for form in self.forms), *(e.upper() for e in self.encodings)]
        told = [f"{files}{self.num_records:,} {what}" + (f" ({', '.join(read)})" if read else "")]
        if self.pictures:
            told.append(f"sizes: {_sizes(self.pictures)}")
        order = sorted(self.labels.items(), key=lambda pair: -pair[1])
        named = [f"{name} ({count:,})" for name, count in order[:TOLD_LABELS]]
        more = f", and {len(order) - TOLD_LABELS:,} more" if len(order) > TOLD_LABELS else ""
        told.append(f"{len(order):,} labels: {', '.join(named)}{more}")
        told.append(f"smallest class: {order[-1][0]}, {order[-1][1]:,} of {self.num_records:,}")
        if self.duplicates:
            contrary = f", {self.contradictions:,} with contradicting labels"
            told.append(f"{self.duplicates:,} duplicates" + contrary * bool(self.contradictions))
        if self.dropped:
            causes = ", ".join(f"{count:,} {cause}" for cause, count in self.dropped.items())
            told.append(f"broken: {causes}; the first: {self.examples[0]}")
        return told


def look(place: str, kind: Kind) -> Found:
    """Reads all records of a source; DataError where they cannot train a classifier."""
    source = place if is_uri(place) else str(Path(place).absolute())
    columns = kind.roles.columns if kind.roles else {}
    data: dict[str, Any] = {"source": source, "columns": columns, "max_bad": 1.0}
    network = "lstm" if kind.domain == "text" else "cnn"
    model = {"domain": kind.domain, "task": kind.task, "data": data, "network": network}
    preparation = open_preparation(parse_model(model))
    sources = preparation.sources()
    inspections = inspect_all(preparation, sources, lambda text: None)
    planned = preparation.plan(inspections)
    counts = {name: sum(own.values()) for name, own in planned["labels"].items()}
    pictures: dict[str, int] = {}
    for one in inspections:
        for name, count in one.get("pictures", {}).items():
            pictures[name] = pictures.get(name, 0) + count
    found = Found(
        num_files=len(sources),
        num_bytes=sum(one.size for one in sources),
        num_records=sum(counts.values()) + planned["duplicates"],
        encodings=tuple(sorted({e for one in inspections if (e := one.get("encoding"))})),
        forms=tuple(sorted({f for one in inspections if (f := one.get("form"))} - {"builtin"})),
        labels=counts,
        duplicates=planned["duplicates"],
        contradictions=planned["contradictions"],
        dropped=planned["dropped"],
        examples=planned["examples"],
        pictures=pictures,
    )
    if found.share_bad > USELESS:
        raise DataError(f"{place}: most of it cannot be used; {found.lines()[-1]}")
    return found


def section(place: str, kind: Kind, found: Found, quote: Callable[[str], str]) -> str:
    """The model's keys, with comments, from `domain:` on; `quote` names the source."""
    write = _texts if kind.domain == "text" else _pictures
    return write(quote(place), kind, found)


def _texts(source: str, kind: Kind, found: Found) -> str:
    is_chinese, context = _lengths(kind.sample)
    size = 8192 if found.num_records > SMALL else 4096
    tokenizer = "character" if is_chinese else "bpe"
    if found.num_records > LARGE:
        network = f"{{type: bert, layers: 4, heads: 4, width: 256, context: {context}}}"
        other = "or lstm, quicker"
    else:
        network = f"{{type: lstm, layers: 1, width: 128, context: {context}, dropout: 0.3}}"
        other = "or bert, or {pretrained: hf://OWNER/NAME}"
    return f"""\
    domain: text
    task: classification
    data:
      source: {source}
{written(kind)}      encoding: auto             # UTF-8 or GB18030
{_split(kind, found)}      tokenizer: {{type: {tokenizer}, size: {size}}}
    # {other}
    network: {network}
{_train(found, 1e-3 if "lstm" in network else 3e-4)}"""


def _pictures(source: str, kind: Kind, found: Found) -> str:
    is_colour = any(name.endswith("RGB") for name in found.pictures)
    augment = "{crop: 12%, flip: true}" if is_colour else "{crop: 12%}"
    hint = "moved and mirrored" if is_colour else "moved; flip: true mirrors them too"
    return f"""\
    domain: vision
    task: classification
    data:
      source: {source}
{written(kind)}{_split(kind, found)}    network: {{type: cnn, width: 32}}   # or resnet, slower
{_train(found, 2e-3)}      augment: {augment}   # pictures are {hint}, anew in every epoch
"""


def _train(found: Found, lr: float) -> str:
    many = found.num_records
    batch = 32 if many < SMALL else 64
    epochs = 20 if many < SMALL else 3 if many > LARGE else 10
    workers = min(2, os.cpu_count() or 1)
    return f"""\
    train:
      epochs: {epochs}
      global_batch: {batch}           # records in one optimizer step
      workers: {workers}
      optimizer: {{type: adamw, lr: {lr:g}, weight_decay: 0.05}}
      schedule: {{type: cosine, warmup: 5%}}
      patience: 4                # validations without a better metric end the training
      validate: {{every: 1 epoch}}
      checkpoint: {{every: 1 epoch, keep: 2}}
"""


def written(kind: Kind) -> str:
    """The line `columns:` of a table, nothing for others."""
    if kind.roles is None:
        return ""
    told = ", ".join(f"{role}: {_name(column)}" for role, column in kind.roles.columns.items())
    others = ", ".join(map(str, kind.roles.others[:8]))
    comment = f"   # also there: {others}" if others else ""
    return f"      columns: {{{told}}}{comment}\n"


def _split(kind: Kind, found: Found) -> str:
    lines = ["      split:                     # each label by these shares\n"]
    lines += ["        validation: 10%          # chooses the checkpoint\n"]
    lines += ["        test: 10%                # judges the version\n"]
    if kind.roles and kind.roles.group is not None:
        name = _name(kind.roles.group)
        lines.append(f"        # by: {name}   # keeps the records of each on one side\n")
    if kind.roles and kind.roles.time is not None:
        lines.append(f"        # time: {_name(kind.roles.time)}   # holds back the newest\n")
    if found.share_bad > MAX_BAD:
        share = math.ceil(found.share_bad * 100) + 1
        lines.append(f"      max_bad: {share}%             # broken now: {found.share_bad:.1%}\n")
    return "".join(lines)


def _name(column: str | int) -> str:
    plain = isinstance(column, int) or re.fullmatch(r"[A-Za-z][A-Za-z_]*", column)
    reserved = str(column).lower() in ("null", "true", "false")
    return str(column) if plain and not reserved else json.dumps(column, ensure_ascii=False)


def _lengths(sample: Sample | None) -> tuple[bool, int]:
    """Whether texts are Chinese, and a context that holds 95 % of them."""
    columns = sample.columns if sample else []
    texts = max((c.texts for c in columns), key=lambda t: sum(map(len, t)), default=[])
    if not texts:
        return False, 128
    joined = "".join(texts[:500])
    is_chinese = sum("\u4e00" <= c <= "\u9fff" for c in joined) > 0.3 * len(joined)
    length = sorted(map(len, texts))[int(0.95 * (len(texts) - 1))]
    tokens = length if is_chinese else length / 3.5
    return is_chinese, min(256, max(32, 16 * math.ceil((tokens + 2) / 16)))


def _sizes(pictures: dict[str, int]) -> str:
    sides = sorted(int(name.split()[0]) for name in pictures)
    modes = " and ".join(sorted({_MODES.get(m, m) for m in (n.split()[1] for n in pictures)}))
    if sides[0] == sides[-1]:
        return f"{sides[0]} pixels (the shorter side), {modes}"
    return f"{sides[0]} to {sides[-1]} pixels (the shorter side), {modes}"


_MODES = {"L": "grey", "RGB": "colour"}
