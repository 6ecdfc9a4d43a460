"""The small values, the gate's language, and the generated reference."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cluster
from cluster.spec import ConditionError, load
from cluster.spec.condition import Expression
from cluster.spec.grammar import (
    Accelerator,
    Amount,
    Money,
    Range,
    parse_duration,
    parse_share,
    parse_size,
)
from cluster.spec.references import ModelReference, Secret
from cluster.spec.schema import json_schema, reference


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration, "5ms", 0.005),
        (parse_duration, "10m", 600.0),
        (parse_duration, 3, 3.0),
        (parse_size, "8Gi", 8 * 2**30),
        (parse_size, "16GB", 16 * 10**9),
        (parse_share, "10%", 0.1),
        (parse_share, 0.25, 0.25),
        (Range.parse, "1..8", Range(1, 8)),
        (Range.parse, 2, Range(2, 2)),
        (Amount.parse, 500, Amount(500, "steps")),
        (Amount.parse, "0.5 epochs", Amount(0.5, "epochs")),
        (Amount.parse, "5%", Amount(0.05, "share")),
        (Money.parse, "31.2 USD/h", Money(31.2, "USD", "h")),
        (Accelerator.parse, "H100:8", Accelerator("H100", 8)),
        (ModelReference.parse, "m@3", ModelReference("m", 3)),
        (ModelReference.parse, "m@production", ModelReference("m", "production")),
        (Secret.parse, {"secret": "s3/key"}, Secret("s3", "key")),
    ],
)
def test_values_parse_and_write_back(parse, text, value):
    assert parse(text) == value
    if hasattr(value, "dump"):
        assert parse(value.dump()) == value


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_share])
@pytest.mark.parametrize("text", ["", "x", "10 parsecs", -1, True, None, [], {}, float("nan")])
def test_other_values_are_refused_in_words(parse, text):
    with pytest.raises(ValueError, match="is not a"):
        parse(text)


def test_amounts_in_steps():
    assert Amount(0.05, "share").in_steps(10, 200) == 10
    assert Amount(0.5, "epochs").in_steps(10, 200) == 5
    assert Amount(0.001, "share").in_steps(10, 200) == 1
    assert Amount(0, "steps").in_steps(10, 200) == 0


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("accuracy >= 0.9", True),
        ("accuracy > 0.9 and not p99_ms <= 50", False),
        ("accuracy - 0.05 > 0.8 or p99_ms > 1e3", True),
        ("-(accuracy + 1) * 2 < -3 * 1", True),
        ("ndcg@10 == 0.5", True),
        ("accuracy >= production.accuracy + 0.2", False),
        ("accuracy > candidate.accuracy", True),
        ("not accuracy > candidate.accuracy", True),
        ("accuracy > candidate.accuracy and accuracy > 0.95", False),
    ],
)
def test_conditions(text, holds):
    known = {(None, "accuracy"): 0.9, (None, "p99_ms"): 10.0, (None, "ndcg@10"): 0.5}
    known["production", "accuracy"] = 0.8
    verdict = Expression.parse(text).evaluate(lambda alias, name: known.get((alias, name)))
    assert verdict.holds is holds
    assert verdict.reasons


@pytest.mark.parametrize(
    "text",
    [
        *("", "accuracy", "1 < 2 < 3", "a >", "(a > 1", "a > 1)", "a => 1", "a > f('os')"),
        *("a and b", "a > 'x'", "a ** 2 > 1", "not a", "(a > 1) + 1 > 2", "(" * 200 + "a"),
    ],
)
def test_other_conditions_are_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        Expression.parse(text)


def test_conditions_name_what_is_missing():
    with pytest.raises(ConditionError, match='no metric "recall"'):
        Expression.parse("recall > 1").evaluate(lambda alias, name: None)
    with pytest.raises(ConditionError, match="divides by 0"):
        Expression.parse("recall / 0 > 1").evaluate(lambda alias, name: 1.0)


def test_the_reference_is_up_to_date():
    path = Path(cluster.__file__).with_name("README.md")
    assert path.read_text("utf-8") == reference(), (
        "python -m cluster.spec.schema > cluster/README.md"
    )


def test_the_schema_documents_every_key():
    schema = json_schema()
    json.dumps(schema)
    for each in (schema, *schema["$defs"].values()):
        for key, value in each.get("properties", {}).items():
            assert value["description"], key


def test_the_schema_accepts_shorthands():
    jsonschema = pytest.importorskip("jsonschema")
    model = {"domain": "text", "task": "generation", "data": "x.txt"}
    model |= {"network": "gpt", "train": {"optimizer": "adamw", "workers": "1..8"}}
    good = {"cluster": {"provider": "local", "storage": "./x"}, "models": {"a": model}}
    jsonschema.validate(good, json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | {"modles": {}}, json_schema())


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12
)
trains = st.fixed_dictionaries(
    {},
    optional={
        "steps": st.integers(1, 10**6),
        "seed": st.integers(-5, 2**40),
        "clip": st.floats(0, 1e9),
        "stall": st.one_of(st.floats(0, 1e6), st.just("5ms")),
        "precision": st.sampled_from(["auto", "fp32", "bf16"]),
        "workers": st.sampled_from([1, "1..2"]),
        "checkpoint": st.fixed_dictionaries({"every": st.sampled_from([7, "2 epochs", "12.5%"])}),
        "optimizer": st.one_of(
            st.just("adamw"), st.fixed_dictionaries({"lr": st.floats(1e-12, 1)})
        ),
    },
)


@settings(max_examples=40, deadline=None)
@given(train=trains, environment=st.dictionaries(texts, texts, max_size=3), by=texts)
def test_a_dump_loads_to_the_same_spec(tmp_path_factory, train, environment, by):
    folder = tmp_path_factory.mktemp("spec")
    path = folder / "cluster.yaml"
    data = {"source": ["*.txt", "s3://b/x"], "split": {"by": by}}
    model = {"domain": "text", "task": "generation", "data": data, "train": train}
    whole = {"cluster": {"env": environment, "head": {"cpus": 2}}, "models": {"a": model}}
    path.write_text(json.dumps(whole), "utf-8")
    spec = load(path)
    path.write_text(spec.dump(), "utf-8")
    assert load(path) == spec
