"""Invalid arguments of `TextClassifier` raise one line; every kind of column is accepted."""

from __future__ import annotations

import json
from enum import Enum

import numpy as np
import pytest

from hyperagg import TextClassifier
from hyperagg.classifier import load_predictor

csr_matrix = pytest.importorskip("scipy.sparse").csr_matrix

TEXTS = ["a dull film", "a fine film"] * 10
LABELS = ["bad", "good"] * 10
NAN = float("nan")


def classifier(**config):
    return TextClassifier(**{"d_model": 4, "epochs": 3, **config})


@pytest.fixture(scope="module")
def trained():
    return classifier().fit(TEXTS, LABELS)


class Verdict(str, Enum):  # noqa: UP042 (a StrEnum is not the same)
    BAD = "bad"
    GOOD = "good"


class Column:
    """A column like those of pandas: it has a length, is iterable, and is indexed by names."""

    def __init__(self, values):
        self.values = dict(zip("abcdefghijklmnopqrst", values))

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values.values())

    def __getitem__(self, key):
        return self.values[key]


BAD_ROWS = {
    "str for texts": (
        "a dull film",
        LABELS,
        TypeError,
        "X: expected a list of str, got a single str",
    ),
    "str for labels": (["a", "b"], "ab", TypeError, "y: expected a list, got a single str"),
    "bytes for texts": (b"ab", LABELS, TypeError, "X: expected a list of str, got bytes"),
    "dict for texts": (dict(zip("ab", "xy")), ["x", "y"], TypeError, "X: .* got dict"),
    "set for labels": (["a", "b"], {"x", "y"}, TypeError, "y: .* got set"),
    "None for texts": (None, LABELS, TypeError, "X: .* got NoneType"),
    "number for labels": (TEXTS, 7, TypeError, "y: .* got int"),
    "fewer labels": (TEXTS, LABELS[:-1], ValueError, "y: expected one label .* got 19 for 20"),
    "more labels": (TEXTS, [*LABELS, "bad"], ValueError, "y: expected one label .* got 21 for 20"),
    "empty": ([], [], ValueError, "X: expected at least one text, got none"),
    "one class": (["a", "b"], ["x", "x"], ValueError, "y: .* two distinct labels, got only 'x'"),
    "missing text": (["a", NAN], ["x", "y"], TypeError, r"X\[1\]: expected str, got float"),
    "null text": (["a", None], ["x", "y"], TypeError, r"X\[1\]: expected str, got NoneType"),
    "text of bytes": (["a", b"b"], ["x", "y"], TypeError, r"X\[1\]: .*bytes \(b'b'\)"),
    "split texts": ([["a"] * 9000, ["b"]], ["x", "y"], TypeError, r"X\[0\]: .*list"),
    "float labels": (["a", "b"], [1.0, 2.0], TypeError, r"y\[0\]: .* got float \(1.0\)"),
    "NaN label": (["a", "b"], ["x", NAN], TypeError, r"y\[1\]: .* got float \(nan\)"),
    "null label": (["a", "b"], ["x", None], TypeError, r"y\[1\]: .* NoneType"),
    "mixed kinds": (["a", "b"], [["x"], "y"], TypeError, r"y\[1\]: expected a list of labels"),
    "one-hot labels": (["a", "b"], np.eye(2), TypeError, "y: .* labels of each text as a list"),
    "indicator matrix": (["a", "b"], np.eye(2, dtype=int), TypeError, r"y: .* of shape \(2, 2\)"),
    "sparse matrix": (["a", "b"], csr_matrix(np.eye(2, dtype=int)), TypeError, r"y: .* \(2, 2\)"),
    "column vector": (["a", "b"], np.array([["x"], ["y"]]), TypeError, r"y: .* of shape \(2, 1\)"),
    "bool labels": (["a", "b"], [True, False], TypeError, r"y\[0\]: .*str or int.* got bool"),
    "array of bool": (["a", "b"], np.array([True, False]), TypeError, r"y\[0\]: .* got bool"),
    "lists of bool": (["a", "b"], [[True], [False]], TypeError, r"y\[0\]: .* got bool"),
    "0-d array": (np.array("a"), ["x"], TypeError, "X: expected a list of str, got a 0-d array"),
    "float array": (["a", "b"], np.array([0.0, 1.0]), TypeError, r"y\[0\]"),
    "swapped": ([1, 2], ["a", "b"], TypeError, r"X\[0\]: expected str, got int"),
    "2-D array": (np.array([["a"], ["b"]]), ["x", "y"], TypeError, r"X: .* name the column"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_invalid_training_data_is_named(case):
    texts, labels, kind, message = BAD_ROWS[case]
    with pytest.raises(kind, match=message) as error:
        classifier().fit(texts, labels)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("case", [case for case in BAD_ROWS if case != "one class"])
def test_invalid_evaluation_data_is_named(trained, case):
    texts, labels, kind, message = BAD_ROWS[case]
    with pytest.raises(kind, match=message):
        trained.evaluate(texts, labels)


BAD_TEXTS = [None, 3, [None], [["a", "film"]], {"a": "film"}, np.eye(2), np.array("film")]


@pytest.mark.parametrize("texts", BAD_TEXTS)
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_invalid_texts_are_named(trained, method, texts):
    with pytest.raises(TypeError, match="X"):
        getattr(trained, method)(texts)


def test_an_unseen_label_counts_as_an_error(trained):
    wrong = "bad" if trained.predict("a film") == "good" else "good"
    found = trained.evaluation(["a film", "b"], [wrong, "odd"])
    assert found.metrics["accuracy"] == 0 and found.unknown_labels == {"odd": 1}
    with pytest.raises(ValueError, match=r"y\[1\]: the label 'odd' did not occur .*'bad', 'good'"):
        trained.fit(["good film", "bad"], ["good", "bad"], validation=(["a", "b"], ["good", "odd"]))


OTHER_KINDS = {
    "tuples": (tuple(TEXTS), tuple(LABELS)),
    "arrays": (np.array(TEXTS), np.array(LABELS)),
    "arrays of objects": (np.array(TEXTS, object), np.array(LABELS, object)),
    "columns": (Column(TEXTS), Column(LABELS)),
}


@pytest.mark.parametrize("library", ["pandas", "pyarrow", "polars"])
def test_columns_of_data_frames_are_accepted_and_tables_refused(trained, library):
    module, data = pytest.importorskip(library), {"text": TEXTS, "label": LABELS}
    frame = module.table(data) if library == "pyarrow" else module.DataFrame(data)
    other = classifier().fit(frame["text"], frame["label"])
    assert np.array_equal(other.model_.embedding, trained.model_.embedding)
    assert other.predict(frame["text"]) == trained.predict(TEXTS)
    with pytest.raises(TypeError, match=r"X: expected one column.*name the column, as in table"):
        other.predict(frame)
    with pytest.raises(TypeError, match="y: expected one column"):
        classifier().fit(frame["text"], frame)


def test_a_column_of_lists_is_multi_label():
    pyarrow = pytest.importorskip("pyarrow")
    labels = pyarrow.array([[label] for label in LABELS])
    assert classifier().fit(TEXTS, labels).multi_label_


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "torch"])
def test_columns_of_integers_give_plain_labels(library):
    module = pytest.importorskip(library)
    labels = [0, 1] * 10
    make = {"pandas": "Series", "polars": "Series", "pyarrow": "array", "torch": "tensor"}[library]
    column = getattr(module, make)(labels)
    made = classifier().fit(TEXTS, column)
    assert made.predict(TEXTS) == labels
    assert made.evaluate(TEXTS, column)["accuracy"] == 1


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "torch", "numpy"])
def test_rows_of_labels_of_any_library_are_multi_label(library):
    module = pytest.importorskip(library)
    rows = [[0, 2], [1, 2]] * 10
    if library == "torch":
        labels = [module.tensor(row) for row in rows]
    elif library == "numpy":
        labels = [np.array(row) for row in rows]
    else:
        labels = module.array(rows) if library == "pyarrow" else module.Series(rows)
    made = classifier().fit(TEXTS, labels)
    assert made.multi_label_ and made.classes_ == [0, 1, 2]


