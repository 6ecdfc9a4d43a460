"""The document for Ray Serve follows from the spec alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.allocator import KEEP_MEMORY
from cluster.services import cause
from cluster.spec import Spec
from cluster.spec.clusters import POOL
from serve.applications import _place, applications, document
from serve.verbs import served
from tests.services import LANGUAGE, write_spec


def spec_of(folder: Path, **serve: Any) -> Spec:
    return write_spec(folder, {"writer": LANGUAGE | {"serve": serve}, "other": LANGUAGE})


def test_a_model_is_an_application_of_its_own(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, replicas="0..4", target_ongoing=3)
    found = document(spec, ["writer"], {"env_vars": {"A": "b"}}, "/tokens")
    front, writer = found["applications"]
    assert (front["route_prefix"], writer["route_prefix"]) == ("/", "/models/writer")
    scaling = writer["deployments"][0]["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (0, 4)
    assert scaling["target_ongoing_requests"] == 3
    assert front["deployments"][0]["user_config"]["models"]["writer"]["sleeps"]


def test_traffic_and_batches_change_without_new_replicas(tmp_path: Path) -> None:
    """Only `user_config` differs, which Serve hands to the replicas that run."""
    plain = applications(spec_of(tmp_path / "a"), ["writer"], "/t")[1]
    shared = {"production": "90%", "candidate": "10%"}
    changed = spec_of(tmp_path / "a", traffic=shared, batch={"size": 8})
    other = applications(changed, ["writer"], "/t")[1]
    assert other["args"] == plain["args"]
    first, second = plain["deployments"][0], other["deployments"][0]
    assert {key for key in first if first[key] != second[key]} == {"user_config"}
    assert second["user_config"]["traffic"] == {"production": 0.9, "candidate": 0.1}


def test_fractions_of_accelerators_are_asked_for(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, accelerators=0.25)
    options = applications(spec, ["writer"], "/t")[1]["deployments"][0]["ray_actor_options"]
    assert options["num_gpus"] == 0.25
    assert "runtime_env" not in options


def test_elsewhere_a_replica_has_its_processors_and_its_pool(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, cpus=2.0)
    model = spec.models["writer"]
    assert model.serve is not None
    serve = model.serve.model_copy(update={"pool": "gpu"})
    away = SimpleNamespace(cluster=SimpleNamespace(provider=SimpleNamespace(type="aws")))
    options = _place(away, serve)  # type: ignore[arg-type]
    assert options.pop("runtime_env") == {"env_vars": KEEP_MEMORY}
    assert options == {"num_cpus": 2.0, "num_gpus": 0, "label_selector": {POOL: "gpu"}}


def test_models_with_a_section_are_served(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    assert served(spec, []) == ["writer"]
    assert served(spec, ["other"]) == ["other"]
    with pytest.raises(ValueError, match="did you mean"):
        served(spec, ["writre"])


def test_the_cause_of_a_failure_is_its_last_error() -> None:
    text = (
        "Traceback\n  File x\nray.exceptions.RayTaskError: y\nRuntimeError: m@1 is broken\n  at z"
    )
    assert cause(text) == "m@1 is broken"
    assert cause("") == ""
