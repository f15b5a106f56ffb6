"""Classifiers of texts in many scripts: every way to predict gives the same answer."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperagg
from hyperagg.sklearn import HyperAggClassifier

TEXTS = {
    "th": ["ภาษาไทยเป็นภาษาที่สวยงาม", "วันนี้อากาศร้อนมากที่กรุงเทพฯ"],
    "hi": ["हिन्दी भारत की एक भाषा है", "आज दिल्ली में मौसम गर्म है"],
    "ar": ["اللُّغَة العربية جميلة", "الطقس حار اليوم في القاهرة"],
    "he": ["שָׁלוֹם עולם, מה שלומך", "היום חם מאוד בירושלים"],
    "zh": ["北京大学是一所大学", "今天上海的天气很热"],
    "ja": ["東京タワーへ行きました", "今日はとても暑いですね"],
    "ko": ["한국어는 아름다운 언어입니다", "오늘 서울은 매우 덥습니다"],
    "fr": ["l’été a été très chaud à Orléans", "une forêt près du château brûlé"],
    "emoji": ["👩‍👩‍👧 👍🏽 🇫🇷🇩🇪 ❤️ 1️⃣ ok", "👨‍👩‍👦 👎🏿 🇯🇵🇰🇷 ❤️ 2️⃣ no"],
}
ALL = [text for texts in TEXTS.values() for text in texts]


@pytest.fixture(scope="module", params=["ngrams", "chars"])
def trained(request):
    labels = [label for label, texts in TEXTS.items() for _ in texts]
    classifier = hyperagg.TextClassifier(d_model=16, epochs=20, features=request.param)
    return classifier.fit(ALL * 4, labels * 4)


def test_each_script_is_recognized_in_other_words(trained):
    assert trained.tokenizer_.features == trained.config.features
    wanted = {"กรุงเทพเป็นภาษา": "th", "天气是今天的": "zh", "서울은 언어입니다": "ko"}
    assert {text: trained.predict(text) for text in wanted} == wanted


@pytest.mark.parametrize("form", ["NFD", "NFC"])
def test_composed_and_decomposed_texts_have_the_same_logits(trained, form):
    equivalent = [unicodedata.normalize(form, text) for text in ALL]
    assert np.array_equal(trained.logits(ALL), trained.logits(equivalent))
    for text in equivalent:  # alone, by another kernel
        assert np.array_equal(trained.logits(text), trained.logits([text, ""])[0])


@given(st.sampled_from(ALL), st.lists(st.integers(0, 40), max_size=4))
def test_pieces_give_the_logits_of_the_whole_text(trained, text, cuts):
    text = unicodedata.normalize("NFD", text)
    document, begin = trained.stream(), 0
    for end in [*sorted(cuts), len(text)]:
        document.append(text[begin:end])
        assert np.array_equal(document.logits(), trained.logits(text[:end]))
        begin = max(begin, end)


@pytest.mark.parametrize("text", ALL)
def test_explanations_show_whole_letters_and_add_up(trained, text):
    for form in ("NFC", "NFD"):
        e = trained.explain(unicodedata.normalize(form, text))
        np.testing.assert_allclose(e.bias + e.contributions.sum(0), e.logits, atol=2e-5)
        assert "".join(e.tokens) == "".join(e.text.split())
        assert not any(unicodedata.combining(token[0]) for token in e.tokens)


def test_top_features_are_named(trained):
    found = trained.top_features(30)
    assert any("学" in entry for entry in found["zh"])
    for entries in found.values():
        assert not any(unicodedata.combining(entry.strip("*")[0]) for entry in entries)
    if trained.config.features == "chars":
        assert any(entry.startswith("*") or entry.endswith("*") for entry in found["ko"])


def test_saving_and_quantizing_keep_the_tokens(trained, tmp_path):
    trained.save_pretrained(tmp_path / "model")
    again = hyperagg.TextClassifier.from_pretrained(tmp_path / "model")
    assert np.array_equal(again.logits(ALL), trained.logits(ALL))
    again.quantize(max_tokens=len(again.tokenizer_) // 2).save_pretrained(tmp_path / "small")
    small = hyperagg.TextClassifier.from_pretrained(tmp_path / "small")
    assert np.array_equal(small.logits(ALL), again.logits(ALL))
    assert small.tokenizer_.features == trained.config.features
    assert small.predict(ALL) == trained.predict(ALL)
    loaded = hyperagg.load_predictor(tmp_path / "model", mmap=True)
    assert np.array_equal(loaded.logits(ALL), trained.logits(ALL))


def test_more_texts_extend_the_vocabulary(trained, tmp_path):
    trained.save_pretrained(tmp_path / "model")
    again = hyperagg.TextClassifier.from_pretrained(tmp_path / "model")
    again.partial_fit(["Ελλάδα και θάλασσα"] * 4, ["el"] * 4, epochs=20)
    assert again.predict("θάλασσα") == "el"
    assert again.predict(ALL) == trained.predict(ALL)
    assert again.tokenizer_.vocabulary[: len(trained.tokenizer_)] == trained.tokenizer_.vocabulary


def test_scikit_learn_takes_the_features():
    classifier = HyperAggClassifier(features="chars", d_model=8, epochs=2)
    assert classifier.get_params()["features"] == "chars"
    classifier.fit(ALL, [0, 1] * (len(ALL) // 2))
    assert classifier.text_classifier_.tokenizer_.features == "chars"


@pytest.mark.torch
def test_the_torch_module_computes_the_same(trained):
    torch = pytest.importorskip("torch")
    rows = trained.tokenizer_.encode(ALL)
    logits = trained.to_torch()(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens))
    np.testing.assert_allclose(logits.detach().numpy(), trained.logits(ALL), atol=1e-4)


def test_an_unknown_kind_of_features_is_refused():
    with pytest.raises(ValueError, match="features='letters': expected one of"):
        hyperagg.TextClassifier(features="letters")
