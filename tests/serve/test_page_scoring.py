"""The scoring of a page gives the tokens, logits and contributions of Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hyperagg
from hyperagg.classifier import TextClassifier
from hyperagg.serve.page import parameters

SCRIPT = Path(parameters.__file__).with_name("scoring.js")
TOLERANCE = 1e-4
RUN = """async ({description, parameters, texts}) => {
  const model = await LocalClassifier.load(description, parameters);
  const answer = (text) => [model.tokenizer.encode(text), model.explain(text)];
  const answers = JSON.parse(texts).map(answer);
  return JSON.stringify(answers);
}"""
# One of each: scripts without spaces, marks, ligatures, forms that are folded, lower case of two
# characters, Hangul in parts, flags, emoji, formatting characters, separators, and characters that
# later versions of Unicode assign.
EXAMPLES = [
    "",
    " \t\u2028\u3000 ",
    "Café cafe\u0301 CAFE\u0301 \ufb01n o\ufb03ce \uff21\uff22 \uff76\uff9e",
    "İstanbul Straße ẞ ΣΊΣΥΦΟΣ ΌΔΟΣ ǅ Ꭰ Ა",
    "日本語 日 本 語と한국어 \u1112\u1161\u11ab ภาษาไทย ភាសាខ្មែរ မြန်မာ བོད་",
    "नमस्ते हिन्दी العربية\u200cفارسی \ufefb עִבְרִית",
    "🇩🇪🇫🇷🇩 👩\u200d👩\u200d👧 👍🏽 ❤\ufe0f *\u0301 * ** 😀\u200d日 🇩\u0301🇪",
    "so\u00adft zero\u200bwidth \u202eright\u202c \u0301begins a\u200db x² ½ ﷺ",
    "new \U00016d40 \U00010d50\u0301 \ua7cb\u0345 \u1c89 \u0378 \ufdd0 \U0010ffff \ue000",
    "snake_case it's 3.14 1,000 €5 -- … word" + "s" * 70,
    "\u212a\u212b \u1e9b\u0323 \u0344 \u2126 \uf900 \U0002f800 \u1160\u1161 \u3131",
]
LETTERS = st.one_of(
    st.characters(codec="utf-8"),
    st.sampled_from("abeo sE*'_\u0301\u200d\u0e19日本🇩👍🏽\u11ab\uac00İΣς\ufb01"),
)


def drawn(number: int) -> list[str]:
    """Texts of any characters, the same in every run."""
    texts: list[str] = []

    @settings(max_examples=number)
    @given(st.lists(st.text(LETTERS, min_size=1, max_size=9), max_size=12).map(" ".join))
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    return texts


def compare(page, classifier, texts):
    predictor = classifier.predictor
    # As JSON: the conversion of millions of single values would take minutes.
    answers = page.evaluate(
        RUN,
        {
            "description": parameters.describe(predictor),
            "parameters": parameters.encode_parameters(predictor),
            "texts": json.dumps(texts),
        },
    )
    found = json.loads(answers)
    for text, (encoded, answer) in zip(texts, found, strict=True):
        ids = predictor.tokenizer.encode([text]).token_ids.tolist()
        assert encoded["ids"] == ids, ascii(text)
        alignment = predictor.tokenizer.align(text)
        assert encoded["owners"] == alignment.owners.tolist(), ascii(text)
        explanation = predictor.explain(text)
        spans = [(token["start"], token["end"]) for token in answer["tokens"]]
        assert spans == explanation.spans, ascii(text)
        assert [token["text"] for token in answer["tokens"]] == explanation.tokens
        order = np.argsort(-explanation.logits, kind="stable")
        assert answer["labels"][0]["logit"] == pytest.approx(
            float(explanation.logits[order[0]]), abs=TOLERANCE
        )
        by_label = {each["label"]: each for each in answer["labels"]}
        columns = [by_label[str(label)] for label in explanation.classes_]
        got = [[each[name] for each in columns] for name in ("logit", "score", "bias")]
        expected = [explanation.logits, explanation.probabilities, explanation.bias]
        contributions = np.array([each["contributions"] for each in columns]).T
        assert np.abs(np.subtract(got, expected)).max() < TOLERANCE, ascii(text)
        differences = np.abs(contributions - explanation.contributions)
        assert differences.max(initial=0) < TOLERANCE, ascii(text)


@pytest.fixture
def scoring(page):
    page.goto("about:blank")
    page.add_script_tag(content=SCRIPT.read_text("utf-8"))
    return page


@pytest.mark.parametrize("features", ["words", "ngrams", "chars"])
def test_any_text_is_scored_as_by_python(scoring, newswires, features):
    texts, labels = newswires
    drawn_texts = drawn(200)
    # Drawn texts among those of training give the vocabulary entries of every script.
    train = [*texts[:200], *EXAMPLES, *drawn_texts[::2]] * 2
    targets = [*labels[:200], *(["other"] * (len(EXAMPLES) + len(drawn_texts[::2])))] * 2
    classifier = TextClassifier(
        d_model=8, features=features, epochs=2, refit=False, validation_fraction=0.1
    ).fit(train, targets)
    classifier.quantize()
    compare(scoring, classifier, [*EXAMPLES, *drawn_texts, *texts[200:300]])


def test_every_kind_of_classifier_is_scored(scoring, newswires):
    texts, labels = newswires
    mean = TextClassifier(d_model=8, pooling="mean", max_tokens=20, epochs=2, refit=False)
    compare(scoring, mean.fit(texts, labels).quantize(max_tokens=500), texts[:20])
    several = [[label, "news"] for label in labels]
    multi = TextClassifier(d_model=8, epochs=2, refit=False).fit(texts, several)
    compare(scoring, multi.quantize(), texts[:20])


def test_other_classifiers_are_refused(newswires):
    tokenizers = pytest.importorskip("tokenizers")
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    clf = TextClassifier(tokenizer=backend, d_model=8, epochs=1, refit=False)
    clf.fit(*(values[:50] for values in newswires))
    with pytest.raises(ValueError, match="HubTokenizer: expected one with the built-in tokenizer"):
        parameters.describe(clf.predictor)


def test_a_loaded_model_is_scored(scoring, folder, newswires):
    compare(scoring, hyperagg.TextClassifier.from_pretrained(folder).quantize(), newswires[0][:50])
