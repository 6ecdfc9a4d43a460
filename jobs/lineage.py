"""Where something comes from: alias, version, run, checkpoint, spec, code, data, sources.

Every stored digest on the way is held against what is stored now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cluster.code import code_revision
from cluster.spec import ModelReference, parse_model
from cluster.storage import DamagedError, MissingError, Storage, sha256_file
from jobs.bundles import BundleError, Version, aliases, list_models, resolve
from jobs.domains.files import BUILTIN, UPLOADS, Source
from jobs.forks import fork_digest, origin_of
from jobs.integrity import changed_files
from jobs.progress import MANIFEST
from jobs.runs import Run, list_runs, stage_digest
from jobs.stages import train_digest


@dataclass(frozen=True)
class Node:
    """One thing, what is known of it, what no longer matches, and what it was made from."""

    kind: str
    """alias, version, run, sweep, checkpoint, spec, code, data, source or start."""
    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    made_from: list[Node] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The JSON of the whole tree."""
        nodes = [node.as_dict() for node in self.made_from]
        own = {"kind": self.kind, "name": self.name, **self.facts}
        return own | {"problems": self.problems, "from": nodes}

    def all_problems(self) -> Iterator[str]:
        """What no longer matches, anywhere in the tree."""
        yield from (f"{self.kind} {self.name}: {problem}" for problem in self.problems)
        for node in self.made_from:
            yield from node.all_problems()


def trace(storage: Storage, what: str) -> Node:
    """The lineage of MODEL, MODEL@3, MODEL@ALIAS or a run; BundleError where there is no such."""
    return _Tracer(storage).named(what)


