"""What storage knows of a network's size: its catalogue, and the version that it starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.spec import ModelReference, ModelSpec, Pretrained, Spec, SpecError, parse_model
from cluster.storage import Storage
from jobs.bundles import BundleError, resolve
from jobs.starts import reference_of

PADDED = 1.25
"""The longest recording of a batch to the mean, as a rule."""
CATALOGUE = ("users", "items", "trained_users", "trained_items")


def catalogue_sizes(storage: Storage, data: str) -> dict[str, int]:
    """What preparing has counted of users and items; empty before it, or where there are none."""
    path = f"data/{data}/manifest.json"
    manifest = storage.read_json(path) if storage.exists(path) else {}
    return {key: manifest[key] for key in CATALOGUE if key in manifest}


def recording_sizes(storage: Storage, data: str) -> dict[str, int]:
    """How long a prepared recording is, with what the longest of a batch adds to the others."""
    path = f"data/{data}/manifest.json"
    train = storage.read_json(path)["splits"]["train"] if storage.exists(path) else {}
    if not train.get("rows") or "seconds" not in train:
        return {}
    return {"milliseconds": round(1000 * PADDED * train["seconds"] / train["rows"])}


def concrete(spec: Spec, name: str, storage: Storage) -> Spec:
    """The spec with the network that a version has in place of the reference to it.

    Where there is no version yet, the network that its own model will train. What was trained
    elsewhere stays as it is.
    """
    model = spec.model(name)
    seen = {name}
    start: ModelSpec | None = model
    while start is not None and isinstance(start.network, Pretrained):
        reference = reference_of(start)
        start = _start(spec, storage, reference, seen) if reference else None
    if start is None or start is model:
        return spec
    data = model.data.model_copy(update={"tokenizer": start.data.tokenizer})
    changed = model.model_copy(update={"network": start.network, "data": data})
    return spec.model_copy(update={"models": spec.models | {name: changed}})


def pretrained_sizes(model: ModelSpec) -> dict[str, int]:
    """Sizes of a network in a local folder; empty where it is on a hub, or is not one of these."""
    folder = Path(model.network.pretrained) if isinstance(model.network, Pretrained) else None
    if folder is None or not (folder / "config.json").is_file():
        return {}
    config = json.loads((folder / "config.json").read_text("utf-8"))
    files = [file.stat().st_size for file in folder.glob("*.safetensors")]
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return _sizes(config, sum(files), 4 if "32" in dtype else 2)


def sizes_of(model: ModelSpec, storage: Storage, data: str | None) -> Mapping[str, int]:
    """All that storage knows of the size of a model's network."""
    if model.domain == "recommendation":
        return catalogue_sizes(storage, data) if data else {}
    recorded = recording_sizes(storage, data) if data and model.domain == "speech" else {}
    return recorded or pretrained_sizes(model)


def _start(
    spec: Spec, storage: Storage, reference: ModelReference, seen: set[str]
) -> ModelSpec | None:
    try:
        return parse_model(resolve(storage, str(reference)).bundle["spec"])
    except SpecError:  # of an earlier version of this program
        return None
    except BundleError:
        if reference.name in seen or reference.name not in spec.models:
            return None
    seen.add(reference.name)
    return spec.models[reference.name]


def _sizes(config: Mapping[str, Any], num_bytes: int, width_bytes: int) -> dict[str, int]:
    """From the names that transformers' configurations have for them."""
    names = {
        "layers": ("num_hidden_layers", "n_layer"),
        "width": ("hidden_size", "n_embd"),
        "heads": ("num_attention_heads", "n_head"),
        "context": ("max_position_embeddings", "n_positions"),
        "vocabulary": ("vocab_size",),
    }
    found = {"parameters": num_bytes // width_bytes} if num_bytes else {}
    for key, known in names.items():
        value = next((config[name] for name in known if isinstance(config.get(name), int)), None)
        if value is not None:
            found[key] = value
    return found if "parameters" in found else {}
