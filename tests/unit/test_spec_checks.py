"""Combinations that cannot work."""

import textwrap

import pytest

from cluster.spec import SpecError, load
from cluster.spec.networks import GPT

SPACE = "space: {train.optimizer.lr: {log: [1e-4, 1e-2]}}"
ROWS = [
    ("train: {workers: 64, global_batch: 64}", "64 workers, but the cluster has room for"),
    ("train: {workers: 3, global_batch: 32}", "32 records cannot be shared evenly by 3 workers"),
    ("train: {global_batch: 32, micro_batch: 5}", "in micro batches of 5; 30 could"),
    ("train: {steps: 10, schedule: {warmup: 11}}", "a warm-up of 11 steps is longer than"),
    ("train: {epochs: 1, schedule: {warmup: 2 epochs}}", "a warm-up of 2 epochs is longer"),
    ("train: {steps: 10, epochs: 1}", "epochs and steps are both given; keep one"),
    ("train: {precision: fp16}", "fp16 needs a GPU"),
    ("train: {zero: {offload: nvme, nvme_path: /x}}", "offload nvme needs a GPU"),
    ("train: {zero: {stage: 0, offload: cpu}}", "offload needs ZeRO stage 1 or higher"),
    ("tune: {scheduler: pbt, space: {network.width: [64, 128]}}", "and none of space can be"),
    (f"tune: {{scheduler: pbt, trials: 1, {SPACE}}}", "needs 2 at least"),
    (f"tune: {{scheduler: {{type: pbt, share: 60%}}, {SPACE}}}", "and at most 50%"),
    (f"tune: {{cost: 5 USD/h, {SPACE}}}", "is a price, not a cost; write one like 50 USD"),
    ("train: {accelerator_share: 50%}", "there is no accelerator to share"),
    ("train: {accelerator_share: 0%}", "must be more than 0%"),
    ("train: {pool: gpu}", 'no pool "gpu"; the cluster has no pools'),
    ("train: {checkpoint: {keep: 0}}", "0 must be at least 1"),
    ("train: {compile: 'yes'}", "is not true or false"),
    ("network: {width: 10, heads: 4}", "10 cannot be shared by 4 heads"),
    ("network: {style: llama, heads: 4, kv_heads: 3}", "cannot be shared by 3 kv_heads"),
    ("network: {kv_heads: 2}", "kv_heads is for style llama, not gpt2"),
    ("network: {pretrained: nobody@3}", 'no model "nobody"'),
    ("network: {pretrained: a}", "the model cannot begin from itself"),
    ("network: {type: bert}", "network bert is not available for text generation"),
    ("network: {type: gtp}", '"gtp" is not allowed here; did you mean "gpt"?'),
    ("metric: los", 'unknown metric "los"; did you mean "loss"?'),
    ("serve: {traffic: {production: 50%}}", "the shares are 50% together"),
    ("promote: {if: los < 2}", 'unknown metric "los"; did you mean "loss"?'),
    ("promote: {if: loss < prod.loss}", 'unknown alias "prod"'),
    ("promote: {if: loss}", "loss is a number; compare it with another"),
    ("promote: {if: loss < 2}", "the gate reads the test part"),
    ("tune: {space: {train.lr: [1]}}", "unknown key"),
    ("tune: {space: {train.optimizer.lr: {log: [0, 1]}}}", "must begin above 0"),
    ("tune: {space: {train.optimizer.lr: {uniform: [-1, 1]}}}", "must be above 0"),
    ("tune: {space: {train.optimizer.lr: {uniform: [1, 0]}}}", "1 must be below 0"),
    ("tune: {space: {network.type: [gpt, lstm]}}", "network lstm is not available"),
    ("tune: {space: {train.seed: {int: 1..2, when: {network.tpe: gpt}}}}", "is not in space"),
    ("tune: {space: {serve.replicas: [1]}}", "cannot be searched"),
    ("tune: {space: {train.workers: [1, 2]}}", "all trials would be one"),
    (
        "tune: {space: {train.seed: {int: 1..2, when: {train.clip: 0.5}},"
        " train.clip: {uniform: [0.1, 1.0]}}}",
        "is a range, which is never just 0.5",
    ),
    (
        "tune: {space: {train.seed: {int: 1..2, when: {network.style: gpt2, train.clip: 1.0}},"
        " network.style: [gpt2, llama],"
        " train.clip: {choice: [0.5, 1.0], when: {network.style: llama}}}}",
        'can never hold: "network.style" would have to have two values at once',
    ),
    (
        "tune: {space: {train.global_batch: {int: 16..64}}}\ntrain: {workers: 2}",
        "2 workers cannot share every batch of a range",
    ),
    (
        "tune: {space: {train.global_batch: [16, 17]}}\ntrain: {workers: 2}",
        "17 records cannot be shared evenly by 2 workers",
    ),
]
CLUSTERS = [
    (
        "{provider: {type: kubernetes, image: i}, pools: [{name: p, cpus: 4}]}",
        "a folder of this machine cannot be reached from provider kube",
    ),
    ("{provider: {type: ray, address: 'http://10.0.0.1:8265'}}", "cannot be reached from the"),
    ("{storage: 'gs://x/y'}", "is neither a folder nor s3://BUCKET/PREFIX"),
    ("{storage: 's3://key:word@x/y'}", "the address holds keys, which"),
    ("{pools: [{name: a}, {name: a}]}", 'a second pool named "a"'),
    ("{pools: [{name: A}]}", '"A" is not a name'),
    ("{pools: [{name: a, nodes: 3..2}]}", "3 is above 2"),
    (
        "{storage: s3://b, provider: {type: kubernetes, image: i, contxt: x}}",
        'contxt: unknown key; did you mean "context"?',
    ),
]


