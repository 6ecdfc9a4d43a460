"""``slipway predict MODEL --input PATH --output PATH``: a whole file or folder, on the cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.request import Request, WrongRequestError
from cluster.spec import Spec
from cluster.staging import SPEC_FILE
from cluster.storage import open_storage
from jobs.bundles import resolve
from jobs.inputs import Wanted, find_inputs
from jobs.outputs import Output
from jobs.runs import Run, stage_digest
from jobs.uploads import send_data
from jobs.verbs.work import work


def predict_files(
    request: Request, model: str, source: str | None, target: str | None, parameters: dict[str, Any]
) -> int:
    """Answer every record of `source`, beside its own columns, in `target`."""
    if source is None or target is None:
        raise WrongRequestError("--input and --output belong together: predict MODEL --input FILE "
                                "--output answers.parquet")  # fmt: skip
    spec = request.spec()
    storage = open_storage(spec.cluster.storage, spec.name)
    version = resolve(storage, model)
    wanted = Wanted(version.bundle["domain"], version.bundle["task"])
    output = Output(absolute(spec, target), spec.cluster.storage)
    place = send_data(storage, source, wanted.suffixes, request.say, request.yes)
    state = [
        [s.path, s.size, s.modified_ns, s.identity] for s in find_inputs(place, wanted, storage)
    ]
    parts = {"stage": "predict", "version": version.name, "input": state, "output": output.place}
    columns = dict(spec.model(version.model).data.columns)
    digest = stage_digest({**parts, "parameters": parameters, "columns": columns})
    run = Run.open(storage, version.model, "predict", digest)
    if output.is_complete():
        return _is_there(request, run, output)
    if run.result() is not None:  # the answers were removed since
        run = Run.open(storage, version.model, "predict", digest, again=True)
    arguments = ["jobs.predictions", SPEC_FILE, version.name, "--run", run.id]
    arguments += ["--input", place, "--output", output.place]
    results: list[dict[str, Any]] = []
    code = work(request, spec, run, [*arguments, "--parameters", json.dumps(parameters)], results)
    request.answer(answer(run) or (results[0] if results else {}))
    return code


def _is_there(request: Request, run: Run, output: Output) -> int:
    """The output is there already: as it was asked for, or in the way."""
    found = answer(run)
    if not found:
        raise WrongRequestError(f"{output.place} is there already; remove it or name another file")
    request.say(f"{run.id}: done already")
    request.answer(found, f"{found['records']:,} records: {output.place}")
    return 0


def answer(run: Run) -> dict[str, Any]:
    """What ``--json`` prints; empty without a result."""
    result = run.result()
    return {"run": run.id, "status": "complete", **result} if result else {}


def absolute(spec: Spec, target: str) -> str:
    """Where the cluster writes; a path on this machine is only reached by a cluster here."""
    if "://" in target:
        return target
    if spec.cluster.provider.type != "local":
        raise WrongRequestError(
            f"--output {target}: the cluster does not write to this machine; name a place in "
            f"storage, such as {spec.cluster.storage.url.rstrip('/')}/{Path(target).name}"
        )
    return str(Path(target).absolute())