@pytest.mark.parametrize("kind", [list, np.array, tuple])
def test_lists_of_indicators_are_refused_with_the_remedy(kind):
    """They used to read as lists of the labels 0 and 1."""
    rows = [kind([1, 0, 0]), kind([0, 1, 1])] * 10
    if kind is tuple:
        rows = list(map(list, rows))
    with pytest.raises(TypeError, match=r"y: .* got rows of 3 indicators; use \[\[c for c, on"):
        classifier().fit(TEXTS, rows)


def test_a_member_of_an_enumeration_is_its_value(tmp_path):
    """The class of a (str, Enum) used to be called "Verdict.GOOD"."""
    labels = [Verdict(label) for label in LABELS]
    made = classifier().fit(TEXTS, labels, class_weight={Verdict.GOOD: 2})
    assert made.classes_ == ["bad", "good"] and made.class_weight_ == {"good": 2.0}
    assert made.evaluate(TEXTS, labels)["accuracy"] == 1
    made.save_pretrained(tmp_path)
    assert TextClassifier.from_pretrained(tmp_path).predict(TEXTS) == LABELS


@pytest.mark.parametrize(
    ("first", "second"), [(1, "1"), ("good", "good "), ("good", "\tgood"), ("1 ", 1)]
)
def test_two_labels_that_read_the_same_are_refused(trained, first, second):
    with pytest.raises(ValueError, match=r"y: the labels .* and .* read the same"):
        classifier().fit(TEXTS, [first, second] * 10)
    with pytest.raises(ValueError, match="y: the labels 'good' and 'good ' read the same"):
        trained.partial_fit(TEXTS, ["bad", "good "] * 10)


