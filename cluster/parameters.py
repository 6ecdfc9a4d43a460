"""How many parameters a network of the spec has, exactly as it is built, without building it."""

from __future__ import annotations

from cluster.spec import GPT, LSTM, Bert, ModelSpec

PAIRS, PAIR_WIDTH = 1 << 16, 16
"""The vectors of pairs of tokens that an LSTM holds, and their size."""
CLASSES = 2
"""Assumed before the data is read; each further class costs one row of the last matrix."""
MASKED_SHARE = 0.15
"""Of the tokens that a masked language model reads, those that it computes logits for."""


def count_parameters(model: ModelSpec, vocabulary: int) -> int | None:
    """Parameters of a model's network; None where the spec alone does not tell."""
    network = model.network
    if isinstance(network, GPT):
        return gpt_parameters(network, vocabulary)
    if isinstance(network, Bert):
        return bert_parameters(network, vocabulary, model.task)
    if isinstance(network, LSTM):
        return lstm_parameters(network, vocabulary)
    return None


def logits_per_token(model: ModelSpec, vocabulary: int) -> int:
    """How many logits the task computes for each token of a batch, on average."""
    shares = {"generation": 1.0, "masked-lm": MASKED_SHARE}
    return round(shares.get(model.task, 0.0) * vocabulary)


def gpt_parameters(network: GPT, vocabulary: int) -> int:
    """A decoder of transformers' making (GPT-2 ties embeddings)."""
    width, layers = network.width, network.layers
    if network.style == "gpt2":
        block = 12 * width * width + 13 * width
        return (vocabulary + network.context) * width + layers * block + 2 * width
    inner = -(-8 * width // (3 * 64)) * 64
    keys = width * (network.kv_heads or network.heads) // network.heads
    block = 2 * width * width + 2 * width * keys + 3 * width * inner + 2 * width
    return 2 * vocabulary * width + layers * block + width


def bert_parameters(network: Bert, vocabulary: int, task: str, classes: int = CLASSES) -> int:
    """An encoder of transformers' making with the head of its task."""
    width = network.width
    embeddings = (vocabulary + network.context + 2) * width + 2 * width
    body = embeddings + network.layers * (12 * width * width + 13 * width)
    square = width * width + width
    if task == "masked-lm":  # the matrix of the last layer is that of the embeddings
        return body + square + 2 * width + vocabulary
    return body + square + classes * (width + 1)


def lstm_parameters(network: LSTM, vocabulary: int, classes: int = CLASSES) -> int:
    """The recurrent network of jobs/domains/text/lstm.py."""
    ways = 2 if network.bidirectional else 1
    states = ways * network.width
    layers = 0
    for inner in [network.width] + [states] * (network.layers - 1):
        layers += ways * (4 * network.width * (inner + network.width) + 8 * network.width)
    features = 2 * (states + network.width) + PAIR_WIDTH
    head = 2 * features + classes * (features + 1)
    return vocabulary * network.width + PAIRS * PAIR_WIDTH + layers + head
