"""How the programs that run as jobs begin and end: their arguments, their spec, their exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from cluster.notices import notify
from cluster.request import DONE, FAILED, REFUSED, WRONG
from cluster.spec import Spec, load
from cluster.storage import StorageError, open_storage
from jobs.judging import GateError
from jobs.logbook import Logbook
from jobs.runs import Run
from jobs.session import say, spec_root, submission_id
from jobs.spending import OverBudgetError
from jobs.submissions import End, record_end


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
    parser.add_argument(
        "--apart", action="store_true", help="record how it ends, and exit with 0: for a RayJob"
    )
    return parser.parse_args(arguments)


def perform(
    options: argparse.Namespace,
    check: Callable[[Spec], object],
    work: Callable[[Spec, Logbook], None],
) -> int:
    """Load the spec, ``check`` it and do the ``work``; returns the exit code.

    1: the work failed, 2: wrong request, 3: the gate said no. With ``--apart`` all of these are 0
    once they are recorded: KubeRay would try again, on a new cluster, what ends alike every time.
    """
    try:
        root = spec_root(options.spec)
        spec = load(options.spec, options.environment, options.overrides, root=root)
        check(spec)
    except ValueError as error:
        print(error, file=sys.stderr)
        return DONE if options.apart else WRONG
    with Logbook() as logbook:
        end = _worked(options, spec, work, logbook)
    return _recorded(options, spec, end) if options.apart else end.exit_code


def _worked(
    options: argparse.Namespace, spec: Spec, work: Callable[[Spec, Logbook], None], logbook: Logbook
) -> End:
    """Do the work, and tell how it ended."""
    name = options.run or f"{options.model} ({options.until})"
    try:
        work(spec, logbook)
    except GateError as error:
        notify(spec, "complete", f"{name} is done, and its gate says no: {error}", report=say)
        return End(REFUSED, str(error))
    except OverBudgetError as error:  # the guard has told of it
        say(f"error: {error}")
        return End(error.exit_code, str(error))
    except ValueError as error:
        say(f"error: {error}")
        notify(spec, "failed", f"{name} failed: {error}", {"run": options.run}, say)
        return End(FAILED, str(error))
    except Exception as error:
        notify(spec, "failed", f"{name} failed: {error!r}", {"run": options.run}, say)
        raise
    notify(spec, "complete", f"{name} is done", {"run": options.run}, say)
    return End(DONE)


def _recorded(options: argparse.Namespace, spec: Spec, end: End) -> int:
    """Keep how the job ended in its run's folder; the exit code, which is then 0."""
    submission = submission_id()
    if options.run is None or submission is None:
        return DONE
    run = Run(open_storage(spec.cluster.storage, spec.name), options.run)
    try:
        record_end(run, submission, end)
    except StorageError as error:
        print(f"warning: how the run ended was not kept: {error}", file=sys.stderr)
        return end.exit_code
    return DONE
