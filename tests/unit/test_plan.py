"""What a plan computes is what transformers builds."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from cluster.parameters import bert_parameters, gpt_parameters, lstm_parameters
from cluster.plan import device_bytes, memory_plan, resolved_stage
from cluster.spec import LSTM, Bert, Pool, Spec, load
from jobs.domains.text.encoders import build_classifier, build_masked
from jobs.domains.text.networks import llama_inner_width
from jobs.domains.text.ngrams import learn_ngrams
from jobs.domains.text.vocabulary import train_wordpiece


def spec(folder: Path, train: dict[str, Any], **network: Any) -> Spec:
    model = {
        "domain": "text",
        "task": "generation",
        "data": {"source": "builtin:python-docs", "tokenizer": {"size": 500}},
        "network": {"type": "gpt", **network},
        "train": {"steps": 10, **train},
    }
    cluster = {"storage": "./store", "pools": [{"name": "cpu", "cpus": 4}]}
    document = {"name": "x", "cluster": cluster, "models": {"m": model}}
    (folder / "cluster.yaml").write_text(json.dumps(document))
    return load(folder / "cluster.yaml")


@pytest.mark.parametrize("style", ["gpt2", "llama"])
def test_parameters_are_counted_exactly(style: str, tmp_path: Path) -> None:
    network: Any = spec(tmp_path, {}, style=style, layers=3, heads=4, width=96).model("m").network
    if style == "gpt2":
        config: Any = GPT2Config(
            vocab_size=500, n_layer=3, n_head=4, n_embd=96, n_positions=network.context
        )
    else:
        config = LlamaConfig(
            vocab_size=500,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            hidden_size=96,
            intermediate_size=llama_inner_width(96),
        )
    built = AutoModelForCausalLM.from_config(config)
    assert gpt_parameters(network, 500) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("task", ["classification", "masked-lm"])
def test_encoders_are_counted_exactly(task: str) -> None:
    network: Any = Bert(type="bert", layers=2, heads=2, width=32, context=24)
    vocabulary: Any = SimpleNamespace(size=50, padding=0)
    model: Any = SimpleNamespace(network=network)
    if task == "masked-lm":
        built: Any = build_masked(model, vocabulary, None)
    else:
        built = build_classifier(model, vocabulary, ["a", "b", "c"], None, Path())
    assert bert_parameters(network, 50, task, 3) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize(("bidirectional", "classes"), [(True, 2), (False, 70)])
def test_recurrent_networks_are_counted_exactly(
    tmp_path: Path, bidirectional: bool, classes: int
) -> None:
    network: Any = LSTM(type="lstm", layers=2, width=12, bidirectional=bidirectional)
    model: Any = SimpleNamespace(network=network)
    vocabulary = train_wordpiece(["one two three", "two three"], 50, tmp_path)
    texts = [(vocabulary.encode(text), 0) for text in ("two three", "two four")]
    learn_ngrams(vocabulary, lambda: texts, classes, tmp_path)
    names = [f"{i}" for i in range(classes)]
    built: Any = build_classifier(model, vocabulary, names, None, tmp_path)
    size, ngrams = vocabulary.size, built.config.num_ngrams
    found = sum(p.numel() for p in built.parameters())
    assert ngrams > 1
    assert lstm_parameters(network, size, classes, ngrams) == found
    assert not built.bag.weights.weight.any()


def test_a_stage_that_is_named_is_taken(tmp_path: Path) -> None:
    assert resolved_stage(spec(tmp_path, {"workers": 2, "zero": {"stage": 3}}), "m") == 3


def test_a_small_network_needs_no_sharding(tmp_path: Path) -> None:
    plan = memory_plan(spec(tmp_path, {"workers": 2}), "m")
    assert plan is not None
    assert plan.stage == 0
    assert plan.estimates[3].states < plan.estimates[0].states


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({"workers": 2}, 32),
        ({"workers": 100}, 16),
        ({"workers": 2, "cpus_per_worker": 4}, 16),
        ({"workers": 2, "cpus_per_worker": 8}, 32),
    ],
)
def test_a_worker_never_has_more_than_its_share_of_one_node(
    tmp_path: Path, train: dict[str, Any], expected: int
) -> None:
    model = spec(tmp_path, {"cpus_per_worker": "auto", "workers": 1}).model("m")
    own = model.model_copy(update={"train": model.train.model_copy(update=train)})
    pool = Pool.model_validate({"name": "cpu", "nodes": "1..50", "cpus": 8, "memory": "32Gi"})
    assert device_bytes(pool, own, train["workers"]) == expected * 2**30
