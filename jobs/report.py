"""One evaluation as a page that needs nothing but itself: no script, no request to anywhere."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any
from xml.etree.ElementTree import Element

from cluster.spec import METRICS
from cluster.spec.models import LATENCIES
from jobs.domains.details import Detail, Examples, Matrix, Shown, Table
from jobs.intervals import RESAMPLES
from jobs.markup import add, clean, data_uri, tag, write
from jobs.plots import Series, bar, curve, heat, number, smoothed

PAGE = Path(__file__).with_name("report.html")
MOST_ROWS = 200
TALL_ROWS = 15
"""A table of more rows scrolls in a box of its own."""
MOST_TEXT = 1500


@dataclass(frozen=True)
class Report:
    """What a page shows."""

    evaluation: dict[str, Any]
    bundle: dict[str, Any]
    details: Sequence[Detail] = ()
    worst: Sequence[Shown] = ()
    lines: Sequence[dict[str, Any]] = field(default_factory=list)
    """Those of metrics.jsonl."""

    @property
    def directions(self) -> dict[str, str]:
        """Which way each metric is better, those of the task in their own order."""
        own = METRICS.get((self.bundle["domain"], self.bundle["task"]), {})
        return {**own, **LATENCIES}

    @property
    def headline(self) -> str:
        """The metric that the model was chosen by."""
        metrics = self.evaluation["metrics"]
        wanted = str(self.bundle.get("metric"))
        return wanted if wanted in metrics else str(next(iter(metrics)))


def render(report: Report) -> str:
    """The HTML page."""
    found = report.evaluation
    title = f"{found['model']}@{found['version']}"
    body = tag("main", tag("h1", title), tag("p", _lead(report), class_="lead"))
    add(body, _tiles(report), _verdict(report), _metrics(report), *_curves(report))
    for detail in report.details:
        add(body, _detail(detail))
    if report.worst:
        add(body, _detail(Examples("Worst mistakes", report.worst)))
    add(body, _provenance(report))
    page = Template(PAGE.read_text("utf-8"))
    return page.substitute(title=html.escape(clean(title)), body=write(tag("body", body)))


def shown(evaluation: dict[str, Any]) -> str:
    """Return the metrics in one line, each with its interval, and the baseline's beside it."""
    baseline = dict(evaluation.get("baseline") or {})
    name, given = baseline.pop("name", None), evaluation.get("intervals", {})
    metrics = evaluation["metrics"]
    first = [key for key in (evaluation.get("metric"),) if key in metrics]
    parts: list[str] = []
    for key in dict.fromkeys((*first, *metrics)):
        text = f"{key} {number(metrics[key])}"
        if key in given:
            text += f" ({number(given[key][0])} to {number(given[key][1])})"
        if key in baseline:
            named_once = f"baseline {name}" if ", baseline" not in "".join(parts) else "baseline"
            text += f", {named_once} {number(baseline[key])}"
        parts.append(text)
    return "; ".join(parts)


def _lead(report: Report) -> str:
    found, bundle = report.evaluation, report.bundle
    on = f"on its {found['split']} part" if found.get("held_back") else f"on {found['split']}"
    day = datetime.fromtimestamp(found["time"], UTC).strftime("%-d %B %Y")
    return f"{bundle['domain']} {bundle['task']}, {found['records']:,} records {on}, {day}"


def _tiles(report: Report) -> Element:
    found, name = report.evaluation, report.headline
    metrics, interval = found["metrics"], found["intervals"].get(name)
    more = f"{number(interval[0])} to {number(interval[1])}, 95 % interval" if interval else ""
    tiles = tag("div", _tile(name, number(metrics[name]), more), class_="tiles")
    baseline = found.get("baseline") or {}
    if name in baseline:
        add(tiles, _tile("simple baseline", number(baseline[name]), baseline["name"]))
    if "p50_ms" in metrics:
        more = f"{metrics['p99_ms']:.3g} ms at the 99th percentile, one thread"
        add(tiles, _tile("one record takes", f"{metrics['p50_ms']:.3g} ms", more))
    return add(tiles, _tile("scored", f"{found['records']:,}", "records"))


def _tile(what: str, much: str, more: str) -> Element:
    parts = (("what", what), ("much", much), ("more", more))
    return tag("div", *(tag("div", text, class_=kind) for kind, text in parts), class_="tile")


def _verdict(report: Report) -> Element | None:
    """Whether the network was worth it, in a sentence."""
    found, name = report.evaluation, report.headline
    baseline, interval = found.get("baseline") or {}, found["intervals"].get(name)
    if name not in baseline or interval is None:
        return None
    against = f"{baseline['name']} ({number(baseline[name])})"
    low, high = interval
    if report.directions.get(name) == "min":
        better, worse = high < baseline[name], low > baseline[name]
    else:
        better, worse = low > baseline[name], high < baseline[name]
    if better:
        text = f"The network was worth it: its {name} is better than that of {against}, and so is "
        return tag("p", text, "the whole interval.", class_="verdict good")
    if worse:
        text = f"The simple baseline is better: {against} beats this network's {name}. "
        return tag("p", text, "More data, more training or other sizes?", class_="verdict bad")
    text = f"No clear difference: the interval of {name} holds that of {against}. "
    return tag("p", text, "The baseline is simpler; more records would tell.", class_="verdict")


