"""The document that Ray Serve is given: one application a model, and one for what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cluster.allocator import KEEP_MEMORY
from cluster.spec.places import off_head, on_pool, serving_pools
from cluster.spec.serving import ServeSpec

if TYPE_CHECKING:
    from cluster.spec import ModelSpec, Spec

FRONT = "front"
"""Name of the application at `/`; no model may have it."""
DRAIN_S = 30.0
TELL_S = 1.0
"""So often Serve's controller is told how many requests there are. By Serve's own 10 s a model that
sleeps is not woken before the next report: the one that its first request sends at once holds only
what was counted before it came."""
MOST_ONGOING = 1000
"""Beyond every bound of ours: replicas refuse by themselves, in our shape and at once."""


def document(
    spec: Spec, models: Sequence[str], runtime_env: Mapping[str, Any], tokens: str
) -> dict[str, Any]:
    """What is put to Serve's API: the whole of it, so that what is left out ends."""
    services = spec.services
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": services.host, "port": services.port},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {**application, "runtime_env": dict(runtime_env)}
            for application in applications(spec, models, tokens)
        ],
    }


def applications(spec: Spec, models: Sequence[str], tokens: str) -> list[dict[str, Any]]:
    """The front first, then each model."""
    known = {name: _known(spec.models[name]) for name in models}
    shared, pools = {"tokens": tokens}, serving_pools(spec.cluster, spec.models)
    front = {
        "name": FRONT,
        "route_prefix": "/",
        "import_path": "serve.app:build",
        "args": {**shared, "front": True, "models": {}},
        "deployments": [
            {
                "name": "Front",
                "num_replicas": 1,
                "max_ongoing_requests": MOST_ONGOING,
                "graceful_shutdown_timeout_s": DRAIN_S,
                "ray_actor_options": {"num_cpus": 0} | _selected(off_head(spec.cluster, pools)),
                "user_config": {"models": known},
            }
        ],
    }
    return [front, *(_application(spec, name, shared) for name in models)]


def _known(model: ModelSpec) -> dict[str, Any]:
    """What the front is told of a model."""
    sleeps = model.serve is not None and model.serve.replicas.min == 0
    return {"domain": model.domain, "task": model.task, "sleeps": sleeps}


def _application(spec: Spec, name: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    model = spec.models[name]
    serve = model.serve or ServeSpec()
    return {
        "name": name,
        "route_prefix": f"/models/{name}",
        "import_path": "serve.app:build",
        "args": {
            **shared,
            "model": name,
            "domain": model.domain,
            "task": model.task,
            "project": spec.name,
            "storage": spec.cluster.storage.model_dump(mode="json", by_alias=True),
            "threads": max(1, int(serve.cpus)),
            "accelerators": serve.accelerators,
        },
        "deployments": [_deployment(spec, model, serve)],
    }


def _deployment(spec: Spec, model: ModelSpec, serve: ServeSpec) -> dict[str, Any]:
    return {
        "name": "Model",
        **_scale(serve),
        "max_ongoing_requests": MOST_ONGOING,
        "graceful_shutdown_timeout_s": DRAIN_S,
        "health_check_period_s": 5,
        "health_check_timeout_s": 30,
        "ray_actor_options": _place(spec, serve),
        "user_config": {
            "traffic": dict(serve.traffic),
            "batch_size": serve.batch.size,
            "batch_wait_s": serve.batch.wait,
        },
    }


def _place(spec: Spec, serve: ServeSpec) -> dict[str, Any]:
    """What Ray keeps for each replica, and where; what its process begins with."""
    options: dict[str, Any] = {"num_cpus": serve.cpus, "num_gpus": serve.accelerators}
    if not serve.accelerators:
        options["runtime_env"] = {"env_vars": KEEP_MEMORY}
    if spec.cluster.provider.type == "local":
        # One machine is shared by all that is done on it: no training shall wait for services.
        return options | {"num_cpus": 0.0}
    return options | _selected(on_pool(spec.cluster, serve.pool))


def _selected(labels: Mapping[str, str]) -> dict[str, Any]:
    return {"label_selector": dict(labels)} if labels else {}


def _scale(serve: ServeSpec) -> dict[str, Any]:
    replicas = serve.replicas
    if replicas.min == replicas.max:
        return {"num_replicas": replicas.min}
    return {
        "autoscaling_config": {
            "min_replicas": replicas.min,
            "max_replicas": replicas.max,
            "target_ongoing_requests": serve.target_ongoing,
            "metrics_interval_s": TELL_S,
            "upscale_delay_s": 2,
            "downscale_delay_s": 60,
        }
    }
