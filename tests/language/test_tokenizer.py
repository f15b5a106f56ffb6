from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.language.tokenizer import END, load_tokenizer, train_tokenizer

TEXTS = ["Oil prices rose, again.", "Gold fell <unk> 3 %.", "oil"]
BYTES = train_tokenizer(TEXTS, "bpe", 300)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_bytes_can_write_any_text(text):
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    if END not in text:
        assert BYTES.decode(ids) == text


def test_words_are_lower_case_and_others_unknown():
    words = train_tokenizer(TEXTS, "words", 9)
    assert len(words) <= 9
    ids = words("OIL zinc <unk>", add_special_tokens=False)["input_ids"]
    assert words.convert_ids_to_tokens(ids) == ["oil", "<unk>", "<unk>"]


def test_saved_and_loaded(tmp_path):
    BYTES.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded(TEXTS)["input_ids"] == BYTES(TEXTS)["input_ids"]
    assert loaded.eos_token == loaded.pad_token == END and loaded.padding_side == "left"


def test_what_cannot_be_learned(tmp_path):
    with pytest.raises(ValueError, match="tokenizer='letters': there are bpe, words"):
        train_tokenizer(TEXTS, "letters")
    with pytest.raises(ValueError, match="vocab_size=256: bytes alone are 256"):
        train_tokenizer(TEXTS, "bpe", 256)
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
