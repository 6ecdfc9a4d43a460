"""How the programs that run as jobs begin and end: their arguments, their spec, their exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from cluster.notices import notify
from cluster.request import REFUSED
from cluster.spec import Spec, load
from jobs.judging import GateError
from jobs.logbook import Logbook
from jobs.session import say, spec_root
from jobs.spending import OverBudgetError


def parse(
    program: str, about: str | None, stages: Sequence[str], arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Read the arguments of a program that brings a model up to one of ``stages``."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument("spec", help="the YAML file")
    parser.add_argument("model", help="a name under models:")
    parser.add_argument("-e", "--environment", default=os.environ.get("SLIPWAY_ENV"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--until", choices=stages, default=stages[-1])
    parser.add_argument("--again", action="store_true", help="do it even if it is done")
    parser.add_argument("--run", help="the run's id, where it has been opened already")
    return parser.parse_args(arguments)


def perform(
    options: argparse.Namespace,
    check: Callable[[Spec], object],
    work: Callable[[Spec, Logbook], None],
) -> int:
    """Load the spec, ``check`` it and do the ``work``; returns the exit code.

    1: the work failed, 2: wrong request, 3: the gate said no.
    """
    try:
        root = spec_root(options.spec)
        spec = load(options.spec, options.environment, options.overrides, root=root)
        check(spec)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with Logbook() as logbook:
        name = options.run or f"{options.model} ({options.until})"
        try:
            work(spec, logbook)
        except GateError as error:
            notify(spec, "complete", f"{name} is done, and its gate says no: {error}", report=say)
            return REFUSED
        except OverBudgetError as error:  # the guard has told of it
            say(f"error: {error}")
            return error.exit_code
        except ValueError as error:
            say(f"error: {error}")
            notify(spec, "failed", f"{name} failed: {error}", {"run": options.run}, say)
            return 1
        except Exception as error:
            notify(spec, "failed", f"{name} failed: {error!r}", {"run": options.run}, say)
            raise
        notify(spec, "complete", f"{name} is done", {"run": options.run}, say)
    return 0
