"""``runs``, ``logs``, ``stop``, ``models``, ``status``: what storage and the cluster know."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from cluster import client, services
from cluster.attach import connect_existing, connect_if_reached, connect_services
from cluster.connection import ClusterError, Connection
from cluster.follow import follow as follow_job
from cluster.parts import read_joined
from cluster.request import Request, WrongRequestError
from cluster.spec import Spec
from cluster.status import Node
from cluster.storage import Storage, open_storage
from jobs.bundles import Version, list_models, versions
from jobs.runs import Run, joined_metrics, list_runs
from jobs.spending import by_run, spent
from jobs.submissions import last_end, submissions, under_way
from jobs.usage import usages
from jobs.verbs import comparison
from jobs.verbs.apart import follow_apart, stop_apart, under_way_apart
from jobs.verbs.screen import MARK, Screen, plain


def runs(request: Request, first: str | None = None, second: str | None = None) -> None:
    """List the runs with owner, state, metric and step, or compare two."""
    spec = request.spec()
    storage = open_storage(spec.cluster.storage, spec.name)
    if first is not None:
        if second is None:
            raise WrongRequestError(f"name the run to compare {first} with: slipway runs A B")
        comparison.show(request, comparison.compare(Run(storage, first), Run(storage, second)))
        return
    used = by_run(spec, usages(storage))
    nothing = {"node_hours": 0.0, "cost": None, "currency": None}
    connection = connect_if_reached(spec, request.say)
    found = [summary(run) for run in _sorted(spec, connection)]
    rows = [row | used.get(row["run"], nothing) for row in found]
    request.answer({"runs": rows})
    request.table(
        ["run", "state", "step", "metrics", "version", "owner", "started", "cost"],
        [
            [
                row["run"],
                row["state"],
                str(row["step"] or ""),
                ", ".join(f"{k} {v:.4g}" for k, v in row["metrics"].items() if _is_number(v)),
                str(row["version"] or ""),
                row["owner"],
                datetime.fromtimestamp(row["created"]).strftime("%Y-%m-%d %H:%M"),
                _spent(row),
            ]
            for row in rows
        ],
        "no runs yet; slipway run starts one",
    )


def _spent(row: dict[str, Any]) -> str:
    """Money where a price is known, else node hours."""
    if row["cost"] is not None:
        return f"{row['cost']:,.2f} {row['currency']}"
    return f"{row['node_hours']:.2f} node hours" if row["node_hours"] else ""


def summary(entry: tuple[Run, bool]) -> dict[str, Any]:
    """Describe one run; the pair says whether a job of it is under way."""
    run, alive = entry
    info, result = run.info(), run.result() or {}
    lines = joined_metrics(run)
    state = run.state(lambda attempt: alive)
    end = last_end(run)
    if state == "interrupted" and end is not None and end.exit_code:
        state = "failed"
    return {
        "run": run.id,
        "model": info["model"],
        "stage": info["stage"],
        "state": "running" if alive else state,
        "step": lines[-1]["step"] if lines else None,
        "metrics": result.get("metrics", {}),
        "version": result.get("version"),
        "owner": info["owner"],
        "created": info["created"],
    }


def _sorted(spec: Spec, connection: Connection | None) -> list[tuple[Run, bool]]:
    """All runs, oldest first, each with whether it is under way."""
    storage = open_storage(spec.cluster.storage, spec.name)
    found = sorted(list_runs(storage), key=lambda run: run.info()["created"])
    return [(run, _alive(spec, connection, run)) for run in found]


def _alive(spec: Spec, connection: Connection | None, run: Run) -> bool:
    if run.result() is not None:
        return False
    if connection is not None and under_way(connection, run) is not None:
        return True
    return under_way_apart(spec, run) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def logs(request: Request, run: str, follow: bool) -> None:
    """Print what a run's drivers printed; works after the cluster has gone."""
    spec = request.spec()
    found = Run(open_storage(spec.cluster.storage, spec.name), run)
    found.info()
    if follow and _follow(request, spec, found):
        return
    texts = {name: _readable(read_joined(found.storage, name)) for name in _log_files(found)}
    request.answer({"run": run, "logs": texts}, "\n".join(texts.values()).rstrip("\n"))
    if not texts:
        request.say(f"{run} has printed nothing yet")


def _follow(request: Request, spec: Spec, run: Run) -> bool:
    """Show a run's output as it comes; False where no job of it is under way."""
    apart = under_way_apart(spec, run)
    if apart is not None:
        follow_apart(request, spec, run, apart.name)
        return True
    connection = connect_existing(spec)
    job = under_way(connection, run) if connection is not None else None
    if connection is None or job is None:
        return False
    with Screen(request) as screen:
        for piece in follow_job(connection, job):
            screen.feed(piece)
    return True


