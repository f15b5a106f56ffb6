from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.language.tokenizer import END_OF_TEXT, load_tokenizer, train_tokenizer

TEXTS = ["Oil prices rose, again.", "Gold fell <unk> 3 %.", "oil"]
BPE = train_tokenizer(TEXTS, "bpe", 300)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_bpe_encodes_any_text(text):
    ids = BPE(text, add_special_tokens=False)["input_ids"]
    if END_OF_TEXT not in text:
        assert BPE.decode(ids) == text


def test_words_are_lower_case_and_others_unknown():
    words = train_tokenizer(TEXTS, "words", 9)
    assert len(words) <= 9
    ids = words("OIL zinc <unk>", add_special_tokens=False)["input_ids"]
    assert words.convert_ids_to_tokens(ids) == ["oil", "<unk>", "<unk>"]


def test_a_saved_tokenizer_loads_the_same(tmp_path):
    BPE.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded(TEXTS)["input_ids"] == BPE(TEXTS)["input_ids"]
    assert loaded.eos_token == loaded.pad_token == END_OF_TEXT and loaded.padding_side == "left"


def test_invalid_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="tokenizer='letters': expected one of bpe, words"):
        train_tokenizer(TEXTS, "letters")
    with pytest.raises(ValueError, match="vocab_size=256: expected an integer > 256"):
        train_tokenizer(TEXTS, "bpe", 256)
    with pytest.raises(ValueError, match=r"tokenizer\.json not found"):
        load_tokenizer(tmp_path)
