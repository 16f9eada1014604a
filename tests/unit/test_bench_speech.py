"""What the speech benchmark counts, and what it does to sound."""

from __future__ import annotations

import numpy as np
import pytest
from bench.sound import RATE, babble, mix, mu_law, mu_law_decoded, pink_noise, telephone
from bench.speech.waiting import speech_end
from bench.words import word_errors, words


def tone(frequency: float, seconds: float = 1.0, peak: float = 8_000.0, rate: int = RATE) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def power(samples: np.ndarray) -> float:
    return float(np.mean(samples.astype(np.float64) ** 2))


@pytest.mark.parametrize(
    ("said", "heard", "wrong"),
    [
        ("ask not what your country", "ask not what your country", 0),
        ("ask not what", "", 3),
        ("", "thank you", 2),
        ("the agent is busy", "the agents is busy", 1),
        ("the agent is busy", "agent is very busy", 2),
        ("a b c d", "b c d e", 2),
    ],
)
def test_words_that_are_replaced_left_out_and_added_are_counted_once(said, heard, wrong):
    assert word_errors(said.split(), heard.split()) == wrong


def test_spelling_that_is_not_heard_does_not_count():
    assert words("It's 56, please. Press ONE!") == words("its fifty-six please press 1")
    assert words("a dog") == ["a", "dog"]


@pytest.mark.parametrize("snr", [0.0, 10.0, 30.0])
def test_noise_is_softer_than_the_voice_by_what_is_asked_for(snr):
    voice = tone(440)
    noise = pink_noise(len(voice), seed=1)
    mixed = np.frombuffer(mix(voice.tobytes(), noise, snr), np.int16)
    rest = mixed.astype(np.float64) - voice
    assert 10 * np.log10(power(voice) / power(rest)) == pytest.approx(snr, abs=0.1)


def test_pauses_have_no_part_in_the_level_of_a_voice():
    voice = np.concatenate([tone(440), np.zeros(3 * RATE, np.int16)])
    mixed = np.frombuffer(mix(voice.tobytes(), pink_noise(len(voice), seed=1), 10.0), np.int16)
    rest = mixed.astype(np.float64) - voice
    assert 10 * np.log10(power(voice[:RATE]) / power(rest)) == pytest.approx(10.0, abs=0.2)


def test_what_is_too_loud_together_is_made_softer_and_not_cut_off():
    voice = tone(440, peak=32_000)
    mixed = np.frombuffer(mix(voice.tobytes(), pink_noise(len(voice), seed=1), 0.0), np.int16)
    assert np.abs(mixed.astype(np.int32)).max() == 32_767
    assert (np.abs(mixed.astype(np.int32)) >= 32_766).sum() < 5


def test_noise_is_the_same_each_time_and_falls_by_three_decibels_an_octave():
    noise = pink_noise(1 << 16, seed=7)
    assert np.array_equal(noise, pink_noise(1 << 16, seed=7))
    assert not np.array_equal(noise, pink_noise(1 << 16, seed=8))
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [spectrum[1 << n : 2 << n].sum() for n in range(8, 14)]
    assert max(octaves) / min(octaves) < 1.3


def test_babble_is_all_voices_at_once():
    voices = [tone(frequency, peak=peak).tobytes() for frequency, peak in ((300, 900), (500, 9_000), (700, 20_000))]
    together = babble(voices, 2 * RATE, seed=3)
    assert np.array_equal(together, babble(voices, 2 * RATE, seed=3))
    spectrum = np.abs(np.fft.rfft(together)) ** 2
    assert {round(int(at) / 2) for at in np.argsort(spectrum)[-3:]} == {300, 500, 700}
    assert power(together) == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [lambda: babble([], RATE, 1), lambda: babble([bytes(3200)], RATE, 1)])
def test_babble_wants_voices(wrong):
    with pytest.raises(ValueError, match="babble"):
        wrong()


def test_silence_has_no_level_to_add_noise_to():
    with pytest.raises(ValueError, match="without sound"):
        mix(bytes(RATE), pink_noise(RATE, seed=1), 10.0)
    with pytest.raises(ValueError, match="samples of noise"):
        mix(tone(440).tobytes(), pink_noise(100, seed=1), 10.0)


def test_mu_law_codes_are_those_of_g711():
    samples = np.array([0, -1, 32_767, -32_768, 1_000, -1_000], np.int16)
    assert mu_law(samples).tolist() == [0xFF, 0x7F, 0x80, 0x00, 0xCE, 0x4E]
    assert mu_law_decoded(np.array([0xFF, 0x80, 0x00, 0xCE], np.uint8)).tolist() == [0, 32_124, -32_124, 988]


def test_every_mu_law_code_comes_back():
    codes = np.arange(256, dtype=np.uint8)
    back = mu_law(mu_law_decoded(codes))
    # There are two zeros, of which one is written.
    assert np.flatnonzero(back != codes).tolist() == [0x7F]


def test_mu_law_follows_the_loudness():
    for peak in (300, 3_000, 30_000):
        voice = tone(440, peak=peak)
        error = mu_law_decoded(mu_law(voice)).astype(np.float64) - voice
        assert 10 * np.log10(power(voice) / power(error)) > 28


def test_a_telephone_passes_its_band_only():
    def passed(frequency: float) -> float:
        voice = tone(frequency)
        heard = np.frombuffer(telephone(voice.tobytes()), np.int16)
        assert abs(len(heard) - len(voice)) < RATE // 100
        return power(heard[RATE // 10 : -RATE // 10]) / power(voice)

    assert passed(1_000) == pytest.approx(1.0, abs=0.05)
    assert passed(100) < 0.001
    assert passed(5_000) < 0.001


def test_speech_ends_with_its_last_audible_sample():
    assert speech_end(tone(440, seconds=0.5).tobytes() + bytes(RATE)) == pytest.approx(0.5, abs=0.01)
    assert speech_end(bytes(RATE)) == 0.0
