"""Explanations of newswires: the contributions add up to the logits."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperagg
from hyperagg.classifier.explanation_report import colored_text, explanation_page, strongest_terms
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
        np.testing.assert_allclose(e.bias + e.contributions.sum(0), e.logits, atol=2e-5)
    assert e.label == trained.predict([text])[0]
    np.testing.assert_allclose(e.probabilities, trained.predict_proba([text])[0], atol=1e-6)
    assert " ".join(e.tokens) == text.strip()


def test_removing_the_strongest_words_lowers_the_probability_more_than_chance(data, trained):
    rng, drop = np.random.default_rng(0), {"strongest": 0.0, "random": 0.0}
    for text in data.test.texts[:50]:
        e = trained.explain(text)
        c, number = e.classes_.index(e.label), max(1, len(e.tokens) // 10)
        for name, out in {
            "strongest": np.argsort(-e.for_label(e.label))[:number],
            "random": rng.permutation(len(e.tokens))[:number],
        }.items():
            kept = " ".join(np.delete(np.array(e.tokens), out))
            drop[name] += e.probabilities[c] - trained.predict_proba([kept])[0, c]
    assert drop["strongest"] > 5 * max(0, drop["random"])


def test_an_empty_text_has_no_contributions(trained):
    e = trained.explain("")
    assert e.tokens == [] and e.contributions.shape == (0, len(e.classes_))
    np.testing.assert_allclose(e.logits, e.bias, rtol=1e-6)
    assert colored_text(e).plain == ""


def test_top_features_are_the_words_of_a_topic(trained):
    tokens = trained.top_features(5)
    assert set(tokens) == set(trained.classes_)
    assert "oil" in tokens["crude"] and "grain" in tokens["grain"]


def test_an_unknown_class_is_named(trained):
    with pytest.raises(ValueError, match="label='sports': expected one of 'acq'"):
        trained.explain("oil").for_label("sports")


@given(st.lists(st.text(max_size=30), min_size=1, max_size=3), st.sampled_from([0, 100]))
def test_alignment_is_that_of_the_encoded_tokens(texts, max_ngrams):
    tokenizer = WordTokenizer.train([*texts, "oil"], max_ngrams=max_ngrams)
    for text, length in zip(texts, tokenizer.encode(texts).lengths):
        spans, owners = tokenizer.align(text)
        assert owners.shape == (length, 2)
        assert set(owners.ravel().tolist()) == set(range(len(spans)))
        assert all(0 <= begin < end <= len(text) for begin, end in spans)


# Control characters would move the cursor, so rich leaves them out.
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60))
def test_pages_show_the_whole_text_and_run_none_of_it(trained, text):
    e = trained.explain(text + "<script>alert(1)</script> é İ")
    assert colored_text(e).plain == e.text
    page = explanation_page([e], "<script>", names=["<script>"], true_labels=["<script>"])
    assert "<script" not in page


def test_features_are_the_words_and_their_ngrams(data):
    clf = hyperagg.TextClassifier(d_model=16, epochs=2, features="ngrams").fit(
        data.train.texts[:1500], data.train.labels[:1500]
    )
    e = clf.explain(data.test.texts[0])
    np.testing.assert_allclose(e.feature_contributions.sum(0), e.contributions.sum(0))
    names = [e.text[begin:end] for begin, end in e.feature_spans]
    pairs = [name for name in names if len(name.split()) == 2]
    assert pairs and all(name in e.text for name in pairs)
    terms = strongest_terms(e)
    assert abs(terms[0][1]) == max(abs(value) for _, value in terms)
    assert sum(value for _, value in terms) == pytest.approx(e.for_label(e.label).sum())


def test_a_pair_of_labels_is_explained_by_the_difference(trained, data):
    e = trained.explain(data.test.texts[1])
    first, second = e.classes_[:2]
    values = dict(strongest_terms(e, (first, second)))
    of_first, of_second = dict(strongest_terms(e, first)), dict(strongest_terms(e, second))
    assert values == pytest.approx({term: of_first[term] - of_second[term] for term in values})
    page = explanation_page([e], "one", labels=[(first, second)])
    assert f"{first} rather than {second}" in page


def test_a_color_means_the_same_in_every_text(trained):
    page = explanation_page([trained.explain("oil"), trained.explain("oil the of and in to")], "")
    strong = trained.explain("oil").for_label(trained.explain("oil").label).max()
    assert strong > 1 and page.count('class="for-4"') >= 1 + 1  # the legend and the word
    assert "STEPS = [0.05, 0.15, 0.4, 1]" in files("hyperagg.serve.page").joinpath(
        "dom.js"
    ).read_text("utf-8"), "the served page has the same scale"


def test_pages_of_long_texts_are_bounded_and_lengths_must_agree(trained):
    e = trained.explain("oil " * 50_000)
    assert len(explanation_page([e], "")) < 20_000_000
    page = explanation_page([trained.explain("oil")], "", true_labels=[np.int64(3)])
    assert "true: 3" in page
    with pytest.raises(ValueError, match="names: expected 2 values, one per explanation, got 1"):
        explanation_page([e, e], "", names=["one"])
    with pytest.raises(ValueError, match="labels: expected at most 6, got 7"):
        explanation_page([e], "", labels=e.classes_[:7])
