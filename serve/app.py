"""The Serve applications; the only file here that Ray's decorators are in.

`serve.app:build` with {"model": NAME, ...} is the application of one model, with {"front": ...}
the one at `/`. `serve run serve.app:build spec=cluster.yaml` is both in one application.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.serve
from starlette.requests import Request
from starlette.responses import Response

from cluster.spec import StorageSpec
from cluster.storage import open_storage
from serve import metrics
from serve.applications import FRONT
from serve.figures import Figures, Snapshot
from serve.front import Front
from serve.gateway import Gateway
from serve.model import ModelService
from serve.replica import Replica
from serve.tasks import TASKS
from serve.tokens import Tokens
from serve.versions import Shelf

FIGURES_S = 5.0
SWITCH_S = 1e-5
"""The network's thread wants the interpreter's lock back after each operation, a hundred times a
pass; by Python's own 5 ms it waits for all of a burst of answers that is being sent."""
OBJECTS = 20_000
"""Python looks for cyclic garbage each time that so many objects are new, which took an eighth of
the HTTP thread by its own 700. What this saves was not measured apart from the noise."""
log = logging.getLogger("ray.serve")


@ray.serve.deployment(name="Model")
class Model(ModelService):
    """A replica of a model, made from its application's arguments."""

    def __init__(self, args: Mapping[str, Any]) -> None:
        import torch

        from jobs.domains import load

        torch.set_num_threads(args["threads"])
        sys.setswitchinterval(SWITCH_S)
        gc.set_threshold(OBJECTS)
        device = "cuda" if args["accelerators"] and torch.cuda.is_available() else "cpu"
        kind = args["domain"], args["task"]
        storage = open_storage(StorageSpec.model_validate(args["storage"]), args["project"])
        shelf = Shelf(storage, args["model"], lambda d, t, folder: load(d, t, folder, device), kind)
        streams, embeddings = _text_extras(kind)
        told, is_fast = metrics.batches(), device == "cuda"
        replica = Replica(shelf, TASKS[kind], streams, embeddings, told, is_fast)
        gateway = Gateway(_tokens(args), Figures(metrics.requests()), args["model"])
        super().__init__(args["model"], replica, gateway)
        self._sending: asyncio.Task[None] | None = None

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        await super().reconfigure(config)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_figures())

    async def _send_figures(self) -> None:
        """What was counted here, to the front, which shows the sums."""
        here = ray.serve.get_replica_context()
        if here.app_name != self.name:  # of `serve run`, whose front is in the same application
            return
        front, source, sent = _handle(FRONT, "Front"), here.replica_id.unique_id, 0
        while True:
            await asyncio.sleep(FIGURES_S)
            counts = self.gateway.figures.counts
            total = sum(sum(each["classes"].values()) for each in counts.values())
            if total == sent:
                continue
            try:
                await asyncio.wait_for(front.take_figures.remote(source, counts), FIGURES_S)
                sent = total
            except Exception:  # while it restarts
                log.debug("the front does not take figures", exc_info=True)


@ray.serve.deployment(name="Front")
class FrontService:
    """What the models share: /v1, the page, the probes."""

    def __init__(self, args: Mapping[str, Any], handles: Mapping[str, Any] | None = None) -> None:
        gateway = Gateway(_tokens(args), Figures(metrics.requests()))
        self.front = Front(args["models"], gateway, _handles(handles))

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """The models that there are."""
        self.front.models = dict(config["models"])

    def take_figures(self, source: str, counts: Snapshot) -> None:
        """What a replica has counted since it started."""
        self.front.collected.take(source, counts)

    async def __call__(self, request: Request) -> Response:
        """Every address that no model has."""
        return await self.front.respond(request)


def build(args: Mapping[str, Any]) -> Any:
    """An application from its arguments."""
    if "spec" in args:
        return _build_all(str(args["spec"]))
    if "model" in args:
        return Model.bind(dict(args))  # type: ignore[attr-defined]
    return FrontService.bind(dict(args))  # type: ignore[attr-defined]


def _build_all(path: str) -> Any:
    """One application of all models of a file, for `serve run`."""
    from cluster.spec import load
    from serve.applications import applications
    from serve.verbs import served, token_file_of

    spec = load(Path(path))
    document = applications(spec, served(spec, []), str(token_file_of(spec)))
    models = {
        each["name"]: Model.options(  # type: ignore[attr-defined]
            **{k: v for k, v in each["deployments"][0].items() if k != "name"}, name=each["name"]
        ).bind(each["args"])
        for each in document[1:]
    }
    return FrontService.bind(document[0]["args"], models)  # type: ignore[attr-defined]


def _text_extras(kind: tuple[str, str]) -> tuple[Any, Any]:
    """What only text models have: streams for language models, and embeddings."""
    if kind[0] != "text":
        return None, None
    from jobs.domains.text.embedding import Embeddings

    if kind[1] != "generation":
        return None, Embeddings
    from jobs.domains.text.streaming import Streams

    return Streams, Embeddings


def _tokens(args: Mapping[str, Any]) -> Tokens | None:
    return Tokens(Path(os.path.expanduser(args["tokens"]))) if args.get("tokens") else None


def _handles(bound: Mapping[str, Any] | None) -> Any:
    if bound is not None:
        return bound.__getitem__
    return lambda name: _handle(name, "Model")


def _handle(application: str, deployment: str) -> Any:
    """Another application's deployment, which need not be there yet.

    Serve's controller is not asked: who waits for it, in a loop that answers requests, answers none
    while the head is away.
    """
    return ray.serve.get_deployment_handle(deployment, application, _check_exists=False)
