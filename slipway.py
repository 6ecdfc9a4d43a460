"""The command: wires verbs to the packages, imports each when called, and holds nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.command import app, verb

Model = Annotated[str, typer.Argument(help="MODEL, MODEL@3, MODEL@latest or MODEL@ALIAS.")]
Ephemeral = Annotated[
    bool, typer.Option("--ephemeral", help="On a cluster of its own (Kubernetes), ended with it.")
]


@verb("jobs.verbs.init:init")
def init(
    source: Annotated[str, typer.Argument(help="A file, folder, glob or builtin:NAME.")],
) -> None:
    """Look at the data and write a commented YAML that runs."""


@verb("cluster.verbs:doctor")
def doctor() -> None:
    """Check this machine, the cluster and the YAML; each finding with its fix."""


@verb("tune.verbs:plan")
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


@verb("tune.verbs:run", then="serve.verbs:after_run")
def run(
    models: Annotated[list[str] | None, typer.Argument(help="Models; all by default.")] = None,
    until: Annotated[
        str, typer.Option(help="prepare, train, evaluate, promote or serve.")
    ] = "serve",
    again: Annotated[bool, typer.Option(help="Train even if it is done.")] = False,
    ephemeral: Ephemeral = False,
) -> None:
    """Do all stages that are not done yet: prepare, tune or train, evaluate, promote, serve."""


@verb("jobs.verbs.stages:prepare")
def prepare(model: Model) -> None:
    """Read, split, tokenise and pack a model's data."""


@verb("jobs.verbs.stages:train")
def train(
    model: Model,
    again: Annotated[bool, typer.Option(help="Train even if it is done.")] = False,
    ephemeral: Ephemeral = False,
) -> None:
    """Train a model and publish it as a version."""


@verb("tune.verbs:tune")
def tune(
    model: Model,
    again: Annotated[bool, typer.Option(help="Search even if it is done.")] = False,
    ephemeral: Ephemeral = False,
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
    text: Annotated[str | None, typer.Argument(metavar="INPUT", help="One input.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="KEY=VALUE", help="max_new_tokens=40 ..."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--input", metavar="PATH", help="A file or folder of inputs.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--output", metavar="PATH", help="FILE.parquet, FILE.jsonl, or a folder."),
    ] = None,
) -> None:
    """Answer one input, by the model's service if it is up; or a whole file, on the cluster."""


@verb("jobs.verbs.records:runs")
def runs(
    first: Annotated[str | None, typer.Argument(metavar="[A]", help="A run's id.")] = None,
    second: Annotated[str | None, typer.Argument(metavar="[B]", help="Another's.")] = None,
) -> None:
    """List the runs, or compare two of them."""


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


@verb("jobs.verbs.cost:cost")
def cost() -> None:
    """Say what was spent, per model and stage, and how much of the budget."""


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