class _Tracer:
    """Reads each set of data once, however many versions come from it."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.data = cache(self._data)

    def named(self, what: str) -> Node:
        model, _, wanted = what.partition("@")
        if "@" not in what and self.storage.exists(f"runs/{what}/run.json"):
            return self.run(Run(self.storage, what))
        if "@" not in what and model not in list_models(self.storage):
            runs = ", ".join(run.id for run in list_runs(self.storage)) or "none yet"
            models = ", ".join(list_models(self.storage)) or "none yet"
            raise BundleError(f"there is no {what!r}; models: {models}; runs: {runs}")
        version = resolve(self.storage, what)
        found = aliases(self.storage, model).get(wanted)
        return (
            self.version(version)
            if found is None
            else self.alias(found.history[-1], version, wanted)
        )

    def alias(self, move: dict[str, Any], version: Version, name: str) -> Node:
        compared = move.get("compared") or {}
        facts = {"version": version.number, "who": move["who"], "why": move["why"]}
        facts |= {"since": _when(move["time"]), "previous": move["from"]}
        facts |= {"gate": compared.get("gate"), "compared": compared.get("terms") or None}
        problems = []
        if compared.get("digest") not in (None, version.digest):
            problems.append(f"{version.name} is not what was promoted: bundle.json has changed")
        return Node(
            "alias", f"{version.model}@{name}", _known(facts), problems, [self.version(version)]
        )

    def version(self, version: Version) -> Node:
        bundle = version.bundle
        evaluation = version.held_back or {}
        facts: dict[str, Any] = {"digest": version.digest, "aliases": list(version.aliases)}
        facts |= {"metrics": evaluation.get("metrics"), "split": evaluation.get("split")}
        problems = changed_files(self.storage, version.path, bundle["files"])
        made_from = [self._run_of(version), *self._sweeps(version)]
        made_from += [self.data(bundle["data"]), *self._start(bundle)]
        return Node("version", version.name, _known(facts), problems, made_from)

    def _run_of(self, version: Version) -> Node:
        bundle = version.bundle
        run = Run(self.storage, str(bundle["run"]))
        facts, problems = self._run_facts(run)
        problems += self._check_digest(run, bundle) if facts else []
        return Node("run", run.id, facts, problems, [*self._recipe(bundle)])

    def _sweeps(self, version: Version) -> Iterator[Node]:
        """The sweeps whose best trial became the version."""
        for name in self.storage.folders("sweeps"):
            run = Run(self.storage, name)
            if not self.storage.exists(f"{run.path}/run.json"):
                continue
            result = run.result() or {}
            if (run.info()["model"], result.get("version")) == (version.model, version.number):
                known = {key: result.get(key) for key in ("trial", "trials", "values", "ended")}
                facts, problems = self._run_facts(run)
                yield Node("sweep", name, facts | _known(known), problems)

    def run(self, run: Run) -> Node:
        """A run by itself: a training's recipe, the version that others scored or chose."""
        result = run.result() or {}
        version = self._version_of(run, result)
        if version is not None and run.info()["stage"] == "train":
            own = self._run_of(version)
            more = [self.data(version.bundle["data"]), *self._start(version.bundle)]
            facts = own.facts | {"version": version.name}
            return Node("run", run.id, facts, own.problems, [*own.made_from, *more])
        facts, problems = self._run_facts(run)
        if version is not None:
            return Node("run", run.id, facts, problems, [self.version(version)])
        digests = [a.info.get("data") for a in run.attempts()] + [result.get("data")]
        data = [self.data(digest) for digest in dict.fromkeys(digests) if digest]
        return Node("run", run.id, facts, problems, data)

    def _version_of(self, run: Run, result: dict[str, Any]) -> Version | None:
        if "version" not in result:
            return None
        try:
            return resolve(self.storage, f"{run.info()['model']}@{result['version']}")
        except BundleError:  # removed since
            return None

    def _run_facts(self, run: Run) -> tuple[dict[str, Any], list[str]]:
        if not self.storage.exists(f"{run.path}/run.json"):
            return {}, ["its folder is gone"]
        info = run.info()
        facts = {"stage": info["stage"], "owner": info["owner"], "digest": info["digest"]}
        facts |= {"created": _when(info["created"]), "attempts": len(run.attempts())}
        origin = origin_of(run)
        facts |= {"continues": f"{origin.run} from step {origin.step}"} if origin else {}
        return facts, []

    def _check_digest(self, run: Run, bundle: dict[str, Any]) -> list[str]:
        """Whether spec and data still give the run's digest; only the same code can tell."""
        if bundle.get("code", {}).get("digest") != code_revision()["digest"]:
            return []
        digest = train_digest(parse_model(bundle["spec"]), bundle["data"])
        if fork_digest(digest, origin_of(run)) == run.info()["digest"]:
            return []
        return ["its spec, its data or what it started from no longer give its digest"]

    def _recipe(self, bundle: dict[str, Any]) -> Iterator[Node]:
        yield self._checkpoint(bundle)
        spec = bundle["spec"]
        network = spec.get("network") or {}
        facts = {"digest": stage_digest(spec), "seed": bundle.get("seed")}
        facts |= {"network": network.get("type") or network.get("pretrained")}
        yield Node("spec", f"{bundle['domain']} {bundle['task']}", _known(facts))
        code = bundle.get("code") or {}
        same = code.get("digest") == code_revision()["digest"]
        known = _known({"digest": code.get("digest"), "installed": same})
        yield Node("code", str(code.get("version")), known)

    def _checkpoint(self, bundle: dict[str, Any]) -> Node:
        known = bundle.get("checkpoint") or {}
        name = f"step {bundle.get('step')}"
        if not known:
            return Node("checkpoint", name, {"digest": None})
        try:
            manifest = self.storage.read_json(f"{known['path']}/{MANIFEST}")
        except MissingError:
            return Node("checkpoint", name, known, ["it is gone"])
        except DamagedError as error:
            return Node("checkpoint", name, known, [str(error)])
        problems = []
        if stage_digest(manifest["files"]) != known["digest"]:
            problems.append("its manifest is not the one that was exported")
        # Sizes alone: a checkpoint is many times the size of the version it became.
        sizes = {
            e.path.removeprefix(f"{known['path']}/"): e.size
            for e in self.storage.list(known["path"])
        }
        for file, entry in manifest["files"].items():
            if sizes.get(file) != entry["size"]:
                problems.append(f"{file} {'has another size' if file in sizes else 'is gone'}")
        return Node("checkpoint", name, known, problems)

    def _start(self, bundle: dict[str, Any]) -> Iterator[Node]:
        """What the network began from: a version of ours, a folder or a name."""
        start = (bundle["spec"].get("network") or {}).get("pretrained")
        if start is None:
            return
        try:
            reference = str(ModelReference.parse(start))
        except ValueError:
            yield Node("start", str(start))
            return
        try:
            yield self.version(resolve(self.storage, reference))
        except BundleError as error:
            yield Node("version", reference, {}, [str(error)])

    def _data(self, digest: str) -> Node:
        path = f"data/{digest}"
        try:
            manifest = self.storage.read_json(f"{path}/{MANIFEST}")
        except MissingError:
            return Node("data", digest, {}, ["it is gone"])
        except DamagedError as error:
            return Node("data", digest, {}, [str(error)])
        files = {name: file["sha256"] for name, file in manifest["files"].items()}
        problems = changed_files(self.storage, path, files)
        if _digest_of(manifest) != digest:
            problems.append("its manifest no longer gives its digest")
        rows = {split: counts["rows"] for split, counts in manifest["splits"].items()}
        facts = {"rows": rows, "dropped": manifest.get("dropped") or None}
        sources = [self._source(source) for source in manifest["sources"]]
        return Node("data", digest, _known(facts), problems, sources)

    def _source(self, source: dict[str, Any]) -> Node:
        path, digest = source["path"], source["sha256"]
        facts = {"sha256": digest, "size": source["size"], "part": source["part"] or None}
        uploaded = self.uploads.get(digest)
        problems = []
        if path.startswith(BUILTIN) or ("://" in path and uploaded is None):
            state = "built in" if path.startswith(BUILTIN) else "elsewhere: not looked at"
            if f"/{UPLOADS}/{digest}/" in path:
                state, problems = "gone", ["its upload is gone"]
        elif uploaded is not None:
            state = "uploaded"
        elif not Path(path).is_file():
            state, problems = "gone", ["the file is gone"]
        else:
            state = "unchanged" if sha256_file(path) == digest else "changed"
            problems = [] if state == "unchanged" else ["the file has changed since it was read"]
        return Node("source", path, _known(facts | {"state": state}), problems)

    @cached_property
    def uploads(self) -> dict[str, str]:
        """Stored uploads by their digest."""
        paths = (entry.path for entry in self.storage.list(UPLOADS))
        return {path.split("/")[1]: path for path in paths}


def _digest_of(manifest: dict[str, Any]) -> str:
    """The digest that a manifest describes, as `jobs.prepare.data_digest` made it."""
    sources = [
        {"sha256": s["sha256"], "part": s["part"], "kind": Source(s["path"]).suffix}
        for s in manifest["sources"]
    ]
    known = {name: manifest.get(name) for name in ("format", "domain", "task", "settings")}
    return stage_digest(known | {"sources": sources})


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, [], {})}


def _when(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M")
