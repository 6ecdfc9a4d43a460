"""The gate: whether a version may take an alias, the move itself, and the way back.

The gate reads the version's evaluation on its test part. `ALIAS.metric` is the holder's, on the
very same data: a holder without an evaluation there is scored on it first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.spec.condition import ConditionError, Expression
from cluster.spec.models import LATENCIES
from cluster.spec.serving import PromoteSpec
from cluster.storage import Storage
from jobs.bundles import ALIAS, LATEST, Alias, AliasMovedError, Version, resolve, set_alias
from jobs.bundles import aliases as all_aliases
from jobs.integrity import check_version
from jobs.prepared import held_back_split
from jobs.runs import owner

Evaluate = Callable[[Version, Version], None]
"""Scores the first version on the held-back data of the second."""


class PromotionError(ValueError):
    """A version that the gate cannot judge, or an alias that cannot move so."""

    exit_code = 2


@dataclass(frozen=True)
class Decision:
    """What the gate said of a version."""

    version: Version
    alias: str
    holds: bool
    compared: dict[str, Any]
    """{"gate", "terms": {text: number or null}, "holders": {alias: number}, "reasons", ...}"""
    held: bool = False
    """The version held the alias before."""
    previous: int | None = None
    """The version that held it until now."""

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        known = ("gate", "terms", "holders", "reasons")
        return {
            "model": self.version.model,
            "version": self.version.number,
            "alias": self.alias,
            "promoted": self.holds,
            "previous": self.previous,
        } | {name: self.compared.get(name) for name in known}

    def lines(self) -> list[str]:
        """For a person."""
        name, alias = self.version.name, self.alias
        if self.held:
            return [f"{name} is {alias} already"]
        told = [f"  {reason}" for reason in self.compared["reasons"]]
        holders = {a: n for a, n in self.compared["holders"].items() if n is not None}
        told += [f"  {a} is {self.version.model}@{number}" for a, number in holders.items()]
        if not self.holds:
            return [f"the gate says no: {name} does not become {alias}", *told]
        was = f" (it was {self.version.model}@{self.previous})" if self.previous else ""
        undo = f"; undo: slipway rollback {self.version.model}" if self.previous else ""
        return [f"{name} is {alias} now{was}{undo}", *told]


def promote(
    storage: Storage, version: Version, gate: PromoteSpec, evaluate: Evaluate, why: str
) -> Decision:
    """Judges the version, scoring first what was not scored yet, and moves the alias if it may.

    Raises PromotionError where it cannot be judged, BundleError where its files have changed.
    """
    if not ALIAS.fullmatch(gate.to) or gate.to == LATEST:
        raise PromotionError(f"{gate.to!r} cannot be an alias; use a-z, 0-9 and -, not {LATEST!r}")
    while True:
        version = resolve(storage, version.name)  # with the evaluations that it has by now
        holder = _holder(storage, version.model, gate.to)
        if holder == version.number:
            return Decision(version, gate.to, True, _known(storage, version, gate), True, holder)
        check_version(storage, version)
        for candidate, other in unscored(storage, version, gate):
            evaluate(candidate, other)
        decision = decide(storage, resolve(storage, version.name), gate)
        if decision.holds:
            try:
                compared = decision.compared
                set_alias(
                    storage, version.model, gate.to, version.number, owner(), why, compared, holder
                )
            except AliasMovedError:
                continue  # somebody was faster: compare with the version that holds it now
        _keep(storage, decision)
        return decision


def decide(storage: Storage, version: Version, gate: PromoteSpec) -> Decision:
    """What the gate says, from evaluations that are there; changes nothing."""
    named = all_aliases(storage, version.model)
    previous = named[gate.to].number if gate.to in named else None
    condition = gate.condition
    compared: dict[str, Any] = {"gate": str(condition) if condition else None, "terms": {}}
    compared |= {"holders": {}, "reasons": ["no condition: every version passes"]}
    compared |= {"digest": version.digest, "data": version.bundle["data"]}
    if condition is None:
        return Decision(version, gate.to, True, compared, False, previous)
    split = _split(storage, version, condition)

    def lookup(alias: str | None, name: str) -> float | None:
        judged = version if alias is None else _holder_of(storage, named, version, alias)
        if alias is not None:
            compared["holders"][alias] = judged.number if judged else None
        value = None if judged is None else _metric(judged, version, split, name)
        compared["terms"][f"{alias}.{name}" if alias else name] = value
        return value

    try:
        verdict = condition.evaluate(lookup)
    except ConditionError as error:
        raise PromotionError(f"promote.if of {version.name}: {error}") from None
    compared |= {"reasons": list(verdict.reasons), "split": split}
    return Decision(version, gate.to, verdict.holds, compared, False, previous)


def unscored(
    storage: Storage, version: Version, gate: PromoteSpec
) -> list[tuple[Version, Version]]:
    """(version to score, version on whose held-back data) that `decide` is still without."""
    if gate.condition is None:
        return []
    split = _split(storage, version, gate.condition)
    named = all_aliases(storage, version.model)
    wanted = {}
    for name in gate.condition.names():
        judged = _holder_of(storage, named, version, name.alias) if name.alias else version
        if judged is not None and _evaluation(judged, version, split) is None:
            wanted[judged.number] = (judged, version)
    return list(wanted.values())


def is_judged(storage: Storage, version: Version, gate: PromoteSpec) -> bool:
    """Whether the version took the alias under this very gate, be it long ago."""
    alias = all_aliases(storage, version.model).get(gate.to)
    if alias is None:
        return False
    text = str(gate.condition) if gate.condition else None
    moves = (m for m in alias.history if m["version"] == version.number)
    judged = any("gate" in m["compared"] and m["compared"]["gate"] == text for m in moves)
    return judged or alias.number == version.number


def roll_back(
    storage: Storage, model: str, alias: str, wanted: str | None, reason: str
) -> tuple[Version, int]:
    """Moves the alias back without the gate; returns the version and the number it left."""
    found = all_aliases(storage, model).get(alias)
    if found is None:
        resolve(storage, model)  # tells where the model itself is unknown
        raise PromotionError(f"{model} has no {alias}; slipway promote {model} --to {alias}")
    wanted = wanted or str(previous_holder(found) or "")
    if not wanted:
        raise PromotionError(
            f"no version of {model} was {alias} before {model}@{found.number}; name one: "
            f"slipway rollback {model} VERSION"
        )
    target = resolve(storage, f"{model}@{wanted}")
    if target.number == found.number:
        raise PromotionError(f"{target.name} is {alias} already; name another version")
    if storage.local_path() is not None:  # elsewhere that would take a download of all weights
        check_version(storage, target)
    compared = {"rollback": True, "digest": target.digest}
    set_alias(storage, model, alias, target.number, owner(), reason, compared)
    return target, found.number


def previous_holder(alias: Alias) -> int | None:
    """The holder before this one; going back twice leads further back, not forth again."""
    line: list[int] = []
    for move in alias.history:
        number = move["version"]
        if move.get("compared", {}).get("rollback") and number in line:
            line = line[: len(line) - line[::-1].index(number)]
        elif not line or line[-1] != number:
            line.append(number)
    return line[-2] if len(line) > 1 else None


def _split(storage: Storage, version: Version, condition: Expression) -> str:
    """The split that the gate reads; PromotionError where it has to be test and there is none."""
    manifest = storage.read_json(f"data/{version.bundle['data']}/manifest.json")
    split = held_back_split(manifest)
    if split is None or (
        split != "test" and any(m.name not in LATENCIES for m in condition.names())
    ):
        raise PromotionError(
            f"{version.name} was trained without a test part, which the gate reads; set "
            "data.split.test, such as 10%, and run again"
        )
    return split


def _holder(storage: Storage, model: str, alias: str) -> int | None:
    found = all_aliases(storage, model).get(alias)
    return found.number if found else None


def _holder_of(
    storage: Storage, named: dict[str, Alias], version: Version, alias: str
) -> Version | None:
    return resolve(storage, f"{version.model}@{alias}") if alias in named else None


def _evaluation(judged: Version, version: Version, split: str) -> dict[str, Any] | None:
    """The evaluation of `judged` on the held-back data of `version`."""
    data = version.bundle["data"]
    for found in judged.evaluations.values():
        if found.get("split") == split and found.get("data", judged.bundle["data"]) == data:
            return found
    return None


def _metric(judged: Version, version: Version, split: str, name: str) -> float:
    found = _evaluation(judged, version, split)
    if found is None:
        again = f"slipway evaluate {judged.name}"
        raise PromotionError(
            f"{judged.name} was not scored on the {split} part of {version.name}: {again}"
        )
    if name not in found["metrics"]:
        known = ", ".join(found["metrics"])
        raise PromotionError(
            f'promote.if reads "{name}", which was not measured for {judged.name}; '
            f"measured: {known}"
        )
    return float(found["metrics"][name])


def _keep(storage: Storage, decision: Decision) -> None:
    """The last judgement of each version, beside it: a refusal moves no alias, but is told."""
    content = {**decision.as_dict(), "who": owner(), "time": time.time()}
    storage.write_json(f"{decision.version.path}/judgements/{decision.alias}.json", content)


def _known(storage: Storage, version: Version, gate: PromoteSpec) -> dict[str, Any]:
    """What was compared when the version took the alias."""
    moves = all_aliases(storage, version.model)[gate.to].history
    compared = [m["compared"] for m in moves if m["version"] == version.number]
    return {"gate": None, "terms": {}, "holders": {}, "reasons": [], **compared[-1]}
