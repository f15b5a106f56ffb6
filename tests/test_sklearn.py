"""The scikit-learn estimators, by the checks of scikit-learn and on newswires."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import hyperagg
from hyperagg.classifier import Predictor
from hyperagg.sklearn import HyperAggClassifier, HyperAggVectorizer

FAST = dict(d_model=32, epochs=3)


with warnings.catch_warnings():
    # Checks that need numeric input are left out, with a warning.
    warnings.filterwarnings("ignore", "Can't test estimator")
    with_checks = parametrize_with_checks(
        [HyperAggClassifier(**FAST), HyperAggVectorizer(d_model=8)]
    )


@with_checks
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
    texts, labels, test, expected = data
    direct = hyperagg.TextClassifier(**FAST).fit(texts, labels)
    port = HyperAggClassifier(**FAST).fit(texts, labels)
    assert list(port.classes_) == direct.classes_
    assert np.array_equal(port.predict_proba(test), direct.predict_proba(test))
    assert port.score(test, expected) > 0.9
    copied = pickle.loads(pickle.dumps(port))
    assert np.array_equal(copied.predict(test), port.predict(test))
    assert np.array_equal(clone(port).fit(texts, labels).predict(test), port.predict(test))


def test_grid_search_and_calibration(data):
    texts, labels, test, expected = data
    search = GridSearchCV(HyperAggClassifier(**FAST), {"learning_rate": [1e-4, 0.03]}, cv=2)
    assert search.fit(texts, labels).best_params_ == {"learning_rate": 0.03}
    calibrated = CalibratedClassifierCV(HyperAggClassifier(**FAST), cv=2).fit(texts, labels)
    assert calibrated.score(test, expected) > 0.9


@pytest.mark.parametrize("supervised", [True, False])
def test_vectors_in_a_pipeline(data, supervised):
    texts, labels, _, _ = data
    vectorizer = HyperAggVectorizer(d_model=256)
    if supervised:
        transformed = vectorizer.fit(texts, labels).transform(texts[:7])
    else:
        transformed = vectorizer.fit(texts).transform(texts[:7])
        assert np.array_equal(clone(vectorizer).fit(texts).transform(texts[:7]), transformed)
    assert transformed.shape == (7, 256) and transformed.dtype == np.float32
    assert vectorizer.get_feature_names_out()[-1] == "hyperaggvectorizer255"
    pipeline = make_pipeline(HyperAggVectorizer(d_model=256), LogisticRegression(max_iter=300))
    assert cross_val_score(pipeline, texts, labels, cv=2).mean() > 0.85


def test_random_vectors_preserve_angles(data):
    texts, _, _, _ = data
    transformed = HyperAggVectorizer(d_model=4096, random_state=np.random.RandomState(0)).fit(texts)
    a, b, c = transformed.transform(["oil prices rose", "prices of oil rose", "shares were sold"])

    def cosine(u, v):
        return u @ v / np.linalg.norm(u) / np.linalg.norm(v)

    assert cosine(a, b) > 0.7 and abs(cosine(a, c)) < 0.1


def test_numeric_and_invalid_labels(data):
    texts, _, _, _ = data
    numbers = np.arange(40) % 3 * 10
    assert set(HyperAggClassifier(**FAST).fit(texts[:40], numbers).predict(texts[:9])) <= {
        0,
        10,
        20,
    }
    with pytest.raises(ValueError, match="continuous"):
        HyperAggClassifier().fit(texts[:4], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(TypeError, match=r"X\[1\]"):
        HyperAggClassifier().fit(["oil", 3.0], [0, 1])


def test_the_defaults_are_those_of_the_text_classifier():
    ours = inspect.signature(HyperAggClassifier).parameters
    theirs = inspect.signature(hyperagg.TextClassifier).parameters
    assert set(theirs) - set(ours) == {"tokenizer"}
    assert set(ours) - set(theirs) == {"class_weight", "random_state"}
    for name in set(ours) & set(theirs):
        assert ours[name].default == theirs[name].default, name


def test_random_vectors_are_sums_over_the_square_root_of_their_number(data):
    texts, _, test, _ = data
    vectorizer = HyperAggVectorizer(d_model=8).fit(texts)
    rows = vectorizer.tokenizer_.encode(list(test[:5]))
    for i, row in enumerate(vectorizer.transform(test[:5])):
        ids = rows.take(np.array([i])).token_ids
        vectors = vectorizer.model_.embedding[ids].astype(np.float64)
        np.testing.assert_allclose(row, vectors.sum(0) / len(ids) ** 0.5, rtol=1e-5, atol=1e-6)
    assert not vectorizer.transform([""]).any()


def test_sample_weights():
    texts, labels = ["same text"] * 40, ["no", "yes"] * 20
    options = dict(d_model=8, epochs=20, validation_fraction=0.0)  # without a temperature
    weighted = HyperAggClassifier(**options).fit(texts, labels, sample_weight=[1.0, 5.0] * 20)
    plain = HyperAggClassifier(**options).fit(texts, labels, sample_weight=[1.0] * 40)
    assert weighted.predict_proba(texts[:1])[0, 1] > plain.predict_proba(texts[:1])[0, 1] + 0.1
    unweighted = HyperAggClassifier(**options).fit(texts, labels)
    assert np.array_equal(plain.predict_proba(texts), unweighted.predict_proba(texts))


def test_class_weights_are_by_label():
    texts, labels = ["same text"] * 40, ["no", "yes"] * 20
    options = dict(d_model=8, epochs=20, validation_fraction=0.0)  # without a temperature
    weighted = HyperAggClassifier(**options, class_weight={"yes": 5.0}).fit(texts, labels)
    plain = HyperAggClassifier(**options).fit(texts, labels)
    assert weighted.predict_proba(texts[:1])[0, 1] > plain.predict_proba(texts[:1])[0, 1] + 0.1
    with pytest.raises(ValueError, match="class_weight: the label 'maybe' does not occur in y"):
        HyperAggClassifier(class_weight={"maybe": 1.0}).fit(texts, labels)


def test_without_torch_or_without_scikit_learn():
    code = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
from hyperagg.sklearn import HyperAggClassifier, HyperAggVectorizer
texts, labels = ["good film", "bad film"] * 20, ["yes", "no"] * 20
assert HyperAggClassifier().fit(texts, labels).predict(["a good one"]) == ["yes"]
assert HyperAggVectorizer(d_model=8).fit(texts).transform(texts).shape == (40, 8)
assert HyperAggVectorizer(d_model=8).fit(texts, labels).transform(texts).shape == (40, 8)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys; sys.modules['sklearn.base'] = None; import hyperagg.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("pip install 'hyperagg[sklearn]'")


LISTS = {
    "lists": [["a", "b"], ["a", "b"]],
    "lists of unequal length": [["a"], ["a", "b"]],
    "tuples": [("a",), ("b",)],
    "array of lists": np.array([["a"], ["a", "b"]], dtype=object),
    "lists of indicators": [[1, 0], [1, 1]],
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_labels_are_refused_with_the_remedy(kind):
    for estimator in (HyperAggClassifier(), HyperAggVectorizer()):
        with pytest.raises(ValueError, match=r"y: expected one label .*MultiLabelBinarizer$") as e:
            estimator.fit(["good film", "bad film"], LISTS[kind])
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("sparse", [False, True])
def test_an_indicator_matrix_gives_several_labels_per_text(data, sparse):
    texts, labels, test, expected = data

    def indicators(texts, labels):
        columns = [labels == "acq", np.zeros(len(labels), bool), labels == "earn",
                   [len(text) > 500 for text in texts]]  # fmt: skip
        return np.stack(columns, 1).astype(int)

    y = indicators(texts, labels)
    clf = HyperAggClassifier(**FAST).fit(texts, csr_matrix(y) if sparse else y)
    predicted, truth = clf.predict(test), indicators(test, expected)
    assert predicted.shape == truth.shape and (predicted == truth).mean() > 0.9
    assert not predicted[:, 1].any() and not clf.predict_proba(test)[:, 1].any()
    assert clf.score(test, truth) > 0.6
    known = [0, 2, 3]
    log = clf.predict_log_proba(test)[:, known]
    np.testing.assert_allclose(np.exp(log), clf.predict_proba(test)[:, known], rtol=1e-4)
    with pytest.raises(ValueError, match="y: expected a matrix of 0 and 1"):
        clf.fit(texts, y + 2 * (np.arange(4) == 1))


def test_scores_and_logarithms_agree_with_probabilities(data):
    texts, labels, test, _ = data
    clf = HyperAggClassifier(**FAST).fit(texts, labels)
    scores = clf.decision_function(test)
    assert scores.shape == (len(test), 3)
    assert np.array_equal(clf.classes_[scores.argmax(1)], clf.predict(test))
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(test)), clf.predict_proba(test), 1e-4)
    two = labels != "crude"
    clf.fit(texts[two], labels[two])
    scores = clf.decision_function(test)
    assert scores.shape == (len(test),)
    assert np.array_equal(clf.classes_[(scores > 0).astype(int)], clf.predict(test))


def test_partial_fit_takes_all_classes_in_the_first_call(data):
    texts, labels, test, expected = data
    clf = HyperAggClassifier(**FAST)
    for label in ("earn", "acq", "crude"):
        own = labels == label
        clf.partial_fit(texts[own], labels[own], classes=["acq", "crude", "earn"])
        assert clf.classes_.tolist() == ["acq", "crude", "earn"]
        assert clf.predict_proba(test).shape == (len(test), 3)
    assert clf.score(test, expected) > 0.8
    with pytest.raises(ValueError, match="y: the label 'ship' is not one of the classes 'acq', "):
        clf.partial_fit(texts[:2], ["ship", "earn"])
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        clf.partial_fit(texts[:2], labels[:2], classes=["acq", "ship"])


@pytest.mark.parametrize("several", [False, True])
def test_an_answer_belongs_to_one_state(several, monkeypatch):
    """A label that another thread learned in the middle of a prediction used to break it."""
    texts, logits = ["good film", "bad film"] * 10, Predictor.logits
    first, later = ["b", "c"] * 10, ["a", "b"] * 10
    if several:
        first, later = np.array([[0, 1, 0], [0, 0, 1]] * 10), np.array([[1, 0, 0], [0, 1, 0]] * 10)
    trained = HyperAggClassifier(**FAST)
    trained.partial_fit(texts, first, classes=None if several else ["a", "b", "c"])
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        clf, calls = copy.deepcopy(trained), []

        def learn_and_return(self, X, clf=clf, calls=calls):
            calls.append(X)
            if len(calls) == 1:
                clf.partial_fit(texts, later)
            return logits(self, X)

        expected = getattr(clf, name)(texts)
        with monkeypatch.context() as patch:
            patch.setattr(Predictor, "logits", learn_and_return)
            np.testing.assert_array_equal(getattr(clf, name)(texts), expected)
        assert clf.text_classifier_.classes_ != trained.text_classifier_.classes_


@pytest.mark.parametrize("targets", [float, int])
def test_the_vectorizer_before_a_regressor_learns_without_labels(data, targets):
    """Continuous targets used to be refused, and whole ones were learned as classes."""
    texts, _, test, _ = data
    lengths = np.array([len(text) for text in texts]).astype(targets)
    if targets is float:
        lengths += 0.5
    pipeline = make_pipeline(HyperAggVectorizer(d_model=16), Ridge()).fit(texts, lengths)
    assert pipeline.predict(test).shape == (len(test),)
    plain = HyperAggVectorizer(d_model=16).fit(texts)
    assert np.array_equal(pipeline[0].transform(test), plain.transform(test))


def test_an_unfitted_estimator_says_so():
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(HyperAggClassifier(), method)(["a film"])
    with pytest.raises(NotFittedError):
        HyperAggVectorizer().transform(["a film"])


def test_a_single_str_is_refused():
    texts, labels = ["good film", "bad film"] * 20, ["yes", "no"] * 20
    fitted = HyperAggClassifier(**FAST).fit(texts, labels)
    vectorizer = HyperAggVectorizer(d_model=8).fit(texts)
    calls = (fitted.predict, fitted.predict_proba, vectorizer.transform, vectorizer.fit)
    for call in (*calls, lambda text: fitted.fit(text, labels)):
        with pytest.raises(TypeError, match="X: expected a list of str, got a single str"):
            call("a good film")
