"""``slipway predict``: one answer from a version, in this process."""

from __future__ import annotations

from typing import Any

from cluster.request import Request, WrongRequestError
from cluster.storage import open_storage
from jobs.bundles import fetch_bundle, resolve


def predict(request: Request, model: str, text: str, parameters: list[str] | None) -> None:
    """Load the version's bundle and answer one input."""
    spec = request.spec()
    spec.model(model.partition("@")[0])
    storage = open_storage(spec.cluster.storage, spec.name)
    version = resolve(storage, model)
    folder = fetch_bundle(storage, version)
    from jobs.domains import load  # torch: after everything that can be refused without it

    loaded = load(version.bundle["domain"], version.bundle["task"], folder)
    answer = loaded.answer({"inputs": text, "parameters": read_parameters(parameters or [])})
    shown = answer.get("generated_text")
    request.answer(
        {"model": version.model, "version": version.number, **answer},
        text + shown if isinstance(shown, str) else str(answer),
    )


def read_parameters(given: list[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` pairs, values as YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    parameters = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise WrongRequestError(f"-p {pair}: write KEY=VALUE, such as -p max_new_tokens=40")
        try:
            parameters[name] = YAML(typ="safe", pure=True).load(value)
        except YAMLError:
            raise WrongRequestError(f"-p {pair}: the value is not YAML") from None
    return parameters
