"""The command: wires verbs to the packages, imports each when called, and holds nothing else."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.request import (
    ELSEWHERE,
    INTERRUPTED,
    Request,
    TimedOutError,
    WrongRequestError,
    bounded,
    fail,
)

app = typer.Typer(
    name="slipway",
    help="From one YAML file to trained, tuned and served models on your own cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[Path, typer.Option("-f", "--file", help="The YAML file.")]
LongFile = Annotated[Path, typer.Option("--file", help="The YAML file.")]
Environment = Annotated[
    str | None, typer.Option("-e", "--env", envvar="SLIPWAY_ENV", help="Lay this over the file.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Answer every question with yes.")]
Detach = Annotated[bool, typer.Option("-d", "--detach", help="Do not wait for the work.")]
Timeout = Annotated[str | None, typer.Option("--timeout", help="Wait so long: 90s, 10m, 2h.")]
Model = Annotated[str, typer.Argument(help="MODEL, MODEL@3, MODEL@latest or MODEL@ALIAS.")]


def _version(wanted: bool) -> None:
    if wanted:
        from cluster.code import code_revision

        print(f"slipway {code_revision()['version']}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
    file: File = Path("cluster.yaml"),
    environment: Environment = None,
    overrides: Overrides = None,
) -> None:
    """From one YAML file to trained, tuned and served models on your own cluster."""
    context.obj = {"file": file, "environment": environment, "overrides": overrides or []}


def _shared(
    context: typer.Context,
    file: File = None,  # type: ignore[assignment]
    environment: Environment = None,
    overrides: Overrides = None,
    as_json: Json = False,
    yes: Yes = False,
    detach: Detach = False,
    timeout: Timeout = None,
) -> Request:
    """Every verb's options; those given before the verb are the defaults."""
    from cluster.spec.grammar import parse_duration

    try:
        timeout_s = None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise WrongRequestError(f"--timeout: {error}") from None
    return Request(
        file=file or context.obj["file"],
        environment=environment or context.obj["environment"],
        overrides=(*context.obj["overrides"], *(overrides or ())),
        json=as_json,
        yes=yes,
        detach=detach,
        timeout_s=timeout_s,
    )


def verb(*places: str, then: str = "") -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Make a verb of a signature: a "module:function" does it.

    Of several the first that does not answer ELSEWHERE; ``then`` follows where it went well.
    """

    def wire(declared: Callable[..., Any]) -> Callable[..., None]:
        shared = dict(inspect.signature(_shared, eval_str=True).parameters)
        own = inspect.signature(declared, eval_str=True).parameters
        if "follow" in own:  # -f is tail's there; the file goes by its long name
            shared["file"] = shared["file"].replace(annotation=LongFile)

        @wraps(declared)
        def call(**given: Any) -> None:
            _run(places, then, shared, given)

        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own.values(), *shared.values())]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return app.command(declared.__name__.rstrip("_"))(call)

    return wire


def _run(places: tuple[str, ...], then: str, shared: Any, given: dict[str, Any]) -> None:
    as_json = bool(given["as_json"])
    try:
        request = _shared(**{name: given.pop(name) for name in shared})
        code = ELSEWHERE
        with bounded(request.timeout_s):
            for place in places:
                if code == ELSEWHERE:
                    code = _call(place, request, given)
            if then and not code:
                code = _call(then, request, given)
    except (ValueError, TimedOutError) as error:
        fail(error, as_json)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) has gone; keep Python from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except OSError as error:
        fail(ValueError(f"{error.filename}: {error.strerror or error}"), as_json)
    sys.exit(code or 0)


def _call(place: str, request: Request, given: dict[str, Any]) -> int:
    module, function = place.split(":")
    return getattr(import_module(module), function)(request, **given) or 0


@verb("jobs.verbs.init:init")
def init(
    source: Annotated[str, typer.Argument(help="A file, folder, glob or builtin:NAME.")],
) -> None:
    """Look at the data and write a commented YAML that runs."""


@verb("cluster.verbs:doctor")
def doctor() -> None:
    """Check this machine, the cluster and the YAML; each finding with its fix."""


@verb("jobs.verbs.plan:plan")
def plan() -> None:
    """Say what each stage will do and what it takes; change nothing."""


@verb("cluster.verbs:render")
def render(
    spec: Annotated[bool, typer.Option("--spec", help="Print the merged spec.")] = False,
    run: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Print a run with a cluster of its own.")
    ] = None,
) -> None:
    """Print what up would apply: manifests, or the launcher's document."""


