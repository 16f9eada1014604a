"""Nobody speaks: no text. Somebody says one soft word: that word."""

from __future__ import annotations

import numpy as np
import pytest

from greenroom.plugins.whisper.decode import Hearing, without_loops
from greenroom.plugins.whisper.guards import invented
from greenroom.plugins.whisper.recognise import recognise

from .sounds import sounds
from .whisper_model import load, say

SOUNDS = sounds()
WORDS = ["yes", "no", "okay", "thank you", "goodbye"]


@pytest.mark.quiet
def test_twenty_sounds_have_no_text():
    model = load()
    assert len(SOUNDS) >= 20
    texts = {name: recognise(model, [np.tile(sound, 3)], thorough=True)[0].text for name, sound in SOUNDS.items()}
    assert {name: text for name, text in texts.items() if text} == {}


@pytest.mark.quiet
def test_hot_words_are_not_heard_in_sounds():
    model = load()
    prompt = model.prompt(["KITT", "Devon"])
    echoed = [name for name, sound in SOUNDS.items() if "KITT" in model.hear([sound], prompt=prompt)[0].text]
    assert echoed, "the model does repeat them"
    texts = {name: recognise(model, [SOUNDS[name]], prompt=prompt, thorough=True)[0].text for name in SOUNDS}
    assert {name: text for name, text in texts.items() if text} == {}


@pytest.mark.quiet
def test_it_is_the_doubt_that_makes_them_empty():
    """The model does write something, so the sounds try the guards and not only the model."""
    model = load()
    written = [model.hear([SOUNDS[name]])[0].text for name in ("white noise", "typing", "a melody")]
    assert all(any(character.isalpha() for character in text) for text in written), written


@pytest.mark.quiet
@pytest.mark.parametrize("voice", ["slt", "rms", "espeak-ng"])
def test_short_answers_are_heard_even_when_soft(voice: str):
    model = load()
    for word in WORDS:
        speech = say(word, voice)
        level = np.float32(0.05) if voice != "espeak-ng" else np.float32(0.3)
        for gain in (np.float32(1), level):
            text = recognise(model, [speech * gain])[0].text
            assert text, f"{word} at {gain:g}"


def hearing(text: str, log_probability: float, no_speech: float, looped: bool = False) -> Hearing:
    return Hearing(text, "en", (), (), log_probability, no_speech, looped)


def test_what_people_say_is_believed():
    assert not invented(hearing("What is seven times eight?", -0.3, 0.05))
    assert not invented(hearing("Thank you.", -1.0, 0.1)), "people do say it"
    assert not invented(hearing("No.", -1.6, 0.1)), "one word alone is never sure"
    assert not invented(hearing("7.", -1.4, 0.3))


def test_what_the_model_doubts_is_not():
    assert invented(hearing("I'm going to go to the next one.", -1.4, 0.1))
    assert invented(hearing("I'm not sure if it's the right thing to do.", -1.18, 0.23))
    assert invented(hearing("you", -0.9, 0.98))
    assert invented(hearing("Thank you.", -0.8, 0.7))
    assert invented(hearing("Thanks for watching!", -1.3, 0.3))
    assert invented(hearing("no", -2.1, 0.0))
    assert invented(hearing("I'm sorry. I'm sorry.", -0.9, 0.1, looped=True))
    assert (
        invented(hearing("[Music]", 0.0, 0.0))
        and invented(hearing("♪ ♪", 0.0, 0.0))
        and invented(hearing("...", 0.0, 0.0))
    )


def test_phrases_that_go_round_are_cut():
    assert without_loops([1, 2, 3] * 5) == [1, 2, 3]
    assert without_loops([9, 8, *[1, 2, 3, 4] * 3, 7]) == [9, 8, 1, 2, 3, 4]
    assert without_loops([5] * 5) == [5] * 5, "no, no, no, no, no"
    assert without_loops([5] * 6) == [5]
    assert without_loops([1, 2, 3, 1, 2, 3]) == [1, 2, 3, 1, 2, 3]
    assert without_loops([]) == []
