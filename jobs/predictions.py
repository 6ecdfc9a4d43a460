"""Answer every record of a file or folder with a version, by Ray Data; what is done is skipped.

ray job submit --working-dir . -- python -m jobs.predictions cluster.yaml tickets@3
    --input new.csv --output answers.parquet
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from cluster.spec import Spec, load
from cluster.storage import Storage, open_storage
from jobs.answers import ERROR, answer_all, answer_types, with_answers
from jobs.bundles import fetch_bundle, resolve
from jobs.domains import Loaded
from jobs.domains.files import Source
from jobs.inputs import Input, Wanted, count_inputs, find_inputs, read_inputs, schema_of, table_of
from jobs.logbook import Logbook
from jobs.outputs import Output
from jobs.runs import Run
from jobs.session import Session, say, spec_root

PIECE_RECORDS = {"generation": 64, "synthesis": 64, "recognition": 128}
"""Records of a part: what is lost at most when work is cut off."""
MOST_RECORDS = 1024
BLOCK_BYTES = 1 << 20
"""Ray Data hands on what was read in blocks of about this size."""
READER_CPUS = 0.01
"""Reading waits for answering most of the time; it must fit beside it on the smallest cluster."""


@dataclass(frozen=True)
class Plan:
    """What is answered, by what, and where answers go; pickles to the actors."""

    storage: Storage
    version: str
    wanted: Wanted
    sources: tuple[Source, ...]
    counts: tuple[int, ...]
    """Records of each source."""
    output: Output
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Records of a piece."""
        usual = MOST_RECORDS if self.wanted.role in ("text", "user") else 256
        return PIECE_RECORDS.get(self.wanted.task, usual)

    @property
    def starts(self) -> list[int]:
        """The first piece of each source, and behind them the number of all."""
        starts = [0]
        for count in self.counts:
            starts.append(starts[-1] + -(-count // self.size))
        return starts

    def about(self) -> dict[str, Any]:
        """What the parts are of."""
        state = [[s.path, s.size, s.modified_ns, s.identity] for s in self.sources]
        digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
        found = {"version": self.version, "input": digest, "records": sum(self.counts)}
        return found | {"parameters": dict(self.parameters), "piece_records": self.size}


def plan(
    spec: Spec, reference: str, place: str, output: str, parameters: Mapping[str, Any]
) -> Plan:
    """Finds and counts the records; ValueError where there are none."""
    storage = open_storage(spec.cluster.storage, spec.name)
    version = resolve(storage, reference)
    model = spec.models.get(version.model)
    learned = version.bundle.get("spec", {}).get("data", {})
    columns = {**learned.get("columns", {}), **(model.data.columns if model else {})}
    encoding = model.data.encoding if model else "auto"
    wanted = Wanted(version.bundle["domain"], version.bundle["task"], columns, encoding)
    sources = tuple(find_inputs(place, wanted, storage))
    counts = tuple(count_inputs(source, wanted) for source in sources)
    if not sum(counts):
        raise ValueError(f"{place} holds no record")
    target = Output(output, spec.cluster.storage)
    return Plan(storage, version.name, wanted, sources, counts, target, parameters)


def read_pieces(plan: Plan, place: int, missing: set[int]) -> Iterator[dict[str, Any]]:
    """The missing pieces of a source as they travel to an actor; others are passed over.

    {"piece", "own": the records' own columns, "inputs": each input, or why there is none}.
    """
    source = plan.sources[place]
    schema, records = schema_of(source), read_inputs(source, plan.wanted)
    for piece in range(plan.starts[place], plan.starts[place + 1]):
        taken = islice(records, plan.size)
        if piece not in missing:
            deque(taken, maxlen=0)
            continue
        found = [(record, _loaded(record)) for record in taken]  # while its archive is open
        own, sink = table_of([record for record, _ in found], schema), io.BytesIO()
        with pa.ipc.new_stream(sink, own.schema) as writer:
            writer.write_table(own)
        inputs = pickle.dumps([content for _, content in found], protocol=5)
        yield {"piece": piece, "own": sink.getvalue(), "inputs": inputs}


def _loaded(record: Input) -> Any:
    try:
        return record.load()
    except (ValueError, OSError) as error:
        return ValueError(str(error))


def open_version(plan: Plan) -> Loaded:
    """The model, with one thread: there are as many actors as processors."""
    import torch

    from jobs.domains import load as load_bundle

    torch.set_num_threads(1)
    version = resolve(plan.storage, plan.version)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = fetch_bundle(plan.storage, version)
    return load_bundle(plan.wanted.domain, plan.wanted.task, folder, device)


class Answerer:
    """Holds a version and answers pieces; the class that Ray Data makes actors of."""

    def __init__(self, plan: Plan, opened: Callable[[Plan], Loaded] = open_version) -> None:
        self.plan = plan
        self.loaded = opened(plan)
        kind = plan.wanted.domain, plan.wanted.task
        top_k = plan.parameters.get("top_k", 1)
        self.types = answer_types(*kind, is_list=top_k != 1)
        one = {"top_k": 1} if kind[1] == "classification" else {}
        self.parameters = {**one, **plan.parameters}

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Answers one piece and writes its part."""
        piece = int(batch["piece"][0])
        own = pa.ipc.open_stream(batch["own"][0]).read_all()
        inputs = pickle.loads(batch["inputs"][0])  # from our own reader, never from storage
        answers = [each if isinstance(each, Exception) else None for each in inputs]
        asked = [i for i, each in enumerate(answers) if each is None]
        requests = [{"inputs": inputs[i], "parameters": self.parameters} for i in asked]
        is_generation = self.plan.wanted.task == "generation"
        for place, answer in zip(
            asked, answer_all(self.loaded, requests, is_generation), strict=True
        ):
            answers[place] = answer
        table = with_answers(own, answers, self.types)
        failed = table.num_rows - table.column(ERROR).null_count
        self.plan.output.write(piece, table, failed)
        return {"piece": [piece], "records": [table.num_rows], "failed": [failed]}


def stream(plan: Plan, missing: set[int]) -> Iterator[dict[str, int]]:
    """{"piece", "records", "failed"} of each piece as it is written, by Ray Data's actors."""
    import ray
    import ray.data

    from jobs.driver import join

    if not ray.is_initialized():
        join()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    needed = [i for i in range(len(plan.sources)) if missing & _pieces(plan, i)]

    def read(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from read_pieces(plan, int(row["item"]), missing)

    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    most = max(1, min(len(missing), gpus or cpus))
    sources = ray.data.from_items(needed, override_num_blocks=len(needed))
    answered = sources.flat_map(read, num_cpus=READER_CPUS).map_batches(
        Answerer,
        fn_constructor_args=(plan,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        num_cpus=1 - READER_CPUS,
        num_gpus=1 if gpus else None,
    )
    yield from answered.iter_rows()


Work = Callable[[Plan, set[int]], Iterable[Mapping[str, int]]]
"""What answers the missing pieces of a plan."""


def predict(plan: Plan, work: Work = stream) -> dict[str, int]:
    """Answers what is not answered yet, tells how it goes, and joins the parts at the end."""
    done = plan.output.claim(plan.about())
    num_pieces, total = plan.starts[-1], sum(plan.counts)
    missing = set(range(num_pieces)) - set(done)
    records = sum(each["records"] for each in done.values())
    failed = sum(each["failed"] for each in done.values())
    say(f"{plan.version}: {total:,} records in {num_pieces:,} parts")
    if done:
        say(f"{records:,} are answered already")
    started, before = time.monotonic(), records
    for part in work(plan, missing) if missing else ():
        records, failed = records + int(part["records"]), failed + int(part["failed"])
        rate = (records - before) / max(1e-3, time.monotonic() - started)
        left = (total - records) / max(rate, 1e-3)
        say(f"step {records}/{total}  {rate:,.0f} records/s  {left:,.0f} s left")
    plan.output.finish(num_pieces)
    return {"records": total, "failed": failed}


def _pieces(plan: Plan, place: int) -> set[int]:
    return set(range(plan.starts[place], plan.starts[place + 1]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer one input file or folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.predictions", description=__doc__)
    parser.add_argument("spec", help="the YAML file")
    parser.add_argument("version", help="MODEL, MODEL@3, MODEL@latest or MODEL@ALIAS")
    parser.add_argument("--input", required=True, help="a file, folder, glob or URI")
    parser.add_argument("--output", required=True, help="FILE.parquet, FILE.jsonl or a folder")
    parser.add_argument("--parameters", default="{}", help="JSON: those of the model's requests")
    parser.add_argument("--run", help="the id of the run that this is")
    options = parser.parse_args(arguments)
    with Logbook() as logbook:
        try:
            spec = load(options.spec, root=spec_root(options.spec))
            parameters = json.loads(options.parameters)
            work = plan(spec, options.version, options.input, options.output, parameters)
            _keep(open_storage(spec.cluster.storage, spec.name), options, work, logbook)
        except ValueError as error:
            say(f"error: {error}")
            return 1
    return 0


def _keep(storage: Storage, options: argparse.Namespace, work: Plan, logbook: Logbook) -> None:
    """Answers, and keeps the counts as the result of a run where one is named."""
    if not options.run:
        _tell(work, predict(work))
        return
    run = Run(storage, options.run)
    with Session(run, logbook) as session:
        if session.mine:
            attempt = run.next_attempt({"resumes": None})
            found = predict(work)
            _tell(work, found)
            run.finish({"output": options.output, "version": work.version, **found}, attempt)


def _tell(work: Plan, found: Mapping[str, int]) -> None:
    wrong = f", {found['failed']:,} without an answer (see {ERROR})" if found["failed"] else ""
    say(f"{found['records']:,} records answered by {work.version}{wrong}: {work.output.place}")


if __name__ == "__main__":
    import jobs.predictions  # under its own name, by which the actors find what they are sent

    sys.exit(jobs.predictions.main())
