"""A sweep as a page: what to set, what mattered, how trials learned, what it cost."""

from __future__ import annotations

import html
import io
import warnings
from string import Template
from typing import Any
from xml.etree.ElementTree import Element

from ruamel.yaml import YAML

from cluster.spec import ModelSpec, Money
from cluster.spec.tune import TuneSpec
from jobs.markup import add, clean, tag, write
from jobs.plots import Series, bar, curve, number, scatter
from jobs.report import PAGE
from tune.bounds import causes
from tune.cost import cost
from tune.history import History, Trial
from tune.search import study_of
from tune.table import best_score, shown


def render(run: str, history: History, model: ModelSpec, price: Money | None = None) -> str:
    """The HTML page of a sweep, which needs nothing but itself; ``price`` of a trial's hour."""
    assert model.tune is not None
    higher, best = model.direction == "max", history.best(model.direction == "max")
    body = tag("main", tag("h1", run), tag("p", _lead(history, model), class_="lead"))
    if best is not None:
        stretch = best.stretch_at(best.best_rung(higher))
        add(body, _tiles(history, model, best, price), _best(stretch.values))
        add(body, _importance(model.tune, history, higher), _curves(history, model.metric))
        add(body, _worth(history, model.metric, higher, price))
    add(body, _trials(history, higher), _failures(history))
    page = Template(PAGE.read_text("utf-8"))
    return page.substitute(title=html.escape(clean(run)), body=write(tag("body", body)))


def importance(tune: TuneSpec, history: History, higher: bool) -> dict[str, float]:
    """Share of the metric's variance that each key explains (fANOVA: Hutter et al., ICML 2014).

    Empty where there are too few trials; keys that not all trials have are left out.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    study = study_of(tune, len(history.trials), history, higher, whole=True)
    if len(study.trials) < 4 or len({trial.value for trial in study.trials}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=tune.seed))
    return {key: float(share) for key, share in found.items()}


def _lead(history: History, model: ModelSpec) -> str:
    tune = model.tune
    assert tune is not None
    ended = f", ended: {history.ended}" if history.ended else ""
    return (
        f"{len(history.trials)} trials, {tune.search.type} search, {tune.scheduler.type} "
        f"scheduler, by {model.metric}{ended}"
    )


def _tiles(history: History, model: ModelSpec, best: Trial, price: Money | None) -> Element:
    higher, trials = model.direction == "max", history.trials.values()
    scored = sorted(best_score(t, higher) for t in trials if t.scores)
    steps = sum(max(t.steps.values(), default=0) for t in trials)
    tiles = (
        (f"best {model.metric}", number(best_score(best, higher)), f"trial {best.number}"),
        ("median trial", number(scored[len(scored) // 2]), "what luck would give"),
        ("trained", f"{steps:,}", "steps, all trials together"),
        ("took", f"{history.spent_s / 60:,.1f} min", "sum over the trials"),
        *([("cost", str(cost(history.spent_s, price)), f"at {price}")] if price else []),
    )
    made = tag("div", class_="tiles")
    for what, much, more in tiles:
        parts = (("what", what), ("much", much), ("more", more))
        add(made, tag("div", *(tag("div", text, class_=k) for k, text in parts), class_="tile"))
    return made


def _best(values: dict[str, Any]) -> Element:
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(nested(values), text)
    note = tag("p", "Paste it under the model, in place of what stands there.", class_="note")
    return tag("section", tag("h2", "What to set"), tag("pre", tag("code", text.getvalue())), note)


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as the YAML has them."""
    made: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        place = made
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = list(value) if isinstance(value, tuple) else value
    return made


def _importance(tune: TuneSpec, history: History, higher: bool) -> Element:
    found = importance(tune, history, higher)
    section = tag("section", tag("h2", "What mattered"))
    for key, share in found.items():
        text = tag("span", tag("b", f"{share:.0%}"), class_="text")
        add(
            section,
            tag("div", tag("span", key), bar(share, None, None, 1.0), text, class_="metric"),
        )
    note = "Share of the differences between trials that each key explains by itself (fANOVA)."
    few = "Too few trials to tell; four with different results are the least."
    return add(section, tag("p", note if found else few, class_="note"))


def _curves(history: History, metric: str) -> Element | None:
    """Every trial's score at the rungs it reached."""
    lines = []
    for trial in history.trials.values():
        points = [(trial.steps[rung], score) for rung, score in sorted(trial.scores.items())]
        if points:
            kind = "validation" if len(points) > 1 else "loss"
            lines.append(Series(f"trial {trial.number} {shown(trial.values)}", points, kind))
    if not lines or max(len(line.points) for line in lines) < 2:
        return None
    last = max(step for line in lines for step, _ in line.points)
    return tag("section", tag("h2", f"{metric} by rung"), curve(lines, float(last)))


def _worth(history: History, metric: str, higher: bool, price: Money | None) -> Element | None:
    """What each trial took against how good it was."""
    dots = []
    for trial in history.trials.values():
        if trial.scores and trial.seconds:
            spent = cost(trial.seconds, price).value if price else trial.seconds
            point = (spent, best_score(trial, higher))
            dots.append(Series(f"trial {trial.number} {shown(trial.values)}", [point], "loss"))
    if len(dots) < 2:
        return None
    unit = price.currency if price else "seconds"
    title = f"{metric} against what a trial took, in {unit}"
    return tag("section", tag("h2", title), scatter(dots, unit))


def _trials(history: History, higher: bool) -> Element:
    sign = -1.0 if higher else 1.0
    ranked = sorted(
        history.trials.values(),
        key=lambda t: (sign * best_score(t, higher) if t.scores else float("inf"), t.number),
    )
    heads = ("trial", "score", "steps", "seconds", "values", "state")
    table = tag("table", tag("tr", *(tag("th", head) for head in heads)))
    for trial in ranked:
        state = trial.failed or ("ended early" if trial.stopped else trial.run or "")
        cells = (
            str(trial.number),
            number(best_score(trial, higher)) if trial.scores else "",
            f"{max(trial.steps.values(), default=0):,}",
            f"{trial.seconds:,.0f}",
            shown(trial.values),
            state,
        )
        add(table, tag("tr", *(tag("td", cell) for cell in cells)))
    return tag("section", tag("h2", "Trials"), tag("div", table, class_="scroll tall"))


def _failures(history: History) -> Element | None:
    found = causes(t.failed for t in history.trials.values() if t.failed)
    if not found:
        return None
    items = (tag("li", f"{count} x {cause}") for cause, count in found)
    return tag("section", tag("h2", "Failures"), tag("ul", *items))
