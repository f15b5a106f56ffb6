from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import hyperagg

SMALL = dict(d_model=32, epochs=8)


@pytest.fixture(scope="module")
def r8():
    return hyperagg.load_dataset("r8")


@pytest.fixture(scope="module")
def trained(r8):
    clf = hyperagg.TextClassifier(**SMALL)
    return clf.fit(r8.train.texts[::4], r8.train.labels[::4], seed=0)


def test_learns_newswires_far_above_chance(r8, trained):
    scores = trained.evaluate(r8.test.texts, r8.test.labels)
    assert scores["accuracy"] > 0.92  # always "earn" has 0.49
    assert scores["macro_f1"] > 0.75
    assert trained.history_.best_epoch == int(
        7 - np.argmax(trained.history_.validation_score[::-1])
    )


def test_the_contract(r8, trained):
    texts = r8.test.texts[:50]
    probabilities = trained.predict_proba(texts)
    assert probabilities.shape == (50, len(trained.classes_))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert trained.classes_ == sorted(set(r8.train.labels))
    picked = [trained.classes_[c] for c in probabilities.argmax(1)]
    assert trained.predict(texts) == picked
    right = np.mean([a == b for a, b in zip(picked, r8.test.labels)])
    assert trained.evaluate(texts, r8.test.labels[:50])["accuracy"] == pytest.approx(right)


def test_save_and_load_bit_exact(trained, r8, tmp_path):
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
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("model", "again"))
        assert first == second
    assert "0.9" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("mixer", ["attention", "transformer"])
def test_rivals_save_and_load_too(mixer, tmp_path):
    texts, labels = ["up up", "down low", "up high", "low down"] * 5, ["u", "d", "u", "d"] * 5
    clf = hyperagg.TextClassifier(mixer=mixer, **SMALL).fit(texts, labels)
    clf.save_pretrained(tmp_path)
    again = hyperagg.TextClassifier.from_pretrained(tmp_path)
    assert np.array_equal(again.predict_proba(texts), clf.predict_proba(texts))
    assert again.config.max_tokens == 512


def test_the_seed_decides_the_weights(r8, trained, tmp_path):
    for seed, same in ((0, True), (1, False)):
        other = hyperagg.TextClassifier(**SMALL)
        other.fit(r8.train.texts[::4], r8.train.labels[::4], seed=seed)
        equal = all(
            torch.equal(a, b) for a, b in zip(other.model.parameters(), trained.model.parameters())
        )
        assert equal == same


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
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    texts, labels = r8.train.texts[:800], r8.train.labels[:800]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["[UNK]"], show_progress=False)
    backend.train_from_iterator(texts, trainer)
    clf = hyperagg.TextClassifier(tokenizer=backend, **SMALL).fit(texts, labels)
    assert clf.model.embedding.shape[0] == backend.get_vocab_size()
    clf.save_pretrained(tmp_path)
    again = hyperagg.TextClassifier.from_pretrained(tmp_path)
    assert np.array_equal(again.predict_proba(texts[:9]), clf.predict_proba(texts[:9]))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["type"] == "BPE"


def test_no_text_is_cut_in_silence(trained):
    filler = "the " * 5_000
    plain, ended = trained.predict_proba([filler, filler + "crude oil opec barrel " * 500])
    assert np.abs(plain - ended).max() > 0.1


def test_texts_may_be_empty_or_unknown(trained):
    probabilities = trained.predict_proba(["", "zzzzqqq", "   "])
    assert np.isfinite(probabilities).all()
    np.testing.assert_array_equal(probabilities[0], probabilities[2])
    assert trained.predict([]) == []


def test_validation_may_be_given(r8):
    part = slice(0, 400)
    clf = hyperagg.TextClassifier(**SMALL).fit(
        r8.train.texts[part],
        r8.train.labels[part],
        validation=(r8.train.texts[400:500], r8.train.labels[400:500]),
    )
    accuracy = clf.evaluate(r8.train.texts[400:500], r8.train.labels[400:500])["accuracy"]
    assert accuracy == pytest.approx(max(clf.history_.validation_score))


def test_from_the_hub(trained, tmp_path, monkeypatch):
    trained.save_pretrained(tmp_path)
    asked = []

    def snapshot_download(name, **kwargs):
        asked.append(name)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    again = hyperagg.TextClassifier.from_pretrained("someone/newswires")
    assert asked == ["someone/newswires"]
    assert again.classes_ == trained.classes_


def test_weights_are_the_modules(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == {
        "embedding",
        "mixer.positions.weight",
        "head.weight",
        "head.bias",
    }
    rows = trained.tokenizer.encode(["oil prices rose", "the bank said"])
    want = trained.model(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens))
    got = trained.predict_proba(["oil prices rose", "the bank said"])
    np.testing.assert_allclose(got, want.softmax(1).detach(), atol=1e-5)
