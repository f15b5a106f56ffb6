"""The contract of TextClassifier: fit, predict, evaluate, save and load."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score

import hyperagg
from hyperagg.classifier.training import loop

ROOT = Path(__file__).parents[2]
SMALL = dict(d_model=32, epochs=8)
TEXTS, LABELS = ["good film", "bad film", "fine film"] * 20, ["yes", "no", "yes"] * 20


@pytest.fixture(scope="module")
def r8():
    return hyperagg.load_dataset("r8")


@pytest.fixture(scope="module")
def trained(r8):
    clf = hyperagg.TextClassifier(**SMALL)
    return clf.fit(r8.train.texts[::4], r8.train.labels[::4], seed=0)


@pytest.fixture(scope="module")
def tiny():
    return hyperagg.TextClassifier(d_model=8, epochs=4).fit(TEXTS, LABELS)


def equal_parameters(a, b):
    return all(np.array_equal(a.model_.arrays[k], b.model_.arrays[k]) for k in a.model_.arrays)


def test_learns_newswires_far_above_chance(r8, trained):
    scores = trained.evaluate(r8.test.texts, r8.test.labels)
    assert scores.keys() == {"accuracy", "macro_f1", "expected_calibration_error"}
    assert scores["accuracy"] > 0.92  # always predicting "earn" reaches 0.49
    assert scores["macro_f1"] > 0.75
    history = trained.history_
    assert len(history.validation_loss) == len(history.validation_score) == 8
    assert history.best_epoch >= 7 - np.argmax(history.validation_score[::-1])


def test_predictions_probabilities_and_metrics_agree(r8, trained):
    texts, labels = r8.test.texts[:200], r8.test.labels[:200]
    probabilities = trained.predict_proba(texts)
    assert probabilities.shape == (200, len(trained.classes_))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert trained.classes_ == sorted(set(r8.train.labels))
    predicted = [trained.classes_[c] for c in probabilities.argmax(1)]
    assert trained.predict(texts) == predicted
    scores = trained.evaluate(texts, labels)
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    expected = f1_score(labels, predicted, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(expected)


def test_a_single_string_gives_a_single_answer(r8, trained):
    text = r8.test.texts[0]
    assert trained.predict(text) == trained.predict([text])[0]
    np.testing.assert_array_equal(trained.predict_proba(text), trained.predict_proba([text])[0])
    np.testing.assert_array_equal(trained.logits(text), trained.logits([text])[0])
    assert trained.predict(text, top_k=2) == trained.predict([text], top_k=2)[0]


def test_top_k_and_threshold(r8, trained):
    texts = r8.test.texts[:50]
    probabilities = trained.predict_proba(texts)
    for row, pairs in zip(probabilities, trained.predict(texts, top_k=np.int64(3))):
        expected = np.argsort(-row, kind="stable")[:3]
        assert [label for label, _ in pairs] == [trained.classes_[c] for c in expected]
        assert [p for _, p in pairs] == [float(row[c]) for c in expected]
    assert all(len(pairs) == len(trained.classes_) for pairs in trained.predict(texts, top_k=99))
    for row, labels in zip(probabilities, trained.predict(texts, threshold=0.2)):
        ranked = [trained.classes_[c] for c in np.argsort(-row, kind="stable") if row[c] > 0.2]
        assert labels == ranked
    both = trained.predict(texts, top_k=1, threshold=0.6)
    assert {len(pairs) for pairs in both} <= {0, 1}
    assert all(p > 0.6 for pairs in both for _, p in pairs)
    assert trained.predict("", threshold=1) == []


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (dict(top_k=0), ValueError, "top_k=0: expected an integer >= 1"),
        (dict(top_k=1.5), TypeError, "top_k=1.5: expected an integer >= 1"),
        (dict(top_k=True), TypeError, "top_k=True: expected an integer"),
        (dict(threshold=1.1), ValueError, "threshold=1.1: expected a finite number >= 0 and <= 1"),
        (dict(threshold="0.5"), TypeError, "threshold='0.5': expected a finite number"),
    ],
)
def test_invalid_arguments_of_predict_are_named(tiny, arguments, kind, message):
    with pytest.raises(kind, match=message):
        tiny.predict(["good"], **arguments)


def test_save_and_load_are_bit_exact(trained, r8, tmp_path):
    trained.save_pretrained(tmp_path / "model")
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "training.safetensors",
    ]
    again = hyperagg.TextClassifier.from_pretrained(tmp_path / "model")
    assert np.array_equal(again.predict_proba(r8.test.texts), trained.predict_proba(r8.test.texts))
    assert again.config == trained.config and again.history_ == trained.history_
    again.save_pretrained(tmp_path / "again")
    for name in names:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("model", "again"))
        assert first == second or name == "README.md"  # which has the name of the folder
    assert "held-out training texts: " in (tmp_path / "model" / "README.md").read_text()


def test_the_arrays_of_a_saved_model(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == {"embedding", "positions", "weight", "bias"}
    for name, array in trained.model_.arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(saved[name], array)
    state = load_file(tmp_path / "training.safetensors")
    assert state.keys() == {
        "optimizer.embedding",
        "optimizer.positions",
        "optimizer.weight",
        "optimizer.bias",
        "lr_scale",
        "token_counts",
        "label_counts",
    }


def test_a_folder_of_the_previous_format_is_refused_in_one_line(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format_version": 2}))
    with pytest.raises(ValueError, match=r"format version 2 .* train the model again") as error:
        hyperagg.TextClassifier.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


DAMAGES = {
    "missing key": (lambda c: c.pop("d_model"), "d_model is missing"),
    "unknown key": (lambda c: c.update(mixer="lstm"), "'mixer' is not a known key"),
    "huge dimension": (lambda c: c.update(d_model=10**12), "d_model=.*expected"),
    "duplicate class": (lambda c: c.update(classes=["no", "no"]), "classes: expected"),
    "class of a wrong type": (lambda c: c.update(classes=["no", None]), "classes: expected"),
    "more classes": (lambda c: c.update(classes=["a", "b", "c"]), "tensor weight is"),
    "class of many bits": (lambda c: c.update(classes=["no", 2**70]), "classes: .* 64 bits"),
    "max_tokens of many bits": (lambda c: c.update(max_tokens=2**70), "damaged .*max_tokens="),
    "text for a flag": (lambda c: c.update(multi_label="no"), "multi_label='no'"),
    "infinite loss": (
        lambda c: c["history"].update(loss=[float("inf")]),
        "Infinity: expected a finite number",
    ),
    "no temperature": (lambda c: c["history"].update(temperature=0), "history.temperature=0"),
    "history is a list": (lambda c: c.update(history=[]), r"history=\[\]"),
    "unknown weight": (lambda c: c.update(class_weight=[["maybe", 1]]), "class_weight"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_config_is_refused_in_one_line(tiny, tmp_path, case):
    damage, message = DAMAGES[case]
    tiny.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    damage(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as error:
        hyperagg.TextClassifier.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("replaced", ["model.safetensors", "tokenizer.json", "config.json"])
def test_files_of_two_models_are_refused_whatever_their_shapes(tmp_path, replaced):
    for name, texts, labels in (("a", "oil gold", "up down"), ("b", "gold rain", "down good")):
        clf = hyperagg.TextClassifier(d_model=2, epochs=1, features="words")
        clf.fit(texts.split() * 9, labels.split() * 9).save_pretrained(tmp_path / name)
    shutil.copy(tmp_path / "b" / replaced, tmp_path / "a" / replaced)
    for load in (hyperagg.load_predictor, hyperagg.TextClassifier.from_pretrained):
        with pytest.raises(ValueError, match=r"model.safetensors: damaged .*belongs to another"):
            load(tmp_path / "a")


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_parameters_that_are_not_finite_are_refused_as_damaged(tiny, tmp_path, quantized, value):
    tiny.save_pretrained(tmp_path)
    clf = hyperagg.TextClassifier.from_pretrained(tmp_path)
    if quantized:
        clf.quantize().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    arrays = load_file(file)
    for name in ("weight", "embedding.scales" if quantized else "embedding"):
        changed = arrays[name].astype(np.float64)
        changed.flat[0] = value
        save_file(arrays | {name: changed}, file, {"format": "pt"})
        with pytest.raises(ValueError, match=f"damaged .*{name} holds values that are not finite"):
            hyperagg.TextClassifier.from_pretrained(tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_bits(r8, trained, threads):
    for seed, same in ((0, True), (1, False)):
        other = hyperagg.TextClassifier(**SMALL, threads=threads)
        other.fit(r8.train.texts[::4], r8.train.labels[::4], seed=seed)
        assert equal_parameters(other, trained) == same


HASH_SEED_SCRIPT = """
import zlib
import numpy as np
from hyperagg import TextClassifier

