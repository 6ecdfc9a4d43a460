"""What is refused, and in which words."""

import os
import textwrap

import pytest

from cluster.spec import SpecError, load

HEAD = "models:\n  a:\n    domain: text\n    task: generation\n    data: x.txt\n"


def refused(tmp_path, text, *arguments, **options):
    path = tmp_path / "cluster.yaml"
    path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
    with pytest.raises(SpecError) as caught:
        load(path, *arguments, **options)
    assert "pydantic" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return str(caught.value).replace(str(path), "cluster.yaml").splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "cluster.yaml: is empty; write at least one model, or run: slipway init"),
        ("# nothing\n", "cluster.yaml: is empty; write at least one model, or run: slipway init"),
        ("- a\n", "cluster.yaml:1: holds a list, not a map with cluster: and models:"),
        ("a,b\n1,2\n", "cluster.yaml:1: holds a bare value, not a map with cluster: and models:"),
        (b"a: \xff\n", "cluster.yaml:1: is not UTF-8; save it as UTF-8"),
        ("name: a\nname: b\n", 'cluster.yaml:2: "name" stands here twice; first in line 1'),
        ("a: *.csv\n", 'cluster.yaml:1: a value that starts with * must be quoted: "*.csv"'),
        ("a: [x, *.csv]\n", 'cluster.yaml:1: a value that starts with * must be quoted: "*.csv"'),
        ("a: *b\n", 'cluster.yaml:1: *b names no anchor; write "*b" in quotes if it is a text'),
        ("a:\n\tb: 1\n", "cluster.yaml:2: a tab; indent with spaces"),
        ("a: @b\n", 'cluster.yaml:1: a value that starts with @ must be quoted: "@..."'),
        ("a: 1\n---\nb: 2\n", "cluster.yaml:2: a second document begins here (---)"),
        ("a: &x [*x]\n", 'cluster.yaml:1: "*x" holds itself'),
        ("a: !!python/object:os.system x\n", "cluster.yaml:1: the tag "),
        ("a: [1, 2\n", "cluster.yaml:"),
        ("a: " + "[" * 2000, "cluster.yaml"),
        ("a: \x00\n", "cluster.yaml: not valid YAML"),
        ("? [a]\n: b\n", "cluster.yaml:1: a key must be a text"),
    ],
)
def test_a_file_that_is_no_map_is_one_clear_line(tmp_path, text, expected):
    lines = refused(tmp_path, text)
    assert len(lines) == 1
    assert lines[0].startswith(expected)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(SpecError, match="does not exist; write one with: slipway init"):
        load(tmp_path / "no.yaml")
    with pytest.raises(SpecError, match="is a folder; name the YAML file in it"):
        load(tmp_path)
    if os.geteuid():
        (tmp_path / "closed.yaml").touch(mode=0)
        with pytest.raises(SpecError, match="cannot be read: Permission denied"):
            load(tmp_path / "closed.yaml")


def test_all_errors_are_told_at_once_with_line_and_path(tmp_path):
    text = """\
    name: Acme
    cluster:
      storge: ./x
      pools: [{name: p, nodes: 4..1}]
    models:
      a:
        domain: text
        task: generation
        data: {source: builtin:python-doc}
        network: {type: gpt, widht: 3, layers: 0}
        train:
          optimzer: {}
          precision: fp17
          epochs: true
      b: {domain: text, task: generation, data: x, train: {steps: 1, epochs: 1}}
    environments:
      dev: {cluster: {provder: local}}
    """
    lines = refused(tmp_path, text)
    expected = [
        'cluster.yaml:3: cluster.storge: unknown key; did you mean "storage"?',
        "cluster.yaml:4: cluster.pools[0].nodes: 4 is above 1; write the smaller first: 1..4",
        'cluster.yaml:10: models.a.network.widht: unknown key; did you mean "width"?',
        "cluster.yaml:10: models.a.network.layers: 0 must be at least 1",
    ]
    assert set(expected) <= set(lines)
    assert (
        'cluster.yaml:12: models.a.train.optimzer: unknown key; did you mean "optimizer"?' in lines
    )
    assert any("models.a.train.precision" in line and '"fp16"' in line for line in lines)
    assert "cluster.yaml:14: models.a.train.epochs: true is not a number" in lines
    assert any(
        line.startswith("cluster.yaml:17: environments.dev.cluster.provder") for line in lines
    )


def test_near_keys_are_proposed_everywhere(tmp_path):
    text = "models:\n  a: {domain: text, task: generation, trian: 1, data: {source: x, splt: 1}}\n"
    lines = refused(tmp_path, text)
    assert [line.rpartition("; ")[2] for line in lines] == [
        'did you mean "split"?',
        'did you mean "train"?',
    ]


def test_combinations_are_told_beside_typing_mistakes(tmp_path):
    text = HEAD + "    train: {steps: 5, epochs: 2, optimzer: x}\n    network: {layers: x}\n"
    lines = refused(tmp_path, text)
    assert len(lines) == 3
    assert any("epochs and steps are both given" in line for line in lines)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("models.a.train.optimizer.lr=abc", '--set: models.a.train.optimizer.lr: "abc" is not'),
        ("models.a.trian.seed=1", '--set: models.a.trian: unknown key; did you mean "train"?'),
        ("name", '--set: "name" is not KEY=VALUE'),
        ("name.x=1", '--set: name.x: "x" cannot be set: what stands there is no map'),
        ("cluster.pools[3].cpus=1", '--set: cluster.pools[3].cpus: the list has no item "3"'),
        ("models.a.data.source=*.csv", "--set: models.a.data.source: a value that starts with *"),
    ],
)
def test_overrides_are_named_as_such(tmp_path, override, expected):
    text = "name: x\ncluster: {pools: [{name: p, cpus: 4}]}\n" + HEAD
    assert refused(tmp_path, text, overrides=[override])[0].startswith(expected)


def test_an_environment_that_does_not_exist(tmp_path):
    lines = refused(tmp_path, HEAD + "environments: {prod: {}}\n", "prdo")
    assert lines == ['cluster.yaml:6: environments: no environment "prdo"; did you mean "prod"?']


def test_a_secret_written_out_is_not_repeated(tmp_path):
    text = "cluster: {env: {A: {secret: 'hunter two'}, B: {token: hunter}}}\n" + HEAD
    assert "hunter" not in "".join(refused(tmp_path, text))
