"""``slipway predict``: one answer from a version, in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
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
    inputs = read_input(version.bundle["domain"], text)
    answer = loaded.answer({"inputs": inputs, "parameters": read_parameters(parameters or [])})
    named = dict(answer) if isinstance(answer, Mapping) else {"answer": answer}
    shown = named.get("generated_text")
    request.answer(
        {"model": version.model, "version": version.number, **named},
        text + shown if isinstance(shown, str) else json.dumps(answer, ensure_ascii=False, default=str),
    )


def read_input(domain: str, text: str) -> Any:
    """What was typed: a text, the bytes of the picture or recording it names, or JSON."""
    if domain in ("vision", "speech") and Path(text).is_file():
        return Path(text).read_bytes()
    if domain == "vision":
        raise WrongRequestError(f"{text}: no such file; give the path of a picture")
    if domain == "recommendation":
        try:
            return json.loads(text)
        except ValueError as error:
            raise WrongRequestError(f'{text}: no JSON ({error}); such as {{"user": 7}}') from None
    return text


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