@pytest.mark.parametrize(
    ("classes", "written", "expected"),
    [
        ([0, 1], ["1", "1.0", " 0", "0.00"], [1, 1, 0, 0]),
        ([0, 1], [["1", " 0"], (), ["1.0"]], [(1, 0), (), (1,)]),
        (["0", "1"], [1, "1.0"], ["1", "1"]),
        (["false", "true"], ["True", "FALSE", "true "], ["true", "false", "true"]),
        (["False", "True"], ["true", "False"], ["True", "False"]),
        (["earn", "acq"], ["earn ", "other"], ["earn", "other"]),
        (["1", "1.0"], ["1", "1.0", "1.00"], ["1", "1.0", "1.00"]),
    ],
)
def test_labels_of_files_are_those_that_read_the_same(classes, written, expected):
    made = classifier().fit(TEXTS, classes * 10)
    assert made.parse_labels(written) == expected


def test_a_label_of_another_type_is_named_with_the_class_that_reads_the_same():
    made = classifier().fit(TEXTS, ["0", "1"] * 10)
    with pytest.raises(ValueError, match=r"y: the label 1 did not .* converts it to '1'$"):
        made.evaluate(["a film"], [1])


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_sequences_give_the_same_classifier(trained, kind):
    texts, labels = OTHER_KINDS[kind]
    other = classifier().fit(texts, labels)
    assert np.array_equal(other.model_.embedding, trained.model_.embedding)
    assert other.classes_ == ["bad", "good"]
    assert all(type(label) is str for label in other.predict(texts))
    assert other.evaluate(texts, labels) == trained.evaluate(TEXTS, LABELS)


def test_generators_are_read_once(trained):
    other = classifier().fit((text for text in TEXTS), map(str, LABELS))
    assert np.array_equal(other.model_.embedding, trained.model_.embedding)
    assert other.predict(text for text in TEXTS) == LABELS
    assert other.evaluate(iter(TEXTS), iter(LABELS))["accuracy"] == 1


