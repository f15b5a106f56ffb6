"""The stage of NeMo Curator gives the answers of the plain predictor."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

pytest.importorskip("nemo_curator", reason="needs pip install nemo-curator")

from nemo_curator.tasks import DocumentBatch

from hyperagg.integrations.nemo_curator import ClassifierStage


@pytest.mark.parametrize("make", [pa.table, pd.DataFrame])
def test_a_batch_gets_the_plain_answers(folder, texts, answers, make):
    stage = ClassifierStage(folder)
    batch = DocumentBatch(dataset_name="web", data=make({"text": texts}), _metadata={"a": 1})
    (out,) = stage.process_batch([batch])
    assert type(out.data) is type(batch.data) and out._metadata == {"a": 1}
    data = out.to_pandas()
    assert list(zip(data["label"], data["score"].astype(float))) == answers


@pytest.mark.parametrize("make", [pa.table, pd.DataFrame])
def test_documents_below_the_minimum_are_dropped(folder, texts, make):
    stage = ClassifierStage(folder, min_score=0.5, score_of="good", label_column=None)
    out = stage.process(DocumentBatch(dataset_name="web", data=make({"text": texts})))
    want = ClassifierStage(folder, score_of="good").predictor.score(texts).scores
    assert out.to_pandas()["text"].tolist() == [t for t, s in zip(texts, want) if s >= 0.5]
    assert stage.outputs() == (["data"], ["score"])