def problems(tmp_path, keys="", cluster="{head: {cpus: 8}}"):
    model = {"domain": "text", "task": "generation", "data": "x.txt"}
    text = f"cluster: {cluster}\nmodels:\n  a:\n" + "".join(
        f"    {k}: {v}\n" for k, v in model.items()
    )
    path = tmp_path / "cluster.yaml"
    path.write_text(text + textwrap.indent(keys, "    ") + "\n")
    try:
        load(path)
    except SpecError as error:
        return error.problems
    return []


@pytest.mark.parametrize(("keys", "expected"), ROWS)
def test_a_model_that_cannot_work(tmp_path, keys, expected):
    found = problems(tmp_path, keys)
    (problem,) = [each for each in found if expected in each.message]
    assert problem.line == 7
    assert problem.path.startswith("models.a.")


@pytest.mark.parametrize(("cluster", "expected"), CLUSTERS)
def test_a_cluster_that_cannot_work(tmp_path, cluster, expected):
    (problem,) = [each for each in problems(tmp_path, cluster=cluster) if each.line == 1]
    assert expected in str(problem)
    assert problem.line == 1


@pytest.mark.parametrize(
    ("port", "expected"), [(8080, "is a port of Ray's own"), (443, "is for processes of root only")]
)
def test_a_port_that_the_services_cannot_have(tmp_path, port, expected):
    path = tmp_path / "cluster.yaml"
    provider = "{type: kubernetes, image: i}"
    path.write_text(
        f"services: {{port: {port}}}\ncluster: {{provider: {provider}, storage: s3://b}}\n"
    )
    with pytest.raises(SpecError) as raised:
        load(path)
    (problem,) = raised.value.problems
    assert (problem.line, problem.path) == (1, "services.port")
    assert f"{port} {expected}" in problem.message
    path.write_text(f"services: {{port: {port}}}\n")
    load(path)  # on this machine whoever asks for it


@pytest.mark.parametrize(
    ("keys", "cluster"),
    [
        ("train: {workers: 8}", "{head: {cpus: 8}}"),
        ("train: {workers: 8}", "{pools: [{name: p, nodes: 0..2, accelerators: H100:4}]}"),
        ("train: {workers: 1..64, global_batch: 64}", "{}"),
        ("train: {precision: fp16}", "{pools: [{name: p, accelerators: H100}]}"),
        ("train: {steps: 10, schedule: {warmup: 10}}", "{}"),
        ("", "{provider: {type: ray, address: '127.0.0.1:8265'}}"),
        ("network: {pretrained: a@1}", "{}"),
        ("tracking: wandb", "{}"),
    ],
)
def test_what_can_work_is_left_alone(tmp_path, keys, cluster):
    assert problems(tmp_path, keys, cluster) == []


def test_more_workers_than_accelerators(tmp_path):
    pools = "{pools: [{name: p, nodes: 0..2, accelerators: [H100:4, H200:2]}, {name: c, cpus: 99}]}"
    (problem,) = problems(tmp_path, "train: {workers: 16}", pools)
    assert "16 workers, but the cluster has room for 8 at most" in problem.message


def test_workers_of_one_training_that_would_share_an_accelerator(tmp_path):
    pools = "{pools: [{name: p, accelerators: H100:4}]}"
    keys = "train: {workers: 2, accelerator_share: 50%}"
    (problem,) = problems(tmp_path, keys, pools)
    assert "need an accelerator each" in problem.message
    assert problems(tmp_path, "train: {accelerator_share: 50%}", pools) == []


def test_a_stage_that_the_network_cannot_run(tmp_path, monkeypatch):
    monkeypatch.setattr(GPT, "zero_stages", (0, 1))
    (problem,) = problems(tmp_path, "train: {zero: {stage: 3}}")
    assert problem.message == "gpt cannot train at ZeRO stage 3; allowed: 0, 1"
