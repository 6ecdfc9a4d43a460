"""``serve`` and ``stop MODEL``: services of trained versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import services
from cluster.request import Request, WrongRequestError
from serve.applications import FRONT, document
from serve.tokens import first_token, write_tokens

if TYPE_CHECKING:
    from cluster.connection import Connection
    from cluster.spec import Spec


def serve(request: Request, models: list[str] | None) -> None:
    """Deploy or update the services, wait until they answer, and print their address."""
    from cluster.attach import connect

    spec = request.spec()
    names = served(spec, models or [])
    check_versions(spec, names)
    token_file = token_file_of(spec)
    connection = connect(spec, request.say)
    kept = [name for name in _deployed(connection) if name in spec.models and name not in names]
    tokens = str(token_file)
    environment = runtime_env(connection, spec)
    services.put(connection, document(spec, [*names, *kept], environment, tokens))
    if not request.detach:
        services.wait_until_up(connection, [FRONT, *names], request.say)
    url = address(spec)
    request.answer(
        {"url": url, "token_file": tokens, "models": names},
        f"\n{url}/#token={first_token(token_file)}\n"
        f"for programs: {url}/v1 and {url}/models/{names[0]}; tokens: {token_file}",
    )


def stop(request: Request, name: str) -> int | None:
    """End the service of a model."""
    from cluster.attach import connect_existing

    spec = request.spec()
    connection = connect_existing(spec)
    if connection is None or name not in _deployed(connection):
        request.answer({"service": name, "status": "stopped"}, f"{name} is not served")
        return None
    left = [each for each in _deployed(connection) if each != name]
    environment = runtime_env(connection, spec)
    put = document(spec, left, environment, str(token_file_of(spec)))
    services.put(connection, put if left else put | {"applications": []})
    request.answer(
        {"service": name, "status": "stopped"}, f"{name} is no longer served; its versions stay"
    )
    return None


def served(spec: Spec, asked: list[str]) -> list[str]:
    """The models to serve: those asked for, else those with a ``serve:`` section."""
    for name in asked:
        spec.model(name)
    names = asked or [name for name, model in spec.models.items() if model.serve is not None]
    if FRONT in names:
        raise WrongRequestError(f'"{FRONT}" cannot be served under this name; rename the model')
    if not names:
        known = ", ".join(spec.models) or "none"
        raise WrongRequestError(
            f"no model has a serve: section; add one, or name models: slipway serve {known}"
        )
    return names


def check_versions(spec: Spec, names: list[str]) -> None:
    """Refuses what has no version to serve, before anything starts."""
    from cluster.spec.serving import ServeSpec
    from cluster.storage import open_storage
    from jobs.bundles import aliases, resolve

    storage = open_storage(spec.cluster.storage, spec.name)
    for name in names:
        resolve(storage, name)
        traffic = (spec.models[name].serve or ServeSpec()).traffic
        known = {"latest", *aliases(storage, name)}
        if not known & set(traffic):
            missing = ", ".join(f"{name}@{alias}" for alias in traffic)
            raise WrongRequestError(
                f"there is no {missing} to serve; slipway promote {name} makes a version it"
            )


def address(spec: Spec) -> str:
    """Where the services answer, as seen from this machine."""
    host = spec.services.host
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{shown}:{spec.services.port}"


def token_file_of(spec: Spec) -> Path:
    """The file of tokens: the secret that the spec names, else one that is made."""
    from cluster.secrets import secrets_folder

    secret = spec.services.tokens
    path = secrets_folder() / (str(secret) if secret else f"{spec.name}-tokens")
    if secret is None:
        write_tokens(path, "owner")
    first_token(path)  # what is wrong with the file is said before anything starts
    return path


def runtime_env(connection: Connection, spec: Spec) -> dict[str, Any]:
    """How replicas find this code: from the staged folder here, uploaded elsewhere."""
    from cluster.code import ROOT, source_files
    from cluster.home import state_folder
    from cluster.staging import stage_files

    files = {file.relative_to(ROOT).as_posix(): file.read_bytes() for file in source_files()}
    folder = stage_files(files, state_folder() / "staging")
    if spec.cluster.provider.type == "local":
        return {"env_vars": {"PYTHONPATH": str(folder)}}
    from cluster.client import job_client

    environment = {"working_dir": str(folder)}
    job_client(connection)._upload_working_dir_if_needed(environment)
    return environment


def _deployed(connection: Connection) -> list[str]:
    return [name for name in services.applications(connection) if name != FRONT]