@pytest.mark.parametrize("kind", [np.int64, np.uint8, int, np.str_])
def test_labels_come_back_as_plain_values_and_can_be_saved(kind, tmp_path):
    labels = [kind(i % 2) for i in range(20)]
    made = classifier().fit(TEXTS, labels)
    made.save_pretrained(tmp_path)
    read = TextClassifier.from_pretrained(tmp_path)
    plain = str if kind is np.str_ else int
    assert read.classes_ == made.classes_ == [plain(0), plain(1)]
    assert read.predict(TEXTS) == [plain(label) for label in labels]
    assert json.loads((tmp_path / "config.json").read_text())["classes"] == [plain(0), plain(1)]


def test_an_empty_list_is_accepted(trained):
    assert trained.predict([]) == []
    assert trained.predict_proba([]).shape == (0, 2)


def test_texts_without_a_known_word_are_accepted(trained):
    texts = ["", " \n", "\0", "\ud800", "\u200b", "zzz", "x" * 1_000_000]
    assert set(trained.predict(texts)) <= {"bad", "good"}
    np.testing.assert_allclose(trained.predict_proba(texts).sum(1), 1, rtol=1e-5)
    classifier().fit(texts + TEXTS, ["odd"] * 7 + LABELS)
    classifier().fit(["", ""], ["a", "b"])  # hopeless, but no reason to fail


