"""How many parameters a network of the spec has, exactly as it is built, without building it."""

from __future__ import annotations

from typing import TypeGuard

from cluster.memory import Shape
from cluster.spec import GPT, LSTM, Bert, ModelSpec

NGRAMS, NGRAM_WIDTH = 1 << 17, 64
"""N-grams whose weights an LSTM holds at most, and the most weights of each."""
GPT2_KEPT, BERT_KEPT = 28.0, 16.0
CLASSES = 2
"""Assumed before the data is read; each further class costs one row of the last matrix,
and of an LSTM a weight for each n-gram."""
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


def text_shape(model: ModelSpec, vocabulary: int, micro: int) -> Shape | None:
    """What memory and time depend on in a network for texts; None for other networks."""
    network = model.network
    parameters = count_parameters(model, vocabulary)
    if parameters is None:
        return None
    assert isinstance(network, GPT | Bert | LSTM)
    context, logits = network.context, logits_per_token(model, vocabulary)
    layers, width = network.layers, network.width
    if isinstance(network, LSTM):
        multiplied, attended = _lstm_layers(network), 0.0
    else:
        block = _llama_block(network) if _is_llama(network) else 12 * width * width
        multiplied, attended = layers * block, attention_flops(layers, width, context)
    flops = 6.0 * (multiplied + logits * width) * context + attended
    return Shape(
        parameters, layers, width, getattr(network, "heads", 1), context, logits,
        tokens=micro * context, flops=flops, kept=kept_numbers(network),
        dropout=network.dropout > 0 and not isinstance(network, LSTM),
    )  # fmt: skip


def kept_numbers(network: GPT | Bert | LSTM) -> float:
    """What a layer keeps for the backward pass, for each token and unit of width.

    GPT-2's GELU is written out in transformers and keeps each of its steps; BERT's is one kernel.
    """
    if isinstance(network, LSTM):
        first, more = (42.0, 54.0) if network.bidirectional else (21.5, 18.25)
        return (first + more * (network.layers - 1)) / network.layers
    if _is_llama(network):
        width = network.width
        inner = -(-8 * width // (3 * 64)) * 64
        return 8.0 + 2.0 * (network.kv_heads or network.heads) / network.heads + 4.0 * inner / width
    return GPT2_KEPT if isinstance(network, GPT) else BERT_KEPT


def attention_flops(layers: int, width: int, context: int) -> float:
    """Of one record's scores and what they weigh: 12 a layer, width and pair of places.

    Chowdhery et al., arXiv 2204.02311, appendix B.
    """
    return 12.0 * layers * width * context * context


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
    return 2 * vocabulary * width + layers * (_llama_block(network) + 2 * width) + width


def bert_parameters(network: Bert, vocabulary: int, task: str, classes: int = CLASSES) -> int:
    """An encoder of transformers' making with the head of its task."""
    width = network.width
    embeddings = (vocabulary + network.context + 2) * width + 2 * width
    body = embeddings + network.layers * (12 * width * width + 13 * width)
    square = width * width + width
    if task == "masked-lm":  # the matrix of the last layer is that of the embeddings
        return body + square + 2 * width + vocabulary
    return body + square + classes * (width + 1)


def lstm_parameters(
    network: LSTM, vocabulary: int, classes: int = CLASSES, ngrams: int = NGRAMS
) -> int:
    """The recurrent network of jobs/domains/text/lstm.py; little data has fewer n-grams."""
    states = (2 if network.bidirectional else 1) * network.width
    features = 2 * (states + network.width)
    head = 2 * features + classes * (features + 1)
    bag = ngrams * min(classes, NGRAM_WIDTH)
    bag += classes * NGRAM_WIDTH if classes > NGRAM_WIDTH else 0
    return vocabulary * network.width + _lstm_layers(network) + head + bag


def _lstm_layers(network: LSTM) -> int:
    ways, width = 2 if network.bidirectional else 1, network.width
    read = [width] + [ways * width] * (network.layers - 1)
    return sum(ways * (4 * width * (inner + width) + 8 * width) for inner in read)


def _is_llama(network: GPT | Bert) -> TypeGuard[GPT]:
    return isinstance(network, GPT) and network.style == "llama"


def _llama_block(network: GPT) -> int:
    """Matrices of one block: attention with fewer heads of keys, and SwiGLU."""
    width = network.width
    inner = -(-8 * width // (3 * 64)) * 64
    keys = width * (network.kv_heads or network.heads) // network.heads
    return 2 * width * width + 2 * width * keys + 3 * width * inner
