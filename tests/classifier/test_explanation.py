"""Explanations of real newswires: they add up, and they say when they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperagg
from hyperagg.classifier.explanation_report import coloured, html_page
from hyperagg.text import WordTokenizer


@pytest.fixture(scope="module")
def data():
    return hyperagg.load_dataset("r8")


@pytest.fixture(scope="module")
def trained(data):
    return hyperagg.TextClassifier(d_model=32, epochs=3).fit(
        data.train.texts[:1500], data.train.labels[:1500]
    )


def test_contributions_and_bias_add_up_to_every_logit(data, trained):
    for text in data.test.texts[:200]:
        e = trained.explain(text)
        assert e.exact
        np.testing.assert_allclose(e.bias + e.contributions.sum(0), e.logits, atol=2e-5)
    assert e.label == trained.predict([text])[0]
    np.testing.assert_allclose(e.probabilities, trained.predict_proba([text])[0], atol=1e-6)
    assert " ".join(e.tokens) == text.strip()


def test_taking_out_what_speaks_for_a_label_hurts_it_more_than_chance(data, trained):
    rng, fall = np.random.default_rng(0), {"strongest": 0.0, "random": 0.0}
    for text in data.test.texts[:50]:
        e = trained.explain(text)
        c, number = e.classes.index(e.label), max(1, len(e.tokens) // 10)
        for name, out in {
            "strongest": np.argsort(-e.of(e.label))[:number],
            "random": rng.permutation(len(e.tokens))[:number],
        }.items():
            kept = " ".join(np.delete(np.array(e.tokens), out))
            fall[name] += e.probabilities[c] - trained.predict_proba([kept])[0, c]
    assert fall["strongest"] > 5 * max(0, fall["random"])


def test_a_rival_says_that_its_shares_are_first_order(data):
    rival = hyperagg.TextClassifier(mixer="attention", d_model=16, epochs=1)
    e = rival.fit(data.train.texts[:100], data.train.labels[:100]).explain(data.test.texts[0])
    assert not e.exact and e.contributions.any()
    assert "need not add up" in html_page([e], "rival")
    with pytest.raises(ValueError, match="only aggregation"):
        rival.top_features()


def test_no_words_have_no_part(trained):
    e = trained.explain("")
    assert e.tokens == [] and e.contributions.shape == (0, len(e.classes))
    np.testing.assert_allclose(e.logits, e.bias, rtol=1e-6)
    assert coloured(e).plain == ""


def test_telling_tokens_are_what_a_topic_is_about(trained):
    tokens = trained.top_features(5)
    assert set(tokens) == set(trained.classes_)
    assert "oil" in tokens["crude"] and "grain" in tokens["grain"]


def test_an_unknown_class_is_named(trained):
    with pytest.raises(ValueError, match="'sports': the classes are acq"):
        trained.explain("oil").of("sports")


@given(st.lists(st.text(max_size=30), min_size=1, max_size=3), st.sampled_from([0, 100]))
def test_alignment_is_that_of_the_encoded_tokens(texts, grams):
    tokenizer = WordTokenizer.train([*texts, "oil"], max_ngrams=grams)
    for text, length in zip(texts, tokenizer.encode(texts).lengths):
        spans, owners = tokenizer.align(text)
        assert owners.shape == (length, 2)
        assert set(owners.ravel().tolist()) == set(range(len(spans)))
        assert all(0 <= begin < end <= len(text) for begin, end in spans)


# Terminals are moved about by control characters, so rich leaves them out.
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60))
def test_pages_show_the_whole_text_and_run_none_of_it(trained, text):
    e = trained.explain(text + "<script>alert(1)</script> é İ")
    assert coloured(e).plain == e.text
    assert "<script" not in html_page([e], "<script>")
