"""How a sweep's log begins: what is searched, what an earlier sweep has found, what changed.

A section ``tune:`` that was edited is another sweep. Trials of the one before that are points of
the new space, and were scored at the same steps on the same data, are taken over.
"""

from __future__ import annotations

from typing import Any

from cluster.spec import ModelSpec
from cluster.spec.tune import PBT
from cluster.storage import MissingError, Storage
from jobs.runs import Run, list_runs
from jobs.session import say
from jobs.stages import train_digest
from tune.history import Event, History, Log, Trial, replay
from tune.space import contains

SHARED = ("scheduler", "seed")
"""Keys of ``tune:`` without which scores and draws of another sweep mean something else."""
FREE = ("parallel", "time", "cost", "failures")
"""Keys of ``tune:`` that say when to give up."""


def open_log(run: Run, model: ModelSpec, data: str, again: bool) -> Log:
    """The log of a sweep, begun where it is new. Raises ValueError for a bad ``warm_start``."""
    assert model.tune is not None
    log = Log(run.storage, run.id)
    if log.read():
        return log
    tune = model.tune.model_dump(mode="json", by_alias=True, exclude_unset=False)
    base = train_digest(model, data)
    first = {"event": "sweep", "tune": tune, "base": base, "metric": model.metric}
    events = [first]
    if model.tune.warm_start is not None:
        found = prior(run.storage, model, model.tune.warm_start)
        say(f"learning from {found['sweep']}: {len(found['points'])} trials with a score")
        events.append(found)
    before = None if again else _earlier(run, base)
    if before is not None:
        events += _taken(before, model, tune)
    for event in events:
        log.append(event)
    return log


def prior(storage: Storage, model: ModelSpec, name: str) -> Event:
    """What the sweep ``name`` has found, for another to learn from, as an event.

    Raises ValueError where there is no such sweep, or none that can be compared.
    """
    history, metric = _read(storage, name)
    if metric != model.metric:
        raise ValueError(f"tune.warm_start: {name} went by {metric}, and {model.metric} is asked")
    assert model.tune is not None
    higher = model.direction == "max"
    points: list[dict[str, Any]] = []
    for trial in history.trials.values():
        if trial.scores:
            rung = trial.best_rung(higher)
            values = trial.stretch_at(rung).values
            points.append({"values": values, "score": trial.scores[rung]})
    usable = sum(contains(model.tune.space, point["values"]) for point in points)
    if not usable:
        raise ValueError(
            f"tune.warm_start: none of the {len(points)} trials of {name} is a point of this "
            "space; give the space the keys and ranges that they had, or leave warm_start out"
        )
    return {"event": "prior", "sweep": name, "points": points}


def check_warm_start(storage: Storage, model: ModelSpec) -> None:
    """Raise ValueError where ``warm_start`` names nothing that can be learned from."""
    if model.tune is not None and model.tune.warm_start is not None:
        prior(storage, model, model.tune.warm_start)


def _read(storage: Storage, name: str) -> tuple[History, str | None]:
    """An earlier sweep's history and metric."""
    events = Log(storage, name).read()
    if not events:
        known = ", ".join(storage.folders("sweeps")) or "none yet"
        raise ValueError(f"tune.warm_start: there is no sweep {name}; there are: {known}")
    return replay(events), events[0].get("metric")


def _earlier(run: Run, base: str) -> tuple[str, Event, History] | None:
    """The newest other sweep of the same training on the same data."""
    model = run.info()["model"]
    found = []
    for other in list_runs(run.storage):
        info = other.info()
        if other.id == run.id or (info["model"], info["stage"]) != (model, "tune"):
            continue
        try:
            first = run.storage.read_json(f"sweeps/{other.id}/log/000000.json")
        except MissingError:  # it never got so far
            continue
        if first.get("base") == base:
            found.append((info["created"], other.id, first))
    if not found:
        return None
    _, name, first = max(found, key=lambda each: each[0])
    return name, first, replay(Log(run.storage, name).read())


def _taken(
    before: tuple[str, Event, History], model: ModelSpec, tune: dict[str, Any]
) -> list[Event]:
    """Events that take the sound trials of an edited sweep over, and a word about it."""
    name, first, history = before
    changes = differences(first["tune"], tune)
    if not changes or not history.trials:
        return []
    say(f"{name} searched with another tune: section:")
    for change in changes:
        say(f"  {change}")
    reason = unsound(first["tune"], model)
    if reason is not None:
        say(f"this sweep begins anew: {reason}")
        return []
    assert model.tune is not None
    scored = [t for t in history.trials.values() if t.scores and not t.failed]
    sound = [t for t in scored if contains(model.tune.space, t.values)][: model.tune.trials]
    say(f"{len(sound)} of its {len(scored)} scored trials are points of this space and count here")
    events: list[Event] = [{"event": "taken", "sweep": name, "changes": changes}]
    for number, trial in enumerate(sound):
        events.append({"event": "trial", "trial": number, "values": trial.values, "taken": True})
    numbers = {trial.number: number for number, trial in enumerate(sound)}
    for old, rung in history.order:
        if old in numbers:
            events.append(_score(history.trials[old], rung, numbers[old]))
    return events


def _score(trial: Trial, rung: int, number: int) -> Event:
    told = {"score": trial.scores[rung], "step": trial.steps[rung], "run": trial.runs[rung]}
    common = {"event": "score", "trial": number, "rung": rung, "seconds": 0.0, "taken": True}
    return common | told


def unsound(before: dict[str, Any], model: ModelSpec) -> str | None:
    """Why trials under another section ``tune:`` cannot count in this one."""
    assert model.tune is not None
    if isinstance(model.tune.scheduler, PBT):
        return "a population is made of all its trials"
    now = model.tune.model_dump(mode="json", by_alias=True)
    for key in SHARED:
        if before.get(key) != now[key]:
            return f"tune.{key} is another, and so are the steps or draws of its trials"
    return None


def differences(before: dict[str, Any], now: dict[str, Any], path: str = "") -> list[str]:
    """What of a section changed, a line each, by its dotted key."""
    found = []
    for key in dict.fromkeys((*before, *now)):
        name, old, new = f"{path}{key}", before.get(key), now.get(key)
        if old == new or name in FREE:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and name != "space":
            if path == "space.":
                found.append(f"tune.{name}: {_values(old)} is now {_values(new)}")
            else:
                found += differences(old, new, f"{name}.")
        elif name == "space":
            found += differences(old or {}, new or {}, "space.")
        else:
            found.append(f"tune.{name}: {_values(old)} is now {_values(new)}")
    return found


def _values(section: Any) -> str:
    """A dimension or value as a file would have it; "absent" for none."""
    if section is None:
        return "absent"
    if not isinstance(section, dict):
        return str(section)
    set_ = {key: value for key, value in section.items() if value not in (None, {})}
    if set(set_) == {"choice"}:
        return str(set_["choice"])
    return "{" + ", ".join(f"{key}: {value}" for key, value in set_.items()) + "}"
