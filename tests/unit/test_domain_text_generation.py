import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.domains import load, open_domain
from jobs.domains.text.answering import Parameters
from jobs.domains.text.vocabulary import train_bpe, train_characters
from jobs.scoring import joined

torch.set_num_threads(1)
TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
CONTEXT = 16


def model_of(**network: Any) -> Any:
    shape = {"style": "gpt2", "layers": 2, "heads": 2, "width": 32, "kv_heads": None}
    settings = network if "pretrained" in network else shape | {"dropout": 0.0} | network
    return SimpleNamespace(
        domain="text",
        task="generation",
        data=SimpleNamespace(columns={}, encoding="auto"),
        network=SimpleNamespace(**{"context": CONTEXT} | settings),
    )


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processor")
    train_bpe([TEXT], 300, folder)
    return folder


@pytest.fixture(params=["gpt2", "llama"])
def domain(request: pytest.FixtureRequest, processor: Path) -> Any:
    torch.manual_seed(0)
    return open_domain(model_of(style=request.param, kv_heads=1), processor)


@pytest.fixture
def rows(domain: Any) -> dict[str, Any]:
    tokens = domain.vocabulary.encode(TEXT)[: 4 * (CONTEXT + 1)]
    return {"tokens": tokens.astype(np.uint16).reshape(4, CONTEXT + 1)}


