"""The whole file."""

from pathlib import Path

from pydantic import Field, PrivateAttr

from cluster.spec.clusters import ClusterSpec
from cluster.spec.models import ModelSpec
from cluster.spec.problems import Problem, SpecError, did_you_mean
from cluster.spec.references import Name
from cluster.spec.section import Section
from cluster.spec.serving import Notify, Services
from cluster.spec.tree import write_yaml


class Spec(Section):
    """The parsed YAML: the cluster and every model."""

    name: Name = "slipway"
    """Name of the whole: the folder in the storage, and the cluster."""
    cluster: ClusterSpec = Field(default_factory=dict, validate_default=True)
    """The machines, and what is kept of their work."""
    models: dict[Name, ModelSpec] = Field(default_factory=dict)
    """Name to model."""
    services: Services = Services()
    """The HTTP address of all served models."""
    notify: Notify | None = None
    """Who hears of what happens; nobody by default."""

    _root: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def root(self) -> Path:
        """The folder that relative paths start at."""
        return self._root

    def model(self, name: str) -> ModelSpec:
        """The model of that name. Raises SpecError that names those that exist."""
        if name in self.models:
            return self.models[name]
        known = did_you_mean(name, self.models) or "; the file has no models"
        raise SpecError([Problem(f'no model "{name}"{known}', file="", path="models")])

    def dump(self) -> str:
        """YAML that loads to this spec: environments are merged, paths absolute, secrets
        still references."""
        plain = self.model_dump(by_alias=True, exclude_unset=True)
        # the default folder depends on where the file lies, so it is always written
        storage = {"url": self.cluster.storage.url} | plain.get("cluster", {}).get("storage", {})
        return write_yaml(plain | {"cluster": plain.get("cluster", {}) | {"storage": storage}})
