"""The sections ``promote:`` and ``serve:`` of a model, and ``services:`` and ``notify:``."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from cluster.spec.clusters import at_least_one
from cluster.spec.condition import Expression
from cluster.spec.grammar import Range, Seconds, Share
from cluster.spec.references import Name, Secret
from cluster.spec.section import Count, NotNegative, Section, as_list


class PromoteSpec(Section):
    """The gate that a version must pass to go live."""

    condition: Expression | None = Field(default=None, alias="if")
    """Comparison of metrics that must hold, such as "accuracy >= 0.9 and macro_f1 >=
    production.macro_f1"; every version passes by default."""
    to: Name = "production"
    """The alias that is moved."""


class Batch(Section):
    """How requests are put together."""

    size: Count = 32
    """Most requests that are computed at once."""
    wait: Seconds = 0.0
    """Longest time that a request waits for others."""


class ServeSpec(Section):
    """How a model is served over HTTP."""

    traffic: dict[Name, Share] = Field(default_factory=lambda: {"production": 1.0})
    """Share of the requests that each alias answers; together 100%."""
    replicas: Annotated[Range, AfterValidator(at_least_one)] = Range(1, 1)
    """Replicas; a range follows the load, and from 0 sleeps without any."""
    target_ongoing: Count = 8
    """Requests under way in a replica at which more are started."""
    batch: Batch = Batch()
    """How requests are put together."""
    cpus: NotNegative = 1.0
    """Threads of each replica, and CPUs that are kept for it; a local cluster keeps none."""
    accelerators: NotNegative = 0.0
    """Accelerators of each replica; a share where several fit on one."""
    pool: Name | None = None
    """The pool that replicas run in; any by default."""


class Services(Section):
    """The HTTP address of all served models."""

    host: str = "127.0.0.1"
    """Address that is listened on."""
    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = 8000
    """Port that is listened on."""
    tokens: Secret | None = None
    """Secret with a token for each client; one is made by default."""


class Notify(Section):
    """Who hears of what happens."""

    webhook: Secret
    """Secret with the URL that notices are posted to."""
    on: Annotated[
        tuple[Literal["failed", "budget", "complete", "promoted"], ...], BeforeValidator(as_list)
    ] = ("failed", "budget")
    """What is told: failed, budget, complete, promoted."""
