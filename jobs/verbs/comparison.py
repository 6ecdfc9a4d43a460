"""``slipway runs A B``: what two runs were asked, how their losses went, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML

from cluster.request import Request
from cluster.storage import MissingError
from jobs.runs import Run, joined_metrics

NUM_POINTS = 12
ABSENT = "not set"


def compare(first: Run, second: Run) -> dict[str, Any]:
    """{"runs", "differences", "curve", "results"} of two runs."""
    pair = (first, second)
    settings = [dict(_flat(_settings(run))) for run in pair]
    keys = sorted(settings[0].keys() | settings[1].keys())
    values = [(key, *(each.get(key, ABSENT) for each in settings)) for key in keys]
    losses = [{line["step"]: line.get("loss") for line in joined_metrics(run)} for run in pair]
    results = [run.result() or {} for run in pair]
    return {
        "runs": [run.id for run in pair],
        "differences": [
            {"key": key, "values": [one, other]} for key, one, other in values if one != other
        ],
        "curve": [
            {"step": step, "losses": [each.get(step) for each in losses]}
            for step in _points(losses[0].keys() | losses[1].keys())
        ],
        "results": [
            {
                "state": run.state(lambda attempt: False),
                "steps": max(each, default=0),
                "attempts": len(run.attempts()),
                "metrics": result.get("metrics", {}),
                "version": result.get("version"),
            }
            for run, each, result in zip(pair, losses, results, strict=True)
        ],
    }


def show(request: Request, found: dict[str, Any]) -> None:
    """Answer with a comparison, as three tables for people."""
    request.answer(found)
    names = found["runs"]
    rows = [[each["key"], *map(str, each["values"])] for each in found["differences"]]
    request.table(["setting", *names], rows, "both were asked the same")
    rows = [[str(p["step"]), *map(_number, p["losses"])] for p in found["curve"]]
    request.table(["loss after step", *names], rows, "neither has made a step")
    results = found["results"]
    metrics = sorted({name for each in results for name in each["metrics"]})
    rows = [[key, *(str(each[key]) for each in results)] for key in ("state", "steps", "attempts")]
    rows += [[name, *(_number(each["metrics"].get(name)) for each in results)] for name in metrics]
    request.table(["result", *names], rows, "")


def _settings(run: Run) -> dict[str, Any]:
    """The model's section of the spec that the run was started with, and its data's digest."""
    run.info()  # refuses a run that is none, and names those that are
    try:
        document = YAML(typ="safe", pure=True).load(run.storage.read(f"{run.path}/spec.yaml"))
    except MissingError:
        return {}
    attempts = run.attempts()
    data = attempts[-1].info.get("data") if attempts else None
    return {**document["models"][run.info()["model"]], "data digest": data}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _points(steps: set[int]) -> list[int]:
    """A dozen of the steps, evenly spread, the first and the last among them."""
    ordered = sorted(steps)
    if len(ordered) <= NUM_POINTS:
        return ordered
    places = {round(i * (len(ordered) - 1) / (NUM_POINTS - 1)) for i in range(NUM_POINTS)}
    return [ordered[place] for place in sorted(places)]


def _number(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