def _metrics(report: Report) -> Element:
    found = report.evaluation
    metrics, baseline = found["metrics"], found.get("baseline") or {}
    section = tag("section", tag("h2", "Metrics"))
    entries = [("value", "this version"), ("ink", "95 % interval")]
    entries += [("other", f"baseline: {baseline['name']}")] if baseline else []
    add(section, _key(entries))
    order = [name for name in (report.headline, *report.directions) if name in metrics]
    for name in dict.fromkeys((*order, *metrics)):
        if name in LATENCIES:
            continue
        add(section, _metric(report, name, baseline.get(name)))
    latency = ", ".join(f"{name} {metrics[name]:.3g}" for name in LATENCIES if name in metrics)
    note = f"Intervals: {RESAMPLES} bootstrap resamples of the records (percentile method). "
    note += f"Latency on {found['device']}: {latency}." if latency else ""
    return add(section, tag("p", note, class_="note"))


def _metric(report: Report, name: str, other: float | None) -> Element:
    value, interval = report.evaluation["metrics"][name], report.evaluation["intervals"].get(name)
    most = max(value, *(interval or ()), other or 0)
    bounded = report.directions.get(name) == "max" and most <= 1
    text = tag("span", tag("b", number(value)), class_="text")
    add(text, f" ({number(interval[0])} to {number(interval[1])})" if interval else None)
    add(text, f", baseline {number(other)}" if other is not None else None)
    better = {"min": "lower is better", "max": "higher is better"}
    label = tag("span", name, title=better.get(report.directions.get(name, "")))
    top = 1.0 if bounded else (most * 1.1 or 1.0)
    return tag("div", label, bar(value, interval, other, top), text, class_="metric")


def _key(entries: Sequence[tuple[str, str]]) -> Element:
    spans = (tag("span", tag("i", class_=kind), text) for kind, text in entries)
    return tag("div", *spans, class_="key")


def _curves(report: Report) -> list[Element]:
    """The training's loss, and the validation metric that chose the version."""
    losses = [(line["step"], line["loss"]) for line in report.lines if "loss" in line]
    told = [(line["step"], line["validation"]) for line in report.lines if line.get("validation")]
    if len(losses) < 2:
        return []
    section = tag("section", tag("h2", "Learning curve"))
    series = [Series("loss", losses, "loss"), Series("smoothed loss", smoothed(losses), "smooth")]
    entries = [("value", "training loss (thin: every step)")]
    checked = [(step, values["loss"]) for step, values in told if "loss" in values]
    if checked:
        series.append(Series("validation loss", checked, "validation"))
        entries.append(("other", "validation loss"))
    last = losses[-1][0]
    add(section, _key(entries), curve(series, last))
    name = report.bundle.get("metric", "loss")
    points = [(step, values[name]) for step, values in told if name in values]
    if name != "loss" and points:
        mark = next((p for p in points if p[0] == report.bundle.get("step")), None)
        shown = curve([Series(name, points, "validation")], last, mark, "this version")
        ringed = " (ringed: the step of this version)" if mark else ""
        add(section, _key([("other", f"validation {name}{ringed}")]), shown)
    return [section]


def _detail(detail: Detail) -> Element:
    section = tag("section", tag("h2", detail.title))
    if isinstance(detail, Table):
        return add(section, _table(detail))
    if isinstance(detail, Matrix):
        key = _key([("value", "right"), ("other", "wrong")])
        return add(section, key, tag("div", heat(detail.labels, detail.counts), class_="scroll"))
    return add(section, tag("div", *map(_record, detail.items), class_="cards"))


def _table(table: Table) -> Element:
    rows = table.rows[:MOST_ROWS]
    numeric = [
        all(not isinstance(cell, str) for cell in column) for column in zip(*rows, strict=True)
    ]
    kinds = ["number" if is_number else None for is_number in numeric]
    kinds = kinds or [None] * len(table.columns)
    head = (tag("th", name, class_=kind) for name, kind in zip(table.columns, kinds, strict=True))
    made = tag("table", tag("tr", *head))
    for row in rows:
        cells = (
            tag("td", cell if isinstance(cell, str) else number(cell), class_=kind)
            for cell, kind in zip(row, kinds, strict=True)
        )
        add(made, tag("tr", *cells))
    rest = len(table.rows) - len(rows)
    note = tag("p", f"and {rest:,} more", class_="note") if rest else None
    long = len(rows) > TALL_ROWS
    return tag("div", made, note, class_="scroll tall" if long else "scroll")


def _record(item: Shown) -> Element:
    figure = tag("figure", class_="shown")
    if item.png is not None:
        add(figure, tag("img", src=data_uri(item.png, "image/png"), alt=item.text or "a record"))
    if item.wav is not None:
        add(figure, tag("audio", controls="", preload="none", src=data_uri(item.wav, "audio/wav")))
    if item.text:
        cut = item.text if len(item.text) <= MOST_TEXT else f"{item.text[:MOST_TEXT]} …"
        add(figure, tag("blockquote", cut))
    return add(figure, tag("figcaption", item.note)) if item.note else figure


def _provenance(report: Report) -> Element:
    found, bundle = report.evaluation, report.bundle
    code = bundle.get("code") or {}
    moment = datetime.fromtimestamp(found["time"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = {
        "version": f"{found['model']}@{found['version']}",
        "run": bundle.get("run"),
        "step": bundle.get("step"),
        "training data": bundle.get("data"),
        "scored data": f"{found['data']} ({found['split']})",
        "code": " ".join(str(part) for part in (code.get("version"), code.get("digest")) if part),
        "precision": bundle.get("precision"),
        "device": found["device"],
        "evaluated": moment,
    }
    entries = tag("dl")
    for name, value in facts.items():
        if value:
            add(entries, tag("dt", name), tag("dd", tag("code", str(value))))
    spec = json.dumps(bundle.get("spec", {}), indent=1, ensure_ascii=False)
    more = tag("details", tag("summary", "its part of the YAML"), tag("pre", tag("code", spec)))
    why = f"slipway why {found['model']}@{found['version']}"
    note = tag("p", tag("code", why), " says where each of these comes from.", class_="note")
    return tag("section", tag("h2", "Where it comes from"), entries, more, note)
