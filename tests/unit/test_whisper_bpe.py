"""Byte pairs, against numbers that the `tokenizers` package gave for Whisper's file."""

from __future__ import annotations

import pytest

from greenroom.plugins.whisper.bpe import BytePairs

from .whisper_model import folder

NUMBERS = {
    " Hello, world! What's 7 x 12.5?": [18435, 11, 995, 0, 1867, 338, 767, 2124, 1105, 13, 20, 30],
    "Grüße aus Köln — naïve café ½ price…": [
        8642,
        9116,
        39683,
        68,
        257,
        385,
        509,
        9101,
        18755,
        851,
        41492,
        40304,
        25208,
        2756,
        1399,
    ],
    " KITT, Michael Knight, Devon  Miles": [509, 22470, 11, 3899, 6700, 11, 36889, 220, 20404],
    "日本語テスト 123": [33768, 98, 17312, 105, 45739, 252, 24336, 43302, 17031],
    "snake_case __init__ don't I'll we've": [16184, 539, 62, 7442, 11593, 15003, 834, 836, 470, 314, 1183, 356, 1053],
    "  two  spaces \n new": [220, 734, 220, 9029, 220, 198, 649],
    "🙂 ok": [8582, 25081, 12876],
    "12345 3rd": [10163, 2231, 513, 4372],
}


@pytest.fixture(scope="module")
def pairs() -> BytePairs:
    return BytePairs.load(folder() / "tokenizer.json")


@pytest.mark.parametrize("text", NUMBERS)
def test_text_to_numbers_and_back(pairs: BytePairs, text: str):
    assert pairs.encode(text) == NUMBERS[text]
    assert pairs.decode(NUMBERS[text]) == text


def test_control_tokens_are_known_by_name_and_have_no_text(pairs: BytePairs):
    assert pairs.special["<|startoftranscript|>"] == 50257
    assert pairs.decode([50257, 18435, 50363, 50963]) == " Hello"
    assert 50257 not in pairs.encode("<|startoftranscript|>")


def test_a_part_of_a_character_is_not_an_error(pairs: BytePairs):
    assert pairs.decode([8582]) == "�"


def test_pairs_are_merged_by_rank():
    merges = ["b c", "a b", "ab c", ["Ġ", "abc"]]
    vocabulary = {token: i for i, token in enumerate(["a", "b", "c", "Ġ", "bc", "ab", "abc", "Ġabc"])}
    pairs = BytePairs({"model": {"vocab": vocabulary, "merges": merges}, "added_tokens": []})
    assert pairs.encode("abc") == [vocabulary["a"], vocabulary["bc"]]
    assert pairs.encode("ab ab") == [vocabulary["ab"], vocabulary["Ġ"], vocabulary["ab"]]
