"""Filters for datatrove decide by the probabilities of the plain predictor."""

from __future__ import annotations

import pytest

pytest.importorskip("datatrove", reason="needs pip install 'hyperagg[datatrove]'")

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

import hyperagg
from hyperagg.integrations.datatrove import ClassifierFilter, HyperAggLID, LanguageFilter


def documents(texts):
    return [Document(text=text, id=str(i)) for i, text in enumerate(texts)]


@pytest.fixture
def probabilities(folder, texts):
    return hyperagg.load_predictor(folder).predict_proba(texts)[:, 1].tolist()  # of "good"


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_documents_of_at_least_the_minimum_are_kept(folder, texts, probabilities, batch_size):
    minimum = sorted(probabilities)[len(texts) // 2]
    step = ClassifierFilter(folder, keep_labels=("good", minimum), batch_size=batch_size)
    kept = [int(doc.id) for doc in step.run(documents(texts))]
    assert kept == [i for i, p in enumerate(probabilities) if p >= minimum]
    assert 0 < len(kept) < len(texts)
    dropped = step.stats.stats[f"dropped_good_below_{minimum:g}"].total
    assert dropped == len(texts) - len(kept)


def test_documents_of_at_least_the_minimum_are_removed(folder, texts, probabilities):
    step = ClassifierFilter(folder, remove_labels=[("good", 0.5)], batch_size=4)
    kept = [int(doc.id) for doc in step.run(documents(texts))]
    assert kept == [i for i, p in enumerate(probabilities) if p < 0.5]


def test_without_labels_documents_are_annotated(folder, texts, answers, probabilities):
    step = ClassifierFilter(folder, save_labels_in_metadata=True)
    found = list(step.run(documents(texts)))
    assert [(doc.metadata["label"], doc.metadata["score"]) for doc in found] == answers
    assert [doc.metadata["score_good"] for doc in found] == probabilities
    assert [doc.text for doc in found] == texts


def test_a_pipeline_of_processes_gives_the_plain_answers(folder, texts, answers, tmp_path):
    import json

    (tmp_path / "in").mkdir()
    for shard in range(2):
        lines = [
            json.dumps({"id": str(i), "text": t}) for i, t in enumerate(texts) if i % 2 == shard
        ]
        (tmp_path / "in" / f"{shard}.jsonl").write_text("\n".join(lines))
    LocalPipelineExecutor(
        [
            JsonlReader(str(tmp_path / "in")),
            ClassifierFilter(folder),
            JsonlWriter(str(tmp_path / "out"), compression=None),
        ],
        tasks=2,
        workers=2,
        start_method="spawn",
        logging_dir=str(tmp_path / "logs"),
    ).run()
    rows = {}
    for file in (tmp_path / "out").iterdir():
        for line in file.read_text().splitlines():
            row = json.loads(line)
            rows[int(row["id"])] = (row["metadata"]["label"], row["metadata"]["score"])
    # The reader of datatrove leaves out documents without text.
    assert rows == {i: answer for i, answer in enumerate(answers) if texts[i]}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_language_filter_keeps_the_languages_above_the_threshold(
    folder, texts, answers, probabilities, batch_size
):
    step = LanguageFilter(folder, "good", language_threshold=0.5, batch_size=batch_size)
    found = list(step.run(documents(texts)))
    assert [int(doc.id) for doc in found] == [i for i, p in enumerate(probabilities) if p > 0.5]
    for doc in found:
        assert (doc.metadata["language"], doc.metadata["language_score"]) == answers[int(doc.id)]


def test_the_identification_returns_the_scores_of_the_languages_asked_for(folder, texts):
    best, scores = HyperAggLID(folder, ["bad"]).predict(Document(text="good film", id="0"))
    assert best[0] == "good" and list(scores) == ["bad"]
    assert best[1] + scores["bad"] == pytest.approx(1)


def test_errors_name_the_argument(folder):
    with pytest.raises(ValueError, match="keep_labels, remove_labels: expected only one"):
        ClassifierFilter(folder, ("good", 0.5), ("bad", 0.5))
    with pytest.raises(ValueError, match="remove_labels: 'x' is not a class"):
        ClassifierFilter(folder, remove_labels=("x", 0.5))
    with pytest.raises(ValueError, match="languages: 'x' is not a class"):
        LanguageFilter(folder, "x")
