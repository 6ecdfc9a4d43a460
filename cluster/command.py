"""What all verbs share: options, errors, and that each is imported when it is called."""

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
