"""``slipway predict``: one answer from a version, by its service or in this process; or many."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster import services
from cluster.request import Request, WrongRequestError
from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.bundles import fetch_bundle, resolve

MOST_LINES = 10


def predict(
    request: Request,
    model: str,
    text: str | None,
    parameters: list[str] | None,
    source: str | None = None,
    target: str | None = None,
) -> int:
    """Answer one input, or every record of a file or folder."""
    given = read_parameters(parameters or [])
    if source is not None or target is not None:
        from jobs.verbs.predict_files import predict_files

        if text is not None:
            raise WrongRequestError("give either one INPUT or --input with --output")
        return predict_files(request, model, source, target, given)
    if text is None:
        raise WrongRequestError(
            f'nothing to answer: slipway predict {model} "...", or --input FILE --output FILE'
        )
    _predict_one(request, model, text, given)
    return 0


def _predict_one(request: Request, model: str, text: str, parameters: dict[str, Any]) -> None:
    """By the model's service if it is up, else with its bundle, loaded here."""
    spec = request.spec()
    inputs = read_input(spec.model(model.partition("@")[0]).domain, text)
    asked = {"inputs": inputs, "parameters": parameters}
    name, answer = _by_service(spec, model, asked) or _in_process(spec, model, asked)
    named = dict(answer) if isinstance(answer, Mapping) else {"answer": answer}
    shown = named.get("generated_text")
    own, _, number = name.partition("@")
    request.answer(
        {"model": own, "version": int(number), **named},
        text + shown if isinstance(shown, str) else readable(answer),
    )


def readable(answer: Any) -> str:
    """An answer for a person: ranked answers a line each, the first ten; others as JSON."""
    ranked = (
        answer[0] if isinstance(answer, list) and answer and isinstance(answer[0], list) else answer
    )
    if not isinstance(ranked, list) or not all(
        isinstance(e, Mapping) and "score" in e for e in ranked
    ):
        return json.dumps(answer, ensure_ascii=False, default=str)
    lines = []
    for entry in ranked[:MOST_LINES]:
        name = next((str(value) for key, value in entry.items() if key != "score"), "")
        lines.append(f"{entry['score']:8.4f}  {name}")
    rest = len(ranked) - len(lines)
    return "\n".join(lines + ([f"          and {rest} more; --json shows all"] if rest else []))


def _by_service(spec: Spec, model: str, asked: Mapping[str, Any]) -> tuple[str, Any] | None:
    """The version and answer of the model's service; None where there is none that can answer."""
    body = dict(asked)
    if isinstance(body["inputs"], bytes):
        body["inputs"] = b64encode(body["inputs"]).decode()
    try:
        name, answer = services.ask(spec, f"/models/{model}", json.dumps(body).encode())
    except services.NoServiceError:
        return None
    except services.ServiceRefusedError as error:
        if error.status in (400, 413, 422):
            raise
        return None  # another service at this address, or one that is not up
    if isinstance(answer, list) and len(answer) == 1 and "generated_text" in answer[0]:
        answer = answer[0]
    return (name, answer) if name else None


def _in_process(spec: Spec, model: str, asked: Mapping[str, Any]) -> tuple[str, Any]:
    """The version and answer of the model's bundle, loaded here."""
    storage = open_storage(spec.cluster.storage, spec.name)
    version = resolve(storage, model)
    folder = fetch_bundle(storage, version)
    from jobs.domains import load  # torch: after everything that can be refused without it

    loaded = load(version.bundle["domain"], version.bundle["task"], folder)
    return version.name, loaded.answer(asked)


def read_input(domain: str, text: str) -> Any:
    """What was typed: a text, the bytes of the picture or recording it names, or JSON."""
    if domain in ("vision", "speech") and Path(text).is_file():
        return Path(text).read_bytes()
    if domain == "vision":
        raise WrongRequestError(f"{text}: no such file; give the path of a picture")
    if domain == "recommendation":
        found = _yaml(text)  # of which JSON is a part
        if not isinstance(found, dict):
            raise WrongRequestError(f'{text}: no JSON; such as {{"user": 7}}')
        return found
    return text


def read_parameters(given: list[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` pairs, values as YAML."""
    parameters = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise WrongRequestError(f"-p {pair}: write KEY=VALUE, such as -p max_new_tokens=40")
        parameters[name] = _yaml(value)
    return parameters


def _yaml(text: str) -> Any:
    """A value as YAML; WrongRequestError where it is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise WrongRequestError(f"{text}: is neither JSON nor YAML") from None
