"""The scikit-learn estimators on real newswires, in what scikit-learn makes of estimators."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import hyperagg
from hyperagg.sklearn import HyperAggClassifier, HyperAggVectorizer

FAST = dict(d_model=32, epochs=3)


@parametrize_with_checks([HyperAggClassifier(**FAST), HyperAggVectorizer(d_model=8)])
@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    r8 = hyperagg.load_dataset("r8")
    known = [i for i, label in enumerate(r8.train.labels) if label in ("earn", "acq", "crude")]
    picked = np.random.default_rng(0).permutation(known)[:900]
    texts = np.array([r8.train.texts[i] for i in picked], dtype=object)
    labels = np.array([r8.train.labels[i] for i in picked])
    return texts[:600], labels[:600], texts[600:], labels[600:]


def test_the_classifier_is_the_text_classifier(data):
    texts, labels, test, wanted = data
    ours = hyperagg.TextClassifier(**FAST).fit(texts, labels)
    theirs = HyperAggClassifier(**FAST).fit(texts, labels)
    assert list(theirs.classes_) == ours.classes_
    assert np.array_equal(theirs.predict_proba(test), ours.predict_proba(test))
    assert theirs.score(test, wanted) > 0.9
    kept = pickle.loads(pickle.dumps(theirs))
    assert np.array_equal(kept.predict(test), theirs.predict(test))
    assert np.array_equal(clone(theirs).fit(texts, labels).predict(test), theirs.predict(test))


def test_grid_search_and_calibration(data):
    texts, labels, test, wanted = data
    search = GridSearchCV(HyperAggClassifier(**FAST), {"learning_rate": [1e-4, 0.03]}, cv=2)
    assert search.fit(texts, labels).best_params_ == {"learning_rate": 0.03}
    calibrated = CalibratedClassifierCV(HyperAggClassifier(**FAST), cv=2).fit(texts, labels)
    assert calibrated.score(test, wanted) > 0.9


@pytest.mark.parametrize("labelled", [True, False])
def test_vectors_in_a_pipeline(data, labelled):
    texts, labels, _, _ = data
    vectors = HyperAggVectorizer(d_model=256)
    if labelled:
        made = vectors.fit(texts, labels).transform(texts[:7])
    else:
        made = vectors.fit(texts).transform(texts[:7])
        assert np.array_equal(clone(vectors).fit(texts).transform(texts[:7]), made)
    assert made.shape == (7, 256) and made.dtype == np.float32
    assert vectors.get_feature_names_out()[-1] == "hyperaggvectorizer255"
    pipeline = make_pipeline(HyperAggVectorizer(d_model=256), LogisticRegression(max_iter=300))
    assert cross_val_score(pipeline, texts, labels, cv=2).mean() > 0.85


def test_random_vectors_keep_angles(data):
    texts, _, _, _ = data
    made = HyperAggVectorizer(d_model=4096, random_state=np.random.RandomState(0)).fit(texts)
    a, b, c = made.transform(["oil prices rose", "prices of oil rose", "shares were sold"])

    def cosine(u, v):
        return u @ v / np.linalg.norm(u) / np.linalg.norm(v)

    assert cosine(a, b) > 0.7 and abs(cosine(a, c)) < 0.1


def test_labels_of_numbers_and_bad_ones(data):
    texts, _, _, _ = data
    numbers = np.arange(40) % 3 * 10
    assert set(HyperAggClassifier(**FAST).fit(texts[:40], numbers).predict(texts[:9])) <= {
        0,
        10,
        20,
    }
    with pytest.raises(ValueError, match="continuous"):
        HyperAggClassifier().fit(texts[:4], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(TypeError, match=r"texts\[1\]"):
        HyperAggClassifier().fit(["oil", 3.0], [0, 1])
