"""Causal language models from the spec, and all networks' folders in transformers' layout."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig
from transformers.utils.logging import (
    disable_progress_bar,
    get_verbosity,
    set_verbosity,
    set_verbosity_error,
)

from jobs.domains.text.pretrained import source_of

if TYPE_CHECKING:
    from jobs.domains.text.vocabulary import Vocabulary

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def build(network: Any, vocabulary: Vocabulary, pretrained: Path | None) -> nn.Module:
    """The network of a spec in fp32: GPT-2, Llama, or a folder of transformers' making."""
    source = source_of(network, pretrained)
    if source is not None:
        return load_network(source, dtype=torch.float32)
    config = (_llama if network.style == "llama" else _gpt2)(network, vocabulary)
    built: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return built


def load_network(source: str, dtype: torch.dtype | str = "auto") -> nn.Module:
    """A causal language model from safetensors, in its saved precision or `dtype`.

    Raises ValueError where there are no weights or only pickled ones, which can run code.
    """
    return from_pretrained(AutoModelForCausalLM, source, dtype, attn_implementation="sdpa")[0]


def from_pretrained(
    kind: Any, source: str, dtype: torch.dtype | str = "auto", **settings: Any
) -> tuple[nn.Module, set[str]]:
    """A network of transformers' making as one of its classes `kind` loads it, from safetensors.

    With it the names of parameters that the folder does not hold, or in another size: those are
    freshly initialised. Raises ValueError as `load_network` does.
    """
    _check_weights(source)
    disable_progress_bar()  # one for every load, however small the network
    verbosity = get_verbosity()
    set_verbosity_error()  # a fresh head is what was asked for
    try:
        loaded, told = kind.from_pretrained(
            source, use_safetensors=True, dtype=dtype, output_loading_info=True, **settings
        )
    except (OSError, ValueError) as error:
        reason = f"network.pretrained {source}: cannot be loaded: {error}"
        raise ValueError(reason) from error
    finally:
        set_verbosity(verbosity)
    changed = {key[0] for key in told["mismatched_keys"]}
    return loaded, set(told["missing_keys"]) | changed


def _check_weights(source: str) -> None:
    folder = Path(source)
    if not folder.is_dir():
        return
    names = [file.name for file in folder.iterdir()]
    pickles = [name for name in names if name.endswith(PICKLES)]
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(
            f"{source}: "
            + (f"{pickles[0]} is a pickle and is never loaded" if pickles else "no weights")
            + "; save the network with save_pretrained(), which writes model.safetensors"
        )


def save_network(
    network: nn.Module, state: Mapping[str, Tensor], processor: Path, folder: Path
) -> None:
    """config.json, model.safetensors and the processor's files, into `folder`.

    Of a decoder also generation_config.json. Tied weights are written once, as transformers
    expects; `state` may hold them apart or not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tied: Mapping[str, str] = getattr(network, "all_tied_weights_keys", None) or {}
    kept = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if name not in tied
    }
    config: Any = network.config
    config = type(config).from_dict(config.to_dict())
    config.dtype = next(t.dtype for t in kept.values() if t.is_floating_point())
    config.architectures = [type(network).__name__]
    config.save_pretrained(folder)
    generation: Any = getattr(network, "generation_config", None)
    if generation is not None:
        generation.save_pretrained(folder)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    for file in sorted(processor.iterdir()):
        shutil.copyfile(file, folder / file.name)


def _gpt2(network: Any, vocabulary: Vocabulary) -> GPT2Config:
    return GPT2Config(
        **_marks(vocabulary),
        n_layer=network.layers,
        n_head=network.heads,
        n_embd=network.width,
        n_positions=network.context,
        embd_pdrop=network.dropout,
        resid_pdrop=network.dropout,
        attn_pdrop=network.dropout,
    )


def _llama(network: Any, vocabulary: Vocabulary) -> LlamaConfig:
    return LlamaConfig(
        **_marks(vocabulary),
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        num_key_value_heads=network.kv_heads or network.heads,
        hidden_size=network.width,
        intermediate_size=llama_inner_width(network.width),
        max_position_embeddings=network.context,
        attention_dropout=network.dropout,
    )


def llama_inner_width(width: int) -> int:
    """8/3 of the width, rounded up to a multiple of 64 (Touvron et al., 2023)."""
    return -(-8 * width // (3 * 64)) * 64


def _marks(vocabulary: Vocabulary) -> dict[str, int]:
    return {
        "vocab_size": vocabulary.size,
        "bos_token_id": vocabulary.end,
        "eos_token_id": vocabulary.end,
    }
