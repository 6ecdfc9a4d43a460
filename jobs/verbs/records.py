"""``runs``, ``logs``, ``stop``, ``models``, ``status``: what storage and the cluster know."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from cluster import client, services
from cluster.attach import connect_existing
from cluster.connection import Connection
from cluster.follow import follow as follow_job
from cluster.parts import read_joined
from cluster.request import Request
from cluster.spec import Spec
from cluster.status import Node
from cluster.storage import Storage, open_storage
from jobs.bundles import Version, list_models, versions
from jobs.runs import Run, joined_metrics, list_runs
from jobs.submissions import submissions, under_way
from jobs.verbs.screen import MARK, Screen, plain


def runs(request: Request) -> None:
    """List the runs with owner, state, metric and step."""
    spec = request.spec()
    rows = [summary(run) for run in _sorted(spec, connect_existing(spec))]
    request.answer({"runs": rows})
    request.table(
        ["run", "state", "step", "metrics", "version", "owner", "started"],
        [
            [
                row["run"],
                row["state"],
                str(row["step"] or ""),
                ", ".join(f"{k} {v:.4g}" for k, v in row["metrics"].items() if _is_number(v)),
                str(row["version"] or ""),
                row["owner"],
                datetime.fromtimestamp(row["created"]).strftime("%Y-%m-%d %H:%M"),
            ]
            for row in rows
        ],
        "no runs yet; slipway run starts one",
    )


def summary(entry: tuple[Run, bool]) -> dict[str, Any]:
    """Describe one run; the pair says whether a job of it is under way."""
    run, alive = entry
    info, result = run.info(), run.result() or {}
    lines = joined_metrics(run)
    state = run.state(lambda attempt: alive)
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
    return [(run, _alive(connection, run)) for run in found]


def _alive(connection: Connection | None, run: Run) -> bool:
    if run.result() is not None or connection is None:
        return False
    return under_way(connection, run) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def logs(request: Request, run: str, follow: bool) -> None:
    """Print what a run's drivers printed; works after the cluster has gone."""
    spec = request.spec()
    found = Run(open_storage(spec.cluster.storage, spec.name), run)
    found.info()
    connection = connect_existing(spec)
    job = under_way(connection, found) if connection is not None else None
    if follow and connection is not None and job is not None:
        with Screen(request) as screen:
            for piece in follow_job(connection, job):
                screen.feed(piece)
        return
    texts = {name: _readable(read_joined(found.storage, name)) for name in _log_files(found)}
    request.answer({"run": run, "logs": texts}, "\n".join(texts.values()).rstrip("\n"))
    if not texts:
        request.say(f"{run} has printed nothing yet")


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
    connection = connect_existing(spec)
    job = under_way(connection, run) if connection is not None else None
    if connection is None or job is None:
        state = run.state(lambda attempt: False)
        request.answer({"run": name, "status": state}, f"{name} is not running: {state}")
        return
    client.stop(connection, job)
    attempts = run.attempts()
    if attempts and run.result() is None:
        run.stopped(attempts[-1].number, "slipway stop")
    request.answer(
        {"run": name, "status": "stopped"},
        f"{name} has ended; the command that started it resumes it from its last checkpoint",
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
    served = services.describe(connection, spec) if connection is not None else []
    request.answer(document | {"runs": under, "services": served})
    if connection is None:
        request.say(f"{spec.name}: no cluster is up; slipway up starts it")
        return
    request.say(f"{connection.id}: dashboard {connection.api_url}")
    header = ["node", "address", "state", "CPUs in use", "GPUs in use", "memory"]
    request.table(header, [_node_row(node) for node in found.nodes], "no nodes")
    for row in under:
        request.say(f"{row['run']}: {row['state']}, step {row['step'] or 0}")
    for line in services.lines(served):
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