rng = np.random.default_rng(0)
texts = [" ".join(map(str, rng.integers(0, 50, 12))) for _ in range(200)]
labels = [{name for name in ("a", "b", "c", "d") if rng.random() < 0.4} for _ in texts]
weight = {"a": 2.0, "c": 0.5}
clf = TextClassifier(d_model=8, epochs=3).fit(texts, labels, class_weight=weight)
print([zlib.crc32(array.tobytes()) for array in clf.model_.arrays.values()])
"""


def test_the_hash_seed_changes_no_bit():
    """A set of labels used to be taken in the order that the hash seed gave it."""
    printed = set()
    for hash_seed in "123":
        done = subprocess.run(
            [sys.executable, "-c", HASH_SEED_SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        printed.add(done.stdout)
    assert len(printed) == 1


def test_labels_keep_their_type(tmp_path):
    texts = ["good", "bad", "fine"] * 20
    for labels in ([2, 0, 10], ["2", "0", "10"], np.array([2, 0, 10])):
        clf = hyperagg.TextClassifier(**SMALL).fit(texts, [labels[i % 3] for i in range(60)])
        clf.save_pretrained(tmp_path)
        again = hyperagg.TextClassifier.from_pretrained(tmp_path)
        assert again.predict(["good", "bad", "fine"]) == list(labels)
        assert type(again.classes_[0]) is (str if isinstance(labels[0], str) else int)
    assert clf.classes_ == [0, 2, 10]


def test_a_given_tokenizer_is_used_and_saved(r8, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    texts, labels = r8.train.texts[:800], r8.train.labels[:800]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, special_tokens=["[UNK]"], show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    clf = hyperagg.TextClassifier(tokenizer=backend, **SMALL).fit(texts, labels)
    assert len(clf.model_.embedding) == backend.get_vocab_size()
    clf.save_pretrained(tmp_path)
    again = hyperagg.TextClassifier.from_pretrained(tmp_path)
    assert np.array_equal(again.predict_proba(texts[:9]), clf.predict_proba(texts[:9]))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["type"] == "BPE"


def test_a_given_tokenizer_does_not_pad():
    tokenizers = pytest.importorskip("tokenizers")
    texts, labels = ["a good film", "bad film", "fine"] * 20, ["good", "bad", "fine"] * 20
    words = sorted({word for text in texts for word in text.split()})
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(["[UNK]", *words])}, "[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.enable_padding(pad_id=1, pad_token=words[0])
    clf = hyperagg.TextClassifier(tokenizer=backend, **SMALL).fit(texts, labels)
    alone = clf.predict_proba([texts[0]])[0]
    beside = clf.predict_proba([texts[0], " ".join(texts)])[0]
    np.testing.assert_array_equal(alone, beside)
    assert len(clf.explain(texts[0]).tokens) == len(texts[0].split())
    assert backend.padding is not None  # the given tokenizer is left as it is


def test_long_texts_are_not_truncated(trained):
    filler = "the " * 5_000
    plain, ended = trained.predict_proba([filler, filler + "crude oil opec barrel " * 500])
    assert np.abs(plain - ended).max() > 0.1


def test_texts_may_be_empty_or_unknown(trained):
    probabilities = trained.predict_proba(["", "zzzzqqq", "   "])
    assert np.isfinite(probabilities).all()
    np.testing.assert_array_equal(probabilities[0], probabilities[2])
    assert trained.predict([]) == []


def test_validation_data_may_be_given(r8):
    part = slice(0, 400)
    clf = hyperagg.TextClassifier(**SMALL).fit(
        r8.train.texts[part],
        r8.train.labels[part],
        validation=(r8.train.texts[400:500], r8.train.labels[400:500]),
    )
    accuracy = clf.evaluate(r8.train.texts[400:500], r8.train.labels[400:500])["accuracy"]
    history = clf.history_
    assert accuracy == pytest.approx(history.validation_score[history.best_epoch])


def test_equal_sample_weights_change_no_bit():
    plain = hyperagg.TextClassifier(d_model=8, epochs=4).fit(TEXTS, LABELS)
    weighted = hyperagg.TextClassifier(d_model=8, epochs=4)
    weighted.fit(TEXTS, LABELS, sample_weight=np.ones(60))
    assert equal_parameters(plain, weighted)
    labels = [[label] for label in LABELS]
    plain = hyperagg.TextClassifier(d_model=8, epochs=4).fit(TEXTS, labels)
    weighted = hyperagg.TextClassifier(d_model=8, epochs=4)
    weighted.fit(TEXTS, labels, sample_weight=[1] * 60)
    assert equal_parameters(plain, weighted)


@pytest.mark.parametrize("multi_label", [False, True])
def test_texts_of_small_weight_hardly_count(multi_label):
    texts, labels = ["a word"] * 80, ["yes", "no"] * 40
    if multi_label:
        labels = [[label] for label in labels]
    weight = [1.0, 0.01] * 40
    clf = hyperagg.TextClassifier(d_model=8, validation_fraction=0)
    clf.fit(texts, labels, sample_weight=weight)
    no, yes = clf.predict_proba("a word")
    assert yes > no + 0.3
    clf.fit(texts, labels, sample_weight=weight[::-1])
    no, yes = clf.predict_proba("a word")
    assert no > yes + 0.3


def test_partial_fit_takes_sample_weights():
    texts, labels = ["a word"] * 80, ["yes", "no"] * 40
    clf = hyperagg.TextClassifier(d_model=8, validation_fraction=0).fit(texts, labels)
    before = clf.predict_proba("a word")[1]
    clf.partial_fit(texts, labels, epochs=20, sample_weight=[1.0, 0.0] * 40)
    assert clf.predict_proba("a word")[1] > before + 0.05


@pytest.mark.parametrize(
    ("weight", "kind", "message"),
    [
        ([1.0], ValueError, "sample_weight: expected one number per text, got 1 for 60"),
        (
            [[1.0]] * 60,
            ValueError,
            r"sample_weight: expected one number per text, got shape \(60, 1\)",
        ),
        ([10**400] * 60, TypeError, "sample_weight: expected a list of numbers"),
        ([1.0] * 59 + [-1], ValueError, r"sample_weight\[59\]: expected a number from 0 to 1e\+06"),
        ([float("nan")] + [1.0] * 59, ValueError, r"sample_weight\[0\]: .*got nan"),
        ([0.0] * 60, ValueError, "sample_weight: expected at least one number > 0"),
        (["x"] * 60, TypeError, "sample_weight: expected a list of numbers"),
        (3.0, TypeError, "sample_weight: expected a list"),
    ],
)
def test_invalid_sample_weights_are_named(weight, kind, message):
    with pytest.raises(kind, match=message):
        hyperagg.TextClassifier().fit(TEXTS, LABELS, sample_weight=weight)


def test_callbacks_see_every_chunk(monkeypatch, r8):
    monkeypatch.setattr(loop, "TOKENS_PER_CHUNK", 5_000)
    seen = []
    clf = hyperagg.TextClassifier(d_model=8, epochs=3, refit=False)
    clf.fit(r8.train.texts[:400], r8.train.labels[:400], callbacks=[seen.append])
    assert [p.epoch for p in seen] == sorted(p.epoch for p in seen)
    assert {p.epochs for p in seen} == {3} and len(seen) > 6
    assert seen[-1].fraction == 1
    scores = [p.validation_score for p in seen if p.validation_score is not None]
    assert scores == clf.history_.validation_score
    assert all(p.loss > 0 and p.tokens_per_second > 0 for p in seen)


def test_a_pickle_predicts_the_same(tiny):
    again = pickle.loads(pickle.dumps(tiny))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), tiny.predict_proba(TEXTS))


def test_from_the_hub(trained, tmp_path, monkeypatch):
    trained.save_pretrained(tmp_path)
    calls = []

    def snapshot_download(name, **kwargs):
        calls.append((name, kwargs["revision"], kwargs["token"]))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    load = hyperagg.TextClassifier.from_pretrained
    again = load("someone/newswires", revision="v1", token="secret")
    assert calls == [("someone/newswires", "v1", "secret")]
    assert again.classes_ == trained.classes_


def test_push_to_the_hub(tiny, monkeypatch):
    uploaded = []

    class HfApi:
        def __init__(self, token):
            assert token == "secret"

        def create_repo(self, repo_id, **kwargs):
            uploaded.append(repo_id)

        def upload_folder(self, *, folder_path, **kwargs):
            uploaded.append(sorted(path.name for path in folder_path.iterdir()))
            uploaded.append((folder_path / "README.md").read_text())
            return type("Commit", (), {"commit_url": "https://example/commit"})

    monkeypatch.setattr("huggingface_hub.HfApi", HfApi)
    assert tiny.push_to_hub("someone/films", token="secret") == "https://example/commit"
    assert uploaded[0] == "someone/films" and "config.json" in uploaded[1]
    assert "# films" in uploaded[2]
