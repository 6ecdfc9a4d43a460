"""``slipway plan`` with what sweeps take, and checks of them before their jobs start.

The rest of the verbs is `jobs.verbs`.
"""

from __future__ import annotations

from cluster.request import Request, WrongRequestError
from cluster.spec import Spec
from cluster.storage import Storage
from jobs.forecast import Forecast, Needs, forecast
from jobs.prepared import prepared_rows
from jobs.stages import sweep_digest
from jobs.verbs import plan as planning
from jobs.verbs.plan import Instead, Planned
from jobs.verbs.stages import run as bring
from jobs.verbs.stages import training
from tune.opening import check_warm_start
from tune.plan import as_forecast, check_sweep, plan_sweep, summary


def plan(request: Request) -> None:
    """Print what will be done and what it takes, sweeps in place of trainings."""
    planning.plan(request, Sweeps(request))


def run(
    request: Request,
    models: list[str] | None,
    until: str,
    again: bool,
    ephemeral: bool = False,
) -> int:
    """Bring models up to a stage; sweeps that could never start are refused first."""
    spec = request.spec()
    for name in models or list(spec.models):
        if spec.model(name).tune is not None:
            check_sweep(spec, name)
    return bring(request, models, until, again, ephemeral, takes=takes)


def tune(request: Request, model: str, again: bool, ephemeral: bool = False) -> int:
    """Search a model's keys; its best trial becomes a version."""
    spec = request.spec()
    if spec.model(model).tune is None:
        raise WrongRequestError(
            f"models.{model} has no tune: section; add one with space: and the keys to search"
        )
    check_sweep(spec, model)
    return bring(request, [model], "evaluate", again, ephemeral, takes=takes)


def takes(spec: Spec, name: str, storage: Storage, data: str) -> Needs:
    """What a model's sweep takes, or its training."""
    if spec.model(name).tune is None:
        return training(spec, name, storage, data)
    rows = prepared_rows(storage, data)
    found = forecast(spec, name, storage, data, rows)
    planned = plan_sweep(spec, name, rows, found)
    return Needs(planned.room.total, planned.describe())


class Sweeps(Instead):
    """What `jobs.verbs.plan` asks of models that have a section ``tune:``."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def stage(self, spec: Spec, name: str, data: str | None) -> Planned | None:
        """The sweep as the stage in place of ``train``; None for a model without one."""
        model = spec.model(name)
        if model.tune is None:
            return None
        digest = sweep_digest(model, data) if data else None
        return Planned("tune", digest, summary(model.tune))

    def forecast(
        self, spec: Spec, name: str, storage: Storage, rows: int | None, found: Forecast
    ) -> tuple[Forecast, dict[str, object]]:
        """What the sweep takes, shown, and its JSON; ``found`` is what one training takes."""
        model = spec.model(name)
        check_warm_start(storage, model)
        planned = plan_sweep(spec, name, rows, found)
        self.request.table(
            ["rung", "trained until", "trials"],
            [[str(rung), until, str(count)] for rung, (until, count) in enumerate(planned.rungs)],
            "",
        )
        self.request.say(f"{name}, sweep: {planned.describe()}\n")
        return as_forecast(spec, name, planned, found), planned.document()
