"""``serve`` and ``stop MODEL``: services of trained versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import services
from cluster.attach import LAUNCHED
from cluster.launcher.serving import open_services, send_tokens, tokens_there
from cluster.request import ELSEWHERE, Request, WrongRequestError
from cluster.spec.serving import ServeSpec
from serve.applications import FRONT, document
from serve.rayservice import deploy_rayservice, stop_rayservice
from serve.tokens import first_token

if TYPE_CHECKING:
    from cluster.connection import Connection
    from cluster.spec import Spec


def serve(request: Request, models: list[str] | None) -> None:
    """Deploy or update the services, wait until they answer, and print their address."""
    spec = request.spec()
    names = served(spec, models or [])
    url, tokens = deploy(request, spec, names)
    request.answer(
        {"url": url, "token_file": str(tokens), "models": names}, welcome(url, tokens, names)
    )


def after_run(
    request: Request,
    models: list[str] | None,
    until: str,
    again: bool,
    ephemeral: bool = False,
) -> None:
    """Serve what ``run`` has brought so far, where the file says that it is served."""
    spec = request.spec()
    wanted = [name for name in models or spec.models if spec.model(name).serve is not None]
    if until != "serve" or not wanted or request.detach:
        return
    missing = [name for name in wanted if not live_aliases(spec, name)]
    for name in missing:
        request.say(f"{name} is not served: no version has passed its gate yet")
    names = [name for name in wanted if name not in missing]
    if names:
        url, tokens = deploy(request, spec, names)
        request.say(welcome(url, tokens, names))


def deploy(request: Request, spec: Spec, names: list[str]) -> tuple[str, Path]:
    """Brings the services of these models up, beside those that are; (address, tokens)."""
    from cluster.attach import connect

    check_versions(spec, names)
    token_file = token_file_of(spec)
    if spec.cluster.provider.type == "kubernetes":
        way = deploy_rayservice(request, spec, names, token_file)
        request.say(f"at this machine's address after: {way}")
        return services.address(spec), token_file
    connection = connect(spec, request.say)
    kept = [name for name in _deployed(connection) if name in spec.models and name not in names]
    environment = runtime_env(connection, spec)
    services.put(connection, document(spec, [*names, *kept], environment, _tokens(request, spec)))
    if spec.cluster.provider.type in LAUNCHED:
        open_services(spec)
    if not request.detach:
        services.wait_until_up(connection, [FRONT, *names], request.say)
    return services.address(spec), token_file


def welcome(url: str, token_file: Path, names: list[str]) -> str:
    """What is printed once the services are up."""
    return (
        f"\n{url}/#token={first_token(token_file)}\n"
        f"for programs: {url}/v1 and {url}/models/{names[0]}; tokens: {token_file}"
    )


def stop(request: Request, name: str) -> int:
    """End the service of a model; what is no model is left to ``stop RUN``."""
    from cluster.attach import connect_existing

    spec = request.spec()
    if spec.cluster.provider.type == "kubernetes":
        return _stop_rayservice(request, spec, name)
    connection = connect_existing(spec)
    if connection is None or name not in _deployed(connection):
        return _not_served(request, spec, name)
    left = [each for each in _deployed(connection) if each != name]
    environment = runtime_env(connection, spec)
    put = document(spec, left, environment, _tokens(request, spec))
    services.put(connection, put if left else put | {"applications": []})
    request.answer(
        {"service": name, "status": "stopped"}, f"{name} is no longer served; its versions stay"
    )
    return 0


def _stop_rayservice(request: Request, spec: Spec, name: str) -> int:
    if name not in spec.models or not stop_rayservice(
        request, spec, name, services.token_file(spec)
    ):
        return _not_served(request, spec, name)
    request.answer(
        {"service": name, "status": "stopped"}, f"{name} is no longer served; its versions stay"
    )
    return 0


def _not_served(request: Request, spec: Spec, name: str) -> int:
    """What is no model may be a run."""
    if name not in spec.models:
        return ELSEWHERE
    request.answer({"service": name, "status": "stopped"}, f"{name} is not served")
    return 0


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
    from cluster.storage import open_storage
    from jobs.bundles import resolve

    storage = open_storage(spec.cluster.storage, spec.name)
    for name in names:
        resolve(storage, name)
        if not live_aliases(spec, name):
            missing = ", ".join(f"{name}@{alias}" for alias in traffic_of(spec, name))
            raise WrongRequestError(
                f"there is no {missing} to serve; slipway promote {name} makes a version it"
            )


def live_aliases(spec: Spec, name: str) -> list[str]:
    """The aliases of a model's traffic that point at a version."""
    from cluster.storage import open_storage
    from jobs.bundles import aliases

    known = {"latest", *aliases(open_storage(spec.cluster.storage, spec.name), name)}
    return [alias for alias in traffic_of(spec, name) if alias in known]


def traffic_of(spec: Spec, name: str) -> Mapping[str, float]:
    """Alias -> share of a model's requests."""
    return (spec.models[name].serve or ServeSpec()).traffic


def token_file_of(spec: Spec) -> Path:
    """The file of tokens: the secret that the spec names, else one that is made."""
    path = services.token_file(spec)
    if spec.services.tokens is None:
        services.write_tokens(path, "owner")
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


def _tokens(request: Request, spec: Spec) -> str:
    """Where replicas find the clients' tokens: the file itself here, a copy on hosts elsewhere."""
    path = token_file_of(spec)
    if spec.cluster.provider.type not in LAUNCHED:
        return str(path)
    send_tokens(spec, request.say)
    return tokens_there(spec)


def _deployed(connection: Connection) -> list[str]:
    return [name for name in services.applications(connection) if name != FRONT]
