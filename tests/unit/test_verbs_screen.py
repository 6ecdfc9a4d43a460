"""What of a job's output reaches the terminal."""

import pytest

from cluster.request import Request
from jobs.verbs.screen import Screen, plain

WORKER = "\x1b[36m(RayTrainWorker pid=123, ip=10.0.0.1)\x1b[0m "


def test_marked_lines_are_shown_and_others_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(Request()) as screen:
        screen.feed("noise of a library\n| data is prep")
        screen.feed(
            "ared\n" + WORKER + "| step 1/9  loss 2.0\n" + WORKER + "| step 2/9  loss 1.9\n"
        )
        screen.feed(WORKER + "| step 9/9  loss 1.0\n")
    shown = capsys.readouterr().out.splitlines()
    # Progress is thinned where it cannot move, but never loses its last line.
    assert shown == ["data is prepared", "step 1/9  loss 2.0", "step 9/9  loss 1.0"]


def test_failure_shows_what_was_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(Request()) as screen:
        screen.feed("ValueError: out of memory\n")
        assert capsys.readouterr().out == ""
        screen.show_failure("exit code 1")
    assert capsys.readouterr().out == "  ValueError: out of memory\n  exit code 1\n"


def test_json_keeps_standard_output_free(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(Request(json=True)) as screen:
        screen.feed("| hello\n")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


@pytest.mark.parametrize(
    "line",
    [WORKER + "text", "(pid=7) text", "(TrainController pid=8) text", "(my.mod:fn pid=8) text"],
)
def test_prefixes_of_ray_are_dropped(line: str) -> None:
    assert plain(line) == "text"


def test_other_brackets_stay() -> None:
    assert plain("(see below) text") == "(see below) text"
