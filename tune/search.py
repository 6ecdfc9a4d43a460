"""Which point to try next: grid, random, Sobol, TPE and Gaussian process (the last two Optuna's).

Each is a pure function of the spec, the trial's number and the history, so that a sweep that is
restarted suggests what it would have suggested.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.spec.tune import Dimension, TuneSpec
from tune.history import History, Trial
from tune.space import Space, Values, at, contains, grid, is_active, ordered, place_of, plain


def suggest(tune: TuneSpec, number: int, history: History, higher: bool) -> Values | None:
    """The values of trial ``number`` from 0; None where there are no more points.

    ``higher``: whether a greater score is better. Known good points come first: the file's own,
    then the best of the sweep that this one learns from.
    """
    if tune.search.type == "grid":
        return _next_of_grid(tune.space, history)
    known = [*tune.points, *_best_prior(tune, history, higher)]
    if number - history.taken < len(known):
        return _completed(tune, number, known[number - history.taken])
    if tune.search.type in ("tpe", "gp"):
        return _learned(tune, number, history, higher)
    return _spread(tune, number)


def _next_of_grid(space: Space, history: History) -> Values | None:
    tried = [_plain(trial.stretches[0].values) for trial in history.trials.values()]
    return next((point for point in grid(space) if _plain(point) not in tried), None)


def _plain(values: Mapping[str, Any]) -> Values:
    return {key: plain(value) for key, value in values.items()}


def _best_prior(tune: TuneSpec, history: History, higher: bool) -> list[Values]:
    prior = [(values, score) for values, score in history.prior if contains(tune.space, values)]
    best = sorted(prior, key=lambda pair: -pair[1] if higher else pair[1])
    return [values for values, _ in best[:1]]


def _completed(tune: TuneSpec, number: int, given: Mapping[str, Any]) -> Values:
    """A known point; keys that it leaves out are drawn at random."""
    drawn, values = _shares(tune, number), dict[str, Any]()
    for key, share in zip(ordered(tune.space), drawn, strict=True):
        if is_active(tune.space[key], values):
            values[key] = given[key] if key in given else at(tune.space[key], share)
    return values


def _spread(tune: TuneSpec, number: int) -> Values:
    """The next point at random, or of Sobol's sequence."""
    keys = ordered(tune.space)
    if tune.search.type == "sobol":
        from scipy.stats import qmc

        with warnings.catch_warnings():  # of lengths that are no power of two
            warnings.simplefilter("ignore")
            points = qmc.Sobol(len(keys), scramble=True, rng=np.random.default_rng(tune.seed))
            shares = points.random(number + 1)[number].tolist()
    else:
        shares = _shares(tune, number)
    values: Values = {}
    for key, share in zip(keys, shares, strict=True):
        if is_active(tune.space[key], values):
            values[key] = at(tune.space[key], share)
    return values


def _shares(tune: TuneSpec, number: int) -> list[float]:
    shares: list[float] = (
        np.random.default_rng([tune.seed, number]).random(len(tune.space)).tolist()
    )
    return shares


def _learned(tune: TuneSpec, number: int, history: History, higher: bool) -> Values:
    """What Optuna's sampler takes from the trials so far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked, values = study_of(tune, number, history, higher).ask(), dict[str, Any]()
        for key in ordered(tune.space):
            dimension = tune.space[key]
            if is_active(dimension, values):
                values[key] = _asked(asked, key, dimension)
    return values


def study_of(
    tune: TuneSpec, number: int, history: History, higher: bool, whole: bool = False
) -> Any:
    """The trials as Optuna's study, before trial ``number``; ``whole`` counts all as complete."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        direction = "maximize" if higher else "minimize"
        study = optuna.create_study(direction=direction, sampler=_sampler(tune, number))
        for values, score in history.prior:
            if contains(tune.space, values):
                study.add_trial(_known(tune.space, values, score))
        for trial in sorted(history.trials.values(), key=lambda t: _place(t, history)):
            if trial.scores:
                study.add_trial(_frozen(tune.space, trial, history, whole))
    return study


def _place(trial: Trial, history: History) -> int:
    return history.order.index((trial.number, min(trial.scores))) if trial.scores else -1


def _sampler(tune: TuneSpec, number: int) -> Any:
    import optuna

    seed = int(np.random.default_rng([tune.seed, number]).integers(2**31))
    startup: dict[str, Any] = {}
    if tune.search.startup:
        startup["n_startup_trials"] = tune.search.startup
    if tune.search.type == "gp":
        return optuna.samplers.GPSampler(seed=seed, **startup)
    options: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": False}
    return optuna.samplers.TPESampler(seed=seed, **options, **startup)


def _frozen(space: Space, trial: Trial, history: History, whole: bool) -> Any:
    """A trial as Optuna keeps it: pruned where others have been trained further."""
    import optuna

    furthest = max(t.rung for t in history.trials.values())
    whole = whole or trial.rung == furthest
    states = optuna.trial.TrialState
    state = states.COMPLETE if whole else states.PRUNED
    values, score = trial.values, trial.scores[trial.rung]
    return _known(space, values, score, state=state, intermediate_values=dict(trial.scores))


def _known(space: Space, values: Mapping[str, Any], score: float, **more: Any) -> Any:
    """Values with their score, in Optuna's own form."""
    import optuna

    return optuna.trial.create_trial(
        params={key: _index(space[key], value) for key, value in values.items()},
        distributions={key: _distribution(space[key]) for key in values},
        value=score,
        **more,
    )


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if dimension.choice is not None:
        return CategoricalDistribution(list(range(len(dimension.choice))))
    low, high = dimension.corners()
    if dimension.kind in ("int", "logint"):
        return IntDistribution(low, high, log=dimension.kind == "logint")
    return FloatDistribution(low, high, log=dimension.kind == "log")


def _index(dimension: Dimension, value: Any) -> Any:
    """Lists are searched by the places of their values, which may be anything."""
    if dimension.choice is None:
        return value
    return place_of(dimension, value)


def _asked(trial: Any, key: str, dimension: Dimension) -> Any:
    value = trial._suggest(key, _distribution(dimension))
    return value if dimension.choice is None else dimension.choice[value]