def test_a_batch_and_its_loss(domain: Any, rows: dict[str, Any]) -> None:
    network, batch = domain.network().eval(), domain.collate(rows)
    assert batch["input_ids"].shape == batch["labels"].shape == (4, CONTEXT)
    assert torch.equal(batch["input_ids"][:, 1:], batch["labels"][:, :-1])
    loss = domain.loss(network, batch)
    loss.backward()
    assert abs(loss.item() - np.log(300)) < 0.5
    assert domain.count(batch) == 4 * CONTEXT
    plain = network(input_ids=torch.from_numpy(rows["tokens"][:, :-1].astype(np.int64)))
    expected = torch.nn.functional.cross_entropy(
        plain.logits.flatten(0, 1), batch["labels"].flatten()
    )
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_outcomes_add_up(domain: Any, rows: dict[str, Any]) -> None:
    network = domain.network().eval()
    with torch.no_grad():
        whole = domain.outcomes(network, domain.collate(rows))
        parts = [
            domain.outcomes(network, domain.collate({"tokens": rows["tokens"][i : i + 1]}))
            for i in range(4)
        ]
    for name, values in joined(parts).items():
        assert values == pytest.approx(whole[name], rel=1e-5)
    metrics = domain.metrics(whole)
    assert metrics["loss"] == pytest.approx(domain.loss(network, domain.collate(rows)).item())
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]))
    spelled = "".join(domain.vocabulary.decode(row[1:]) for row in rows["tokens"])
    assert whole["characters"].sum() == whole["bytes"].sum() == len(spelled)
    assert domain.worst(whole, 1) == np.argmax(whole["nats"])
    assert domain.show(rows, whole)[0].text == domain.vocabulary.decode(rows["tokens"][0])
    with pytest.raises(ValueError, match="no text to score"):
        domain.metrics({"tokens": np.zeros(1)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_saved_folder_is_the_network(
    domain: Any, rows: dict[str, Any], tmp_path: Path, dtype: torch.dtype
) -> None:
    network = domain.network().eval()
    state = {name: tensor.clone().to(dtype) for name, tensor in network.state_dict().items()}
    domain.save(network, state, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert again.dtype == dtype
    assert tokenizer(TEXT)["input_ids"] == domain.vocabulary.encode(TEXT).tolist()
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    ids = domain.collate(rows)["input_ids"]
    with torch.no_grad():
        difference = again.float()(input_ids=ids).logits - network(input_ids=ids).logits
    assert difference.abs().max() <= 1e-6
    assert not list(tmp_path.glob("*.bin"))


def test_pretrained_folders_train_on(domain: Any, processor: Path, tmp_path: Path) -> None:
    network = domain.network()
    state = {name: tensor.bfloat16() for name, tensor in network.state_dict().items()}
    domain.save(network, state, tmp_path / "first")
    pretrained = model_of(pretrained=str(tmp_path / "first"), context=None)
    loaded = open_domain(pretrained, tmp_path / "first").network()
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    (tmp_path / "first" / "model.safetensors").rename(tmp_path / "first" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle and is never loaded"):
        open_domain(pretrained, tmp_path / "first").network()
    shutil.rmtree(tmp_path / "first")


def test_any_text_is_scored_to_its_last_token(domain: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT[:70])
    (tmp_path / "b.jsonl").write_text('{"text": "the end"}\n{"text": ""}\n')
    network = domain.network().eval()
    parts = []
    with torch.no_grad():
        for rows in domain.read([str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")], 2):
            parts.append(domain.outcomes(network, domain.collate(rows)))
    sums = {name: values.sum() for name, values in joined(parts).items()}
    assert sums["characters"] == 77
    assert (
        sums["tokens"]
        == len(domain.vocabulary.encode(TEXT[:70])) + len(domain.vocabulary.encode("the end")) + 2
    )


@pytest.fixture
def loaded(domain: Any, tmp_path: Path) -> Any:
    network = domain.network()
    domain.save(network, network.state_dict(), tmp_path / "bundle")
    return load("text", "generation", tmp_path / "bundle")


def ask(loaded: Any, prompt: str, **parameters: Any) -> str:
    return str(loaded.answer({"inputs": prompt, "parameters": parameters})["generated_text"])


def test_answers(loaded: Any) -> None:
    first = ask(loaded, "the quick", max_new_tokens=10, seed=3)
    assert first == ask(loaded, "the quick", max_new_tokens=10, seed=3)
    assert ask(loaded, "", max_new_tokens=3, seed=0) is not None
    greedy = ask(loaded, "the quick", max_new_tokens=9, temperature=0)
    assert greedy == ask(loaded, "the quick", max_new_tokens=9, do_sample=False)
    full = ask(loaded, "the quick", max_new_tokens=9, temperature=0, return_full_text=True)
    assert full == "the quick" + greedy


def test_answers_may_be_longer_than_the_context(loaded: Any) -> None:
    tokens = loaded.vocabulary.encode(ask(loaded, TEXT, max_new_tokens=40, temperature=0))
    assert len(tokens) > CONTEXT


def test_answers_end_before_a_stop_text(loaded: Any) -> None:
    text = ask(loaded, "the", max_new_tokens=12, temperature=0)
    stop = text[2:4]
    assert (
        ask(loaded, "the", max_new_tokens=12, temperature=0, stop=[stop])
        == text[: text.index(stop)]
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 to"),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"top_p": 2}, "top_p must be 0 to 1"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": 1 << 64}, "seed must be -9223372036854775808 to"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be a whole number"),
        ({"top_k": float("inf")}, "top_k must be a whole number"),
        ({"stop": [""]}, "stop must be"),
        ({"beams": 3}, 'unknown parameter "beams"'),
    ],
)
def test_wrong_parameters(loaded: Any, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(loaded, "the", **parameters)
    with pytest.raises(ValueError, match="must be a text"):
        loaded.answer({"inputs": 7})


def test_characters_count_exactly(tmp_path: Path) -> None:
    train_characters([TEXT], 8192, tmp_path)
    domain: Any = open_domain(model_of(), tmp_path)
    end = np.asarray([domain.vocabulary.end])
    tokens = np.concatenate([end, domain.vocabulary.encode(TEXT[: CONTEXT - 1]), end])
    with torch.no_grad():
        outcomes = domain.outcomes(domain.network(), domain.collate({"tokens": tokens[None]}))
    sums = {name: values.sum() for name, values in outcomes.items()}
    assert (sums["tokens"], sums["characters"]) == (CONTEXT, CONTEXT - 1)
    assert sums["text_nats"] < sums["nats"]
    assert domain.metrics(outcomes)["nats_per_character"] == sums["text_nats"] / (CONTEXT - 1)


def test_whole_numbers_are_taken_as_json_writes_them() -> None:
    found = Parameters.parse({"max_new_tokens": 3.0, "top_k": 5.0, "seed": -7.0})
    assert (found.max_new_tokens, found.top_k, found.seed) == (3, 5, -7)
    assert all(isinstance(value, int) for value in (found.max_new_tokens, found.top_k, found.seed))