@verb("cluster.verbs:up")
def up() -> None:
    """Start the cluster, or say that it runs."""


@verb("cluster.verbs:down")
def down() -> None:
    """End the cluster; storage stays."""


@verb("jobs.verbs.records:status")
def status() -> None:
    """Show nodes, resources and runs, and why anything waits."""


@verb("jobs.verbs.stages:run", then="serve.verbs:after_run")
def run(
    models: Annotated[list[str] | None, typer.Argument(help="Models; all by default.")] = None,
    until: Annotated[
        str, typer.Option(help="prepare, train, evaluate, promote or serve.")
    ] = "serve",
    again: Annotated[bool, typer.Option(help="Train even if it is done.")] = False,
) -> None:
    """Do all stages that are not done yet: prepare, tune or train, evaluate, promote, serve."""


@verb("jobs.verbs.stages:prepare")
def prepare(model: Model) -> None:
    """Read, split, tokenise and pack a model's data."""


@verb("jobs.verbs.stages:train")
def train(
    model: Model,
    again: Annotated[bool, typer.Option(help="Train even if it is done.")] = False,
) -> None:
    """Train a model and publish it as a version."""


@verb("jobs.verbs.stages:tune")
def tune(
    model: Model,
    again: Annotated[bool, typer.Option(help="Search even if it is done.")] = False,
) -> None:
    """Search a model's keys as its tune: section says; the best trial becomes a version."""


@verb("jobs.verbs.stages:evaluate")
def evaluate(
    model: Model,
    data: Annotated[str | None, typer.Option(help="Score this instead of held-back data.")] = None,
) -> None:
    """Score a version."""


@verb("jobs.verbs.promotions:promote")
def promote(
    model: Model,
    to: Annotated[str | None, typer.Option(help="An alias; the YAML's promote.to.")] = None,
) -> None:
    """Give a version its alias, if the gate says so; exit code 3 where not."""


@verb("jobs.verbs.promotions:rollback")
def rollback(
    model: Annotated[str, typer.Argument(help="MODEL, or MODEL@ALIAS.")],
    version: Annotated[str | None, typer.Argument(help="A number; the holder before.")] = None,
    reason: Annotated[str | None, typer.Option(help="Kept in the alias's history.")] = None,
) -> None:
    """Give an alias back to the version that had it before, without the gate."""


@verb("serve.verbs:serve")
def serve(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models; those with a serve: section by default.")
    ] = None,
) -> None:
    """Deploy or update the services, and print their address."""


@verb("jobs.verbs.predict:predict")
def predict(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="INPUT", help="The input.")],
    parameters: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="KEY=VALUE", help="max_new_tokens=40 ..."),
    ] = None,
) -> None:
    """Answer one input: by the model's service if it is up, else in this process."""


@verb("jobs.verbs.records:runs")
def runs() -> None:
    """List the runs."""


@verb("jobs.verbs.records:logs")
def logs(
    run: Annotated[str, typer.Argument(help="A run's id.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
) -> None:
    """Print a run's log."""


@verb("serve.verbs:stop", "jobs.verbs.records:stop")
def stop(
    name: Annotated[str, typer.Argument(metavar="MODEL_OR_RUN", help="A model, or a run's id.")],
) -> None:
    """End a model's service, or a run; what is saved stays."""


@verb("jobs.verbs.records:models")
def models() -> None:
    """List versions and aliases."""


@verb("jobs.verbs.why:why")
def why(
    what: Annotated[str, typer.Argument(help="MODEL, MODEL@3, MODEL@ALIAS or a run's id.")],
) -> None:
    """Say where it comes from, and whether what is stored still matches."""


@verb("jobs.verbs.cleaning:clean")
def clean(
    older: Annotated[str, typer.Option(help="Keep what is younger.")] = "30d",
) -> None:
    """Show, then remove, what no alias and no lineage needs."""


@verb("cluster.verbs:env")
def env() -> None:
    """Print shell lines that set Ray's address and token: eval "$(slipway env)"."""


@verb("cluster.verbs:schema")
def schema() -> None:
    """Print the YAML's JSON Schema, for editors."""


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
