import json
from pathlib import Path

import torch

from jobs.domains.speech.characters import TEXTS, Characters
from jobs.domains.speech.decoding import Decoder, greedy

CHARACTERS = Characters.learn("fivoure")
WORDS = ["five", "four"]


def logits_of(*steps: str) -> torch.Tensor:
    """A step for each text: its characters are likely, the earlier the more; a blank for none."""
    found = torch.full((1, len(steps), CHARACTERS.size), -9.0)
    for step, likely in zip(found[0], steps, strict=True):
        for place, character in enumerate(likely or " "):
            number = CHARACTERS.numbers.get(character, CHARACTERS.nothing)
            step[number] = 5.0 - place
    return found


def test_a_mixture_of_two_words_becomes_the_likelier(tmp_path: Path) -> None:
    CHARACTERS.save(tmp_path)
    logits, steps = logits_of("f", "", "oi", "", "iu", "vr", "e"), torch.tensor([7])
    assert Decoder.load(tmp_path).texts_of(logits, steps) == ["foive"]
    (tmp_path / TEXTS).write_text(json.dumps(WORDS))
    known = Decoder.load(tmp_path)
    assert known.texts_of(logits, steps) == ["five"]
    likely_four = logits_of("f", "", "oi", "", "u", "rv", "e"), torch.tensor([6])
    assert known.texts_of(*likely_four) == ["four"]


def test_each_recording_counts_its_own_steps_alone() -> None:
    long, short = logits_of("f", "i", "v", "e", "o", "u", "r"), logits_of(*"four", "", "", "")
    both = torch.cat([long, short])
    assert Decoder(CHARACTERS, WORDS).texts_of(both, torch.tensor([4, 4])) == ["five", "four"]


def test_a_recording_too_short_for_all_words_is_heard_as_it_is() -> None:
    logits, steps = logits_of("f", "i"), torch.tensor([2])
    assert Decoder(CHARACTERS, WORDS).texts_of(logits, steps) == greedy(logits, steps, CHARACTERS)
