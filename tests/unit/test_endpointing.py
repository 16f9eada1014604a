"""When an utterance begins, pauses, goes on and ends."""

import pytest

from greenroom.agents.speech.endpointing import (
    FRAME_SECONDS,
    Endpointer,
    EndpointingOptions,
    SpeechEdge,
    looks_unfinished,
)


def run(endpointer: Endpointer, *parts: tuple[float, float], text: str = "") -> list[tuple[SpeechEdge, float]]:
    """Feed (probability, seconds) parts; the edges with the time of the frame that caused them."""
    edges, frames = [], 0
    for probability, seconds in parts:
        for _ in range(round(seconds / FRAME_SECONDS)):
            frames += 1
            edges += [(edge, frames * FRAME_SECONDS) for edge in endpointer.update(probability, text)]
    return edges


def test_speech_then_silence_is_one_utterance():
    edges = run(Endpointer(), (0.0, 0.32), (0.9, 0.64), (0.0, 0.96))
    assert [edge for edge, _ in edges] == [SpeechEdge.STARTED, SpeechEdge.PAUSED, SpeechEdge.ENDED]
    ended = edges[-1][1]
    assert ended == pytest.approx(0.32 + 0.64 + 0.48, abs=2 * FRAME_SECONDS)


def test_a_click_is_not_speech():
    assert run(Endpointer(), (0.0, 0.32), (0.9, 0.032), (0.0, 0.96)) == []


def test_a_short_pause_does_not_end_the_utterance():
    edges = run(Endpointer(), (0.9, 0.64), (0.0, 0.32), (0.9, 0.64), (0.0, 0.96))
    assert [edge for edge, _ in edges] == [
        SpeechEdge.STARTED,
        SpeechEdge.PAUSED,
        SpeechEdge.RESUMED,
        SpeechEdge.PAUSED,
        SpeechEdge.ENDED,
    ]


def test_a_wavering_voice_does_not_flicker():
    edges = run(Endpointer(), (0.9, 0.32), *[(0.4, 0.064), (0.6, 0.064)] * 10)
    assert [edge for edge, _ in edges] == [SpeechEdge.STARTED]


def test_unfinished_text_is_waited_for_longer():
    done = run(Endpointer(), (0.9, 0.64), (0.0, 2.0), text="what is seven times eight")
    waiting = run(Endpointer(), (0.9, 0.64), (0.0, 2.0), text="what is seven times")
    assert done[-1][0] == waiting[-1][0] == SpeechEdge.ENDED
    assert waiting[-1][1] - done[-1][1] == pytest.approx(1.2 - 0.48, abs=2 * FRAME_SECONDS)


def test_endless_speech_is_cut():
    edges = run(Endpointer(EndpointingOptions(max_utterance=2.0)), (0.9, 5.0))
    kinds = [edge for edge, _ in edges]
    assert kinds.count(SpeechEdge.ENDED) == 2 and kinds.count(SpeechEdge.STARTED) == 3


def test_long_speech_is_cut_between_words_where_it_can_be():
    options = EndpointingOptions(max_utterance=4.0)
    edges = run(Endpointer(options), (0.9, 2.0), (0.1, 0.096), (0.9, 1.28), (0.1, 0.064), (0.9, 2.0))
    ended = [at for edge, at in edges if edge is SpeechEdge.ENDED]
    assert ended == [pytest.approx(2.0 + 0.096 + 1.28 + 0.064, abs=2 * FRAME_SECONDS)], "not in the early gap"


def test_a_second_utterance_follows():
    kinds = [edge for edge, _ in run(Endpointer(), *[(0.9, 0.64), (0.0, 0.96)] * 2)]
    assert kinds == [SpeechEdge.STARTED, SpeechEdge.PAUSED, SpeechEdge.ENDED] * 2


@pytest.mark.parametrize("text", ["what is seven times", "and", "the square root of", "i would like to", "how much is"])
def test_texts_that_expect_more(text):
    assert looks_unfinished(text)


@pytest.mark.parametrize(
    "text", ["", "what time is it", "what", "tell me a joke", "i know what it is", "what six times six is"]
)
def test_texts_that_do_not(text):
    assert not looks_unfinished(text)


@pytest.mark.parametrize(
    "text", ["What is seven times.", "What's 7 x", "What is 7 ×.", "7 -", "What is 7 plus...", "7 times,"]
)
def test_unfinished_text_is_seen_behind_the_punctuation_of_a_recogniser_that_writes_some(text: str):
    assert looks_unfinished(text)


@pytest.mark.parametrize(
    "text", ["What is 7 x 8?", "The answer is 42.", "Yes.", "It is 5 - 3.", "Tell me about the x."]
)
def test_finished_text_is_not_waited_for(text: str):
    assert not looks_unfinished(text)
