"""The command: quick help, lazy imports, exit codes, one JSON document."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
name: acme
models:
  assistant:
    domain: text
    task: generation
    data: builtin:python-docs
"""


def slipway(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "slipway.py"), *arguments]
    environment = os.environ | {"XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}
    environment.pop("SLIPWAY_ENV", None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def test_help_names_every_verb_and_loads_no_engine() -> None:
    code = (
        "import sys; sys.argv = ['slipway', '--help']\n"
        "try:\n    import slipway; slipway.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'deepspeed', 'transformers', 'pyarrow', 'pydantic'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("LOADED []\n")
    verbs = ("init", "doctor", "plan", "up", "run", "train", "promote", "rollback", "predict")
    for verb in (*verbs, "logs", "why", "clean", "env"):
        assert f" {verb} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("runs", "-f", "absent.yaml"), 2, "absent.yaml"),
        (("train", "asistant"), 2, 'did you mean "assistant"'),
        (("run", "--until", "nope"), 2, "prepare, train, evaluate"),
        (("plan", "--set", "models.assistant.train.stepz=3"), 2, 'did you mean "steps"'),
        (("plan", "--timeout", "soon"), 2, "duration"),
        (("env",), 2, "slipway up"),
        (("render",), 2, "--spec"),
        (("predict", "assistant", "x"), 2, "assistant"),
        (("logs", "assistant-train-0000"), 2, "there is no run"),
        (("init", "absent.txt", "-f", "new.yaml"), 2, "absent.txt"),
        (("init", "builtin:python-docs"), 2, "exists already"),
    ],
)
def test_wrong_requests_say_why_and_leave_nothing(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "cluster.yaml").write_text(GOOD)
    done = slipway(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "runs") == ["cluster.yaml"]


def test_json_errors_are_one_document_with_line_and_path(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(GOOD + "    train: {optimzer: {lr: 1}}\n")
    done = slipway(tmp_path, "plan", "--json")
    assert done.returncode == 2
    [error] = json.loads(done.stdout)["errors"]
    assert error["line"] == 7
    assert error["path"] == "models.assistant.train.optimzer"
    assert 'did you mean "optimizer"' in error["message"]


@pytest.mark.parametrize("verb", ["plan", "runs", "models", "status"])
def test_json_is_all_that_standard_output_holds(tmp_path: Path, verb: str) -> None:
    (tmp_path / "cluster.yaml").write_text(GOOD)
    done = slipway(tmp_path, verb, "--json")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


def test_options_before_the_verb_count_too(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(GOOD)
    done = slipway(tmp_path, "-f", "other.yaml", "--set", "name=beta", "render", "--spec", "--json")
    assert json.loads(done.stdout)["name"] == "beta"


def test_init_writes_a_file_that_plans(tmp_path: Path) -> None:
    (tmp_path / "book one.txt").write_text("It was a dark and stormy night.\n" * 500)
    assert slipway(tmp_path, "init", "book one.txt").returncode == 0
    done = slipway(tmp_path, "plan", "--json")
    assert done.returncode == 0, done.stderr
    stages = {s["stage"]: s["state"] for s in json.loads(done.stdout)["stages"]}
    assert stages == {"prepare": "to do", "train": "to do", "evaluate": "to do"}
