"""hyperagg quantize and convert, labels in one column, and vectors to start from."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hyperagg

SMALL = ("--d-model", 16, "--epochs", 8, "--max-ngrams", 2000)


@pytest.fixture(scope="module")
def model(cli, table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "model"
    assert cli("train", table, *SMALL, "--threads", 1, "--out", folder).code == 0
    return folder


def test_quantize(cli, table, model, tmp_path):
    answer = cli("quantize", model, "--max-tokens", 3000, "--out", tmp_path / "small")
    assert answer.code == 0, answer.err
    assert "MB ->" in answer.err
    before, after = (
        json.loads(cli("evaluate", folder, table, "--json").out)["accuracy"]
        for folder in (model, tmp_path / "small")
    )
    assert after > before - 0.02
    size = (tmp_path / "small" / "model.safetensors").stat().st_size
    assert size < 0.2 * (model / "model.safetensors").stat().st_size


def test_convert(cli, table, rows, tmp_path):
    fasttext = pytest.importorskip("fasttext")
    lines = [f"__label__{label} {' '.join(text.split())}\n" for text, label in rows]
    (tmp_path / "train.txt").write_text("".join(lines), "utf-8")
    theirs = fasttext.train_supervised(str(tmp_path / "train.txt"), dim=8, verbose=0)
    theirs.save_model(str(tmp_path / "model.bin"))
    answer = cli("convert", tmp_path / "model.bin", "--out", tmp_path / "ours")
    assert answer.code == 0, answer.err
    said = cli("predict", tmp_path / "ours", table).out.split()
    texts = [" ".join(text.split()) + "\n" for text, _ in rows]
    wanted = [theirs.f.predict(text, 1, 0.0, "strict")[0][1] for text in texts]
    assert said == [label.removeprefix("__label__") for label in wanted]
    refused = cli("convert", table, "--out", tmp_path / "none")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "not a fastText model" in refused.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "held", "file"),
    [
        (("convert", "TABLE"), "a model", "config.json"),
        (("quantize", "MODEL"), "a model", "config.json"),
        (("tune", "TABLE", "--time-limit", 1), "a model", "config.json"),
        (("tune", "TABLE", "--time-limit", 1), "an interrupted training", "checkpoint.safetensors"),
    ],
)
def test_a_model_is_replaced_only_with_force(cli, table, model, tmp_path, arguments, held, file):
    (tmp_path / file).write_text("{}", "utf-8")
    arguments = [{"TABLE": table, "MODEL": model}.get(one, one) for one in arguments]
    refused = cli(*arguments, "--out", tmp_path)
    assert refused.code == 2
    assert refused.err == (
        f"hyperagg: --out {tmp_path}: holds {held}; give another folder, or replace it with "
        "--force\n"
    )
    assert [one.name for one in tmp_path.iterdir()] == [file]


def test_quantize_replaces_a_model_with_force(cli, model, tmp_path):
    kept = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    # Of a model that `tune` selected, and of a training that was interrupted.
    for name in ("config.json", "tuning.json", "checkpoint.safetensors", "training.safetensors"):
        (tmp_path / name).write_text("{}", "utf-8")
    answer = cli("quantize", model, "--out", tmp_path, "--force")
    assert answer.code == 0, answer.err
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert hyperagg.TextClassifier.from_pretrained(tmp_path).classes_


def test_several_labels_per_text(cli, tmp_path):
    lines = ["text,topics"]
    for i in range(60):
        topics = [name for name, step in (("even", 2), ("third", 3)) if i % step == 0]
        words = ["word", *(f"about {topic}" for topic in topics)]
        lines.append(f"{' '.join(words)},{'|'.join(topics)}")
    file = tmp_path / "a.csv"
    file.write_text("\n".join(lines), "utf-8")
    options = ("--label", "topics", "--label-separator", "|")
    answer = cli("train", file, *options, "--d-model", 8, "--out", tmp_path / "model")
    assert answer.code == 0, answer.err
    assert "60 rows, 2 classes" in answer.err
    assert "validation micro-F1" in answer.err
    said = cli("predict", tmp_path / "model", file).out.split("\n")
    assert said[:4] == ["even|third", "", "even", "third"]
    row = json.loads(cli("predict", tmp_path / "model", file, "--probabilities").out.split("\n")[0])
    assert row["labels"] == ["even", "third"]
    assert "micro-F1" in cli("evaluate", tmp_path / "model", file, *options).out
    mixed = cli("evaluate", tmp_path / "model", file, "--label", "topics")
    assert (mixed.code, mixed.err.count("\n")) == (2, 1)


def test_balanced_classes_and_calibration_are_reported(cli, table, tmp_path):
    answer = cli("train", table, *SMALL, "--balanced", "--out", tmp_path / "model")
    assert answer.code == 0, answer.err
    assert "validation calibration error: " in answer.err
    assert "held-out rows" in answer.err
    assert "calibration error" in cli("evaluate", tmp_path / "model", table).out


def test_vectors_to_start_from(cli, table, rows, tmp_path):
    rng = np.random.default_rng(0)
    words = sorted({word for text, _ in rows for word in text.split()})[:500]
    table_of = {word: rng.standard_normal(8) for word in words}
    file = tmp_path / "words.vec"
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in row)}" for word, row in table_of.items()]
    file.write_text(f"{len(words)} 8\n" + "\n".join(lines), "utf-8")
    texts, labels = [text for text, _ in rows], [label for _, label in rows]

    def first_rows(vectors):
        clf = hyperagg.TextClassifier(d_model=8, epochs=1, max_ngrams=0, learning_rate=1e-6)
        clf.fit(texts, labels, vectors=vectors)
        ids = [clf.tokenizer_.vocabulary.index(word) for word in words[-200:]]
        return clf.model_.embedding[ids]

    def cosines(found):
        wanted = np.array([table_of[word] for word in words[-200:]])
        length = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        return (found * wanted).sum(1) / length

    assert cosines(first_rows(file)).min() > 0.99
    assert cosines(first_rows(None)).mean() < 0.5
    answer = cli("train", table, "--vectors", file, "--out", tmp_path / "model")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "d_model=8" in answer.err


def test_version(fresh):
    answer = fresh("--version")
    assert (answer.code, answer.out) == (0, f"hyperagg {hyperagg.__version__}\n")


def test_the_shell_completion_script_is_shown(fresh):
    answer = fresh(
        _HYPERAGG_COMPLETE="source_bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "hyperagg" in answer.out
