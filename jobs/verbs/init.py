"""``slipway init``: look at the data, say what it holds, and write a YAML that runs."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.request import Request, WrongRequestError
from cluster.spec.references import is_uri
from jobs.verbs import init_classes, init_corpus, init_defaults, init_events
from jobs.verbs.init_kinds import Kind, kind_of

WRITERS = {
    "generation": init_corpus,
    "classification": init_classes,
    "next-item": init_events,
    "rating": init_events,
}
HEAD = """\
# Written by `slipway init {source}`, which found:
{found}
# Every key has a default; `slipway plan` shows what will happen, `slipway run` does it.
name: {name}

cluster:
  provider: {{type: local}}        # this machine, or ray: a cluster that runs already
  storage: ./runs                # or s3://bucket/prefix

models:
  {model}:
"""


def init(request: Request, source: str) -> None:
    """Write ``--file`` for a source; an existing file is never overwritten."""
    if request.overrides:
        raise WrongRequestError("init takes no --set; write the keys into the file it makes")
    if request.file.exists():
        raise WrongRequestError(
            f"{request.file} exists already; name another with -f, or remove it first"
        )
    kind = kind_of(source)
    task: Any = WRITERS.get(kind.task, init_defaults)
    found = task.look(source, kind)
    section = task.section(source, kind, found, lambda place: _quoted(place, request.file))
    lines = [*_roles(kind), *found.lines()]
    head = HEAD.format(
        source=source,
        found="\n".join(f"#   {line}" for line in lines),
        name=_plain(Path.cwd().name) or "slipway",
        model="assistant" if kind.task == "generation" else _model(source),
    )
    request.file.write_text(head + section, "utf-8")
    about = {"path": str(request.file), "domain": kind.domain, "task": kind.task}
    columns = kind.roles.columns if kind.roles else {}
    told = "\n  ".join([f"{source}: {kind.domain} {kind.task}", *lines])
    request.answer(
        {**about, "columns": columns, **asdict(found)},
        f"{told}\nwrote {request.file}; next: slipway plan, then slipway run",
    )


def _roles(kind: Kind) -> list[str]:
    """The columns of a table and what they are taken for."""
    if kind.roles is None or kind.sample is None:
        return []
    told = ", ".join(f"{role}: {column}" for role, column in kind.roles.columns.items())
    others = ", ".join(str(key) for key in kind.roles.others)
    by = "" if kind.sample.has_names else " (by position, there is no line of names)"
    return [f"columns taken as {told}{by}" + (f"; left: {others}" if others else "")]


def _quoted(source: str, file: Path) -> str:
    """The source as the YAML names it: relative to the YAML's own folder."""
    if not is_uri(source) and not Path(source).is_absolute():
        source = os.path.relpath(source, file.absolute().parent)
    return json.dumps(source, ensure_ascii=False)


def _model(source: str) -> str:
    """Name a model after its file or folder."""
    path = Path(source.partition(":")[2] if is_uri(source) else os.path.abspath(source))
    name = path.name.partition(".")[0]
    if name in ("train", "data", "images", "training") and not is_uri(source):
        name = path.parent.name
    return _plain(name) or "classifier"


def _plain(text: str) -> str:
    """The text as far as names allow; "" where nothing is left."""
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:40].rstrip("-")
    return name if re.match(r"[a-z]", name) else ""