BAD_SETTINGS = {
    "zero": (dict(d_model=0), ValueError, "d_model=0: expected an integer from 1"),
    "None": (dict(d_model=None), TypeError, "d_model=None: expected an integer"),
    "bool": (dict(d_model=True), TypeError, "d_model=True: expected an integer"),
    "too large": (dict(d_model=2**40), ValueError, "d_model=1099511627776: expected"),
    "fraction of an epoch": (dict(epochs=0.5), TypeError, "epochs=0.5: expected an integer >= 1"),
    "epochs as text": (dict(epochs="ten"), TypeError, "epochs='ten': expected an integer >= 1"),
    "negative rate": (dict(learning_rate=-1), ValueError, "learning_rate=-1: expected .* > 0"),
    "NaN rate": (dict(learning_rate=NAN), ValueError, "learning_rate=nan"),
    "infinite rate": (dict(learning_rate=float("inf")), ValueError, "learning_rate=inf"),
    "rate as text": (dict(learning_rate="0.1"), TypeError, "learning_rate='0.1'"),
    "full smoothing": (dict(label_smoothing=1), ValueError, "label_smoothing=1: .* < 1"),
    "all held out": (dict(validation_fraction=1.0), ValueError, "validation_fraction=1.0"),
    "no fraction": (dict(validation_fraction=None), TypeError, "validation_fraction=None"),
    "unknown pooling": (
        dict(pooling="max"),
        ValueError,
        'pooling=\'max\': expected one of "harmonic", "mean"',
    ),
    "number for a flag": (dict(refit=1), TypeError, "refit=1: expected True or False"),
    "no threads": (dict(threads=0), ValueError, "threads=0: expected an integer >= 1"),
    "name of a tokenizer": (dict(tokenizer="bert"), TypeError, "tokenizer: expected .* got str"),
    "misspelled": (dict(epoch=3), TypeError, "epoch"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_invalid_settings_are_named(case):
    config, kind, message = BAD_SETTINGS[case]
    with pytest.raises(kind, match=message):
        TextClassifier(**config)


def test_numbers_of_numpy_are_accepted_and_saved(tmp_path):
    made = classifier(
        d_model=np.int64(4),
        epochs=np.uint8(2),
        learning_rate=np.float32(0.01),
        validation_fraction=np.float64(0.25),
        refit=np.bool_(False),
        threads=np.int32(1),
    )
    made.fit(TEXTS, LABELS).save_pretrained(tmp_path)
    assert TextClassifier.from_pretrained(tmp_path).config == made.config


UNSAVABLE = {
    "many bits": (2**70, "y: expected an int of at most 64 bits"),
    "many characters": ("x" * 65_537, "y: expected at most 65,536 characters, got 65,537"),
    "a surrogate": ("\ud800", r"y: '\\ud800' has a surrogate"),
}


@pytest.mark.parametrize("case", UNSAVABLE)
def test_labels_that_no_file_can_hold_are_refused(trained, case):
    label, message = UNSAVABLE[case]
    for labels in ([label, "good"], [[label], ["good"]]):
        with pytest.raises(ValueError, match=message):
            classifier().fit(["a film", "b film"], labels)
    with pytest.raises(ValueError, match=message):
        trained.partial_fit(["a film", "b film"], [label, "good"])


def test_labels_at_the_limits_are_saved_and_loaded(tmp_path):
    labels = [2**64 - 1, -(2**63), "x" * 65_536, "\U0001f600"]
    classifier(refit=False).fit(list("abcd") * 5, labels * 5).save_pretrained(tmp_path)
    assert set(TextClassifier.from_pretrained(tmp_path).classes_) == set(labels)


@pytest.mark.parametrize("name", ["max_tokens", "epochs", "threads", "learning_rate"])
def test_numbers_that_no_array_can_hold_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name}=.*: expected"):
        classifier(**{name: 10**400})


def test_the_largest_number_of_tokens_reads_all(trained):
    made = classifier(max_tokens=2**63 - 1).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(made.logits(TEXTS), trained.logits(TEXTS))


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", None, True])
def test_invalid_seeds_are_named(seed):
    with pytest.raises(ValueError, match=r"seed=.*: expected an integer from 0 to"):
        classifier().fit(TEXTS, LABELS, seed=seed)


def test_a_seed_may_be_a_numpy_integer(trained):
    other = classifier().fit(TEXTS, LABELS, seed=np.int64(0))
    assert np.array_equal(other.model_.embedding, trained.model_.embedding)


BAD_VALIDATION = {
    "not a pair": (TEXTS, TypeError, "validation: expected a pair"),
    "str": (
        ("a film", ["bad"]),
        TypeError,
        "validation X: expected a list of str, got a single str",
    ),
    "unequal": (
        (["a", "b"], ["bad"]),
        ValueError,
        "validation y: expected one label .* got 1 for 2",
    ),
    "float label": ((["a"], [1.0]), TypeError, r"validation y\[0\]: .* got float"),
    "indicator matrix": ((["a"], np.eye(1, 2, dtype=int)), TypeError, "validation y: .* 2-D table"),
    "bool label": ((["a"], [True]), TypeError, r"validation y\[0\]: .* got bool"),
    "unseen label": ((["a"], ["odd"]), ValueError, r"validation y\[0\]: the label 'odd'"),
}


@pytest.mark.parametrize("case", BAD_VALIDATION)
def test_invalid_validation_data_is_named(case):
    validation, kind, message = BAD_VALIDATION[case]
    with pytest.raises(kind, match=message):
        classifier().fit(TEXTS, LABELS, validation=validation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(callbacks=print), "callbacks: expected a list of functions"),
        (dict(callbacks=[3]), "callbacks: expected a list of functions"),
        (dict(progress="no"), "progress='no': expected True or False"),
        (dict(resume="yes"), "resume='yes': expected True or False"),
        (dict(checkpoint=3), "checkpoint=3: expected a str or a path"),
        (dict(vectors=3), "vectors=3: expected a str or a path"),
    ],
)
def test_invalid_arguments_of_fit_are_named(arguments, message):
    with pytest.raises(TypeError, match=message):
        classifier().fit(TEXTS, LABELS, **arguments)