def _readable(text: str) -> str:
    """The lines as their processes printed them, ours without the mark."""
    return "\n".join(plain(line).removeprefix(MARK) for line in text.splitlines())


def _log_files(run: Run) -> list[str]:
    """Log files of the run in the order of its jobs; numbered parts are one file."""
    known = [f"{run.path}/logs/{entry['submission']}.log" for entry in submissions(run)]
    stored = [entry.path for entry in run.storage.list(f"{run.path}/logs")]
    names = sorted({re.sub(r"\.log\.\d{5,}$", ".log", path) for path in stored})
    return [name for name in known if name in names] + [n for n in names if n not in known]


def stop(request: Request, name: str) -> None:
    """End a run's job; checkpoints stay, and the same command as before resumes it."""
    spec = request.spec()
    run = Run(open_storage(spec.cluster.storage, spec.name), name)
    run.info()
    if stop_apart(request, spec, run):
        _stopped(request, run)
        return
    connection = connect_existing(spec)
    job = under_way(connection, run) if connection is not None else None
    if connection is None or job is None:
        state = run.state(lambda attempt: False)
        request.answer({"run": name, "status": state}, f"{name} is not running: {state}")
        return
    client.stop(connection, job)
    _stopped(request, run)


def _stopped(request: Request, run: Run) -> None:
    """Record that a run was ended on purpose, and say so."""
    attempts = run.attempts()
    if attempts and run.result() is None:
        run.stopped(attempts[-1].number, "slipway stop")
    request.answer(
        {"run": run.id, "status": "stopped"},
        f"{run.id} has ended; the command that started it resumes it from its last checkpoint",
    )


def models(request: Request) -> None:
    """List the versions of all models with aliases and metrics."""
    spec = request.spec()
    storage = open_storage(spec.cluster.storage, spec.name)
    found = [version for model in list_models(storage) for version in versions(storage, model)]
    rows = [
        {
            "name": version.model,
            "version": version.number,
            "aliases": list(version.aliases),
            "metrics": _metrics(storage, version),
            "digest": version.digest,
            "run": version.bundle["run"],
        }
        for version in found
    ]
    request.answer({"models": rows})
    request.table(
        ["version", "aliases", "metrics", "run", "digest"],
        [
            [
                f"{row['name']}@{row['version']}",
                ", ".join(row["aliases"]),
                ", ".join(f"{k} {v:.4g}" for k, v in row["metrics"].items()),
                row["run"],
                row["digest"][:12],
            ]
            for row in rows
        ],
        "no versions yet; slipway run makes one",
    )


def _metrics(storage: Storage, version: Version) -> dict[str, float]:
    """Metrics on held-back data, the test split first; before any evaluation, training's own."""
    known = version.held_back or Run(storage, version.bundle["run"]).result() or {}
    return dict(known.get("metrics", {}))


def status(request: Request) -> None:
    """Show the cluster, the runs under way, and why anything waits."""
    from cluster import status as cluster_status

    spec = request.spec()
    connection = connect_existing(spec)
    document: dict[str, Any] = {"cluster": None, "nodes": [], "waiting": []}
    if connection is not None:
        found = cluster_status.status(connection, spec)
        document |= found.as_dict()
    under = [summary(entry) for entry in _sorted(spec, connection) if entry[1]]
    served, trouble = [], ""
    try:
        serving = connect_services(spec, connection)
        served = services.describe(serving, spec) if serving is not None else []
    except ClusterError as error:  # theirs may be another cluster: the rest is shown all the same
        trouble = f"note: the services cannot be asked: {error}"
    budget = spent(spec, open_storage(spec.cluster.storage, spec.name))
    told = {"budget": str(budget)} if budget else {}
    request.answer(document | {"runs": under, "services": served} | told)
    if budget is not None:
        request.say(f"budget: {budget}")
    if connection is None:
        request.say(f"{spec.name}: no cluster is up; slipway up starts it")
        return
    request.say(f"{connection.id}: dashboard {connection.api_url}")
    header = ["node", "address", "state", "CPUs in use", "GPUs in use", "memory"]
    request.table(header, [_node_row(node) for node in found.nodes], "no nodes")
    for row in under:
        request.say(f"{row['run']}: {row['state']}, step {row['step'] or 0}")
    for line in [*services.lines(served), *filter(None, [trouble])]:
        request.say(line)
    for reason in found.waiting:
        request.say(cluster_status.describe_waiting(reason))
    if not under:
        request.say("no run is under way")


def _node_row(node: Node) -> list[str]:
    used = node.used or {}
    memory = f"{node.total.get('memory', 0) / 2**30:.1f} GiB"
    cells = [f"{used.get(kind, 0):g} of {node.total.get(kind, 0):g}" for kind in ("CPU", "GPU")]
    return [node.id[:8], node.address, "alive" if node.alive else "dead", *cells, memory]
