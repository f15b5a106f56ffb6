"""Text from tokens: whole characters, stop strings at any division, and sampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from hyperagg.language.tokenizer import train_tokenizer
from hyperagg.serve.language.sampling import Sampler, log_softmax, most_probable
from hyperagg.serve.language.text_stream import StopMatcher, TextStream

TEXTS = ["oil prices rose by 5 €", "gold fell, naïve 😀"] * 9
TOKENIZERS = {kind: train_tokenizer(TEXTS, kind, 300) for kind in ("bpe", "words")}


def cut(text, stops):
    """The definition: read character by character until the text ends with a stop string."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@given(
    st.lists(st.text("abc", max_size=3), max_size=8),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
)
def test_a_text_is_cut_at_the_same_place_however_it_is_divided(pieces, stops):
    matcher = StopMatcher(stops)
    returned = ""
    for piece in pieces:
        returned += matcher.push(piece)
        if matcher.is_stopped:
            break
    if not matcher.is_stopped:
        returned += matcher.finish()
    assert (returned, matcher.is_stopped) == cut("".join(pieces), stops)


@pytest.mark.parametrize("kind", ["bpe", "words"])
@given(data=st.data())
def test_the_pieces_join_to_the_decoded_text(kind, data):
    tokenizer = TOKENIZERS[kind]
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20))
    stream = TextStream(tokenizer)
    text = "".join(map(stream.push, tokens)) + stream.finish()
    assert text == tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["bpe", "words"])
def test_a_completion_continues_the_text_of_its_prompt(kind):
    tokenizer = TOKENIZERS[kind]
    tokens = tokenizer("gold fell , oil rose", add_special_tokens=False)["input_ids"]
    for number in range(len(tokens)):
        stream = TextStream(tokenizer, tokens[:number])
        completion = "".join(map(stream.push, tokens[number:])) + stream.finish()
        assert tokenizer.decode(tokens[:number]) + completion == tokenizer.decode(tokens)


def test_an_incomplete_character_is_held_back():
    tokenizer = TOKENIZERS["bpe"]
    tokens = tokenizer("\U0001f680", add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer)
    *before, last = [stream.push(token) for token in tokens]
    assert (set(before), last) == ({""}, "\U0001f680")
    stream.push(tokens[0])
    assert stream.finish() == "\ufffd"


def test_sampling_follows_the_probabilities_of_the_nucleus():
    probabilities = np.array([0.1, 0.5, 0.0, 0.4])
    logits = np.log(probabilities + 1e-30)
    sampler = Sampler(top_p=0.85, seed=3)
    counts = np.bincount([sampler(logits) for _ in range(3000)], minlength=4)
    assert counts[0] == counts[2] == 0
    assert abs(counts[1] / 3000 - 5 / 9) < 0.04
    assert {Sampler(top_p=0, seed=seed)(logits) for seed in range(9)} == {1}
    assert {Sampler(temperature=1e-300, seed=seed)(logits) for seed in range(9)} == {1}
    assert Sampler(temperature=0)(logits) == 1


def test_a_seed_gives_the_same_tokens_and_choices_differ():
    logits = np.zeros(1000)

    def draw(seed, stream=0):
        sampler = Sampler(seed=seed, stream=stream)
        return [sampler(logits) for _ in range(9)]

    assert draw(-5) == draw(-5)
    assert len({tuple(draw(7, stream)) for stream in range(4)} | {tuple(draw(8))}) == 5
    assert draw(None) != draw(None)


def test_logits_that_are_not_finite_are_an_error():
    with pytest.raises(FloatingPointError):
        Sampler()(np.array([0.0, np.nan]))


def test_log_probabilities_are_those_of_the_softmax():
    values = log_softmax(np.array([0.0, 1.0, 3.0], dtype=np.float32))
    assert np.exp(values).sum() == pytest.approx(1)
    assert [token for token, _ in most_probable(values, 2)] == [2, 1]