def test_a_folder_is_not_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"^checkpoint: .* is a folder; expected a file$"):
        classifier().fit(TEXTS, LABELS, checkpoint=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_number_is_not_a_folder(trained):
    with pytest.raises(TypeError, match=r"^folder=3: expected a str or a path$"):
        TextClassifier.from_pretrained(3)
    with pytest.raises(TypeError, match=r"^folder=3: expected a str or a path$"):
        trained.save_pretrained(3)
    for load in (TextClassifier.from_pretrained, load_predictor, trained.save_pretrained):
        with pytest.raises(ValueError, match=r"^folder='': expected a str that is not empty"):
            load("")
    with pytest.raises(ValueError, match=r"^file='': expected a str that is not empty"):
        TextClassifier.from_fasttext("")
    with pytest.raises(TypeError, match=r"^file=3: expected a str or a path"):
        TextClassifier.from_fasttext(3)


@pytest.mark.parametrize("X", [3, None, b"a film", {"a film"}])
def test_what_predict_accepts_is_named(trained, X):
    for method in (trained.predict, trained.predict_proba, trained.predictor.logits):
        with pytest.raises(TypeError, match=r"^X: expected a str or a list of str, got \w+$"):
            method(X)


def test_resume_needs_a_checkpoint():
    with pytest.raises(ValueError, match="resume=True: expected the checkpoint"):
        classifier().fit(TEXTS, LABELS, resume=True)


def test_an_invalid_argument_leaves_the_classifier_unchanged():
    made = classifier().fit(TEXTS, LABELS)
    before = made.predict_proba(TEXTS)
    for texts, labels in ((TEXTS, ["x"] * 20), (TEXTS, [1.0] * 20), ([None], ["x"])):
        with pytest.raises((TypeError, ValueError)):
            made.fit(texts, labels)
        np.testing.assert_array_equal(made.predict_proba(TEXTS), before)


def test_a_failed_training_leaves_an_unfitted_classifier():
    made = classifier(learning_rate=1e30)
    with pytest.raises(ValueError, match="learning_rate"):
        made.fit(TEXTS, LABELS)
    with pytest.raises(ValueError, match="not fitted"):
        made.predict(TEXTS)


@pytest.mark.parametrize("rate", [1e3, 1e10, 1e20, 1e30, 1e38])
def test_a_rate_that_is_too_high_never_gives_a_model_of_nans(rate):
    made = classifier(learning_rate=rate, epochs=1)
    try:
        made.fit(TEXTS, LABELS)
    except ValueError as error:
        assert "learning_rate" in str(error)
    else:
        assert np.isfinite(made.predict_proba(TEXTS)).all()


@pytest.mark.parametrize("act", ["predict", "predict_proba"])
def test_an_unfitted_classifier_says_so(act, tmp_path):
    with pytest.raises(ValueError, match="not fitted; call fit"):
        getattr(classifier(), act)(["a"])
    with pytest.raises(ValueError, match="not fitted; call fit"):
        classifier().evaluate(["a"], ["b"])
    with pytest.raises(ValueError, match="not fitted; call fit"):
        classifier().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("labels", [np.eye(20, 2, dtype=int), [True, False] * 10])
def test_invalid_labels_are_refused_by_partial_fit(trained, labels):
    with pytest.raises(TypeError, match="y"):
        trained.partial_fit(TEXTS, labels)


def test_repr_shows_the_arguments_that_differ_from_the_defaults():
    assert repr(TextClassifier()) == "TextClassifier()"
    made = TextClassifier(pooling="mean", d_model=8, threads=2)
    assert repr(made) == "TextClassifier(d_model=8, pooling='mean', threads=2)"


def test_repr_of_a_tokenizer_is_cut():
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {f"word{i}": i for i in range(1000)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "word0"))
    shown = repr(TextClassifier(tokenizer=made, d_model=8))
    assert shown.startswith("TextClassifier(tokenizer=") and shown.endswith("d_model=8)")
    assert len(shown) < 300


@pytest.mark.parametrize("weight", [1e300, 1e-300, 1e7, 0, -1])
def test_a_class_weight_out_of_range_is_named(weight):
    """A weight of 1e300 used to be reported as a learning rate that is too high."""
    with pytest.raises(ValueError, match=r"^class_weight\['bad'\]=.*: expected a finite number >="):
        classifier().fit(TEXTS, LABELS, class_weight={"bad": weight})


@pytest.mark.parametrize("weight", [1e6, 1e-6])
def test_class_weights_at_the_limits_can_be_learned_from(weight):
    options = dict(class_weight={"bad": weight}, sample_weight=[1e6, 1] * 10)
    assert np.isfinite(classifier().fit(TEXTS, LABELS, **options).predict_proba(TEXTS)).all()
