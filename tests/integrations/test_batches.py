"""Batches of all types get the answers of the plain predictor."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import hyperagg
from hyperagg.integrations import BatchPredictor


def as_pairs(labels, scores):
    return list(zip(list(labels), [float(score) for score in scores]))


@pytest.mark.parametrize("kind", ["table", "record batch", "pandas", "lists", "arrays"])
def test_a_batch_keeps_its_type_and_gets_the_plain_answers(folder, texts, answers, kind):
    data = {"id": list(range(len(texts))), "text": texts}
    batch = {
        "table": lambda: pa.table(data),
        "record batch": lambda: pa.RecordBatch.from_pydict(data),
        "pandas": lambda: pd.DataFrame(data, index=range(7, 7 + len(texts))),
        "lists": lambda: data,
        "arrays": lambda: {name: np.array(values) for name, values in data.items()},
    }[kind]()
    out = BatchPredictor(folder)(batch)
    assert type(out) is type(batch)
    to_list = {"table": lambda c: c.to_pylist(), "record batch": lambda c: c.to_pylist()}.get(
        kind, list
    )
    assert as_pairs(to_list(out["label"]), to_list(out["score"])) == answers
    assert to_list(out["id"]) == data["id"]


@pytest.mark.parametrize("empty", [pa.table({"text": pa.array([], pa.string())}), {"text": []}])
def test_an_empty_batch_has_the_same_columns(folder, empty):
    out = BatchPredictor(folder)(empty)
    assert list(out.column_names if isinstance(out, pa.Table) else out) == [
        "text",
        "label",
        "score",
    ]
    if isinstance(out, pa.Table):
        full = BatchPredictor(folder)(pa.table({"text": ["a"]}))
        assert out.schema == full.schema


def test_the_score_can_be_that_of_one_class(folder, texts):
    out = BatchPredictor(folder, score_of="good", label_column=None)({"text": texts})
    want = hyperagg.load_predictor(folder).predict_proba(texts)[:, 1]
    np.testing.assert_array_equal(out["score"], want)
    assert list(out) == ["text", "score"]


def test_a_missing_text_is_an_empty_text(folder):
    want = BatchPredictor(folder)({"text": ["", "good"]})
    for column in (
        pa.array([None, "good"]),
        pd.Series([None, "good"]),
        pd.Series([np.nan, "good"], dtype=object),
        pd.Series([None, "good"], dtype="string"),
        np.array([None, "good"], dtype=object),
    ):
        found = BatchPredictor(folder).score(column)
        assert list(found.labels) == want["label"]
        np.testing.assert_array_equal(found.scores, want["score"])


def test_a_multi_label_model_gives_lists(tmp_path):
    texts = ["up up high", "down low", "x"]
    clf = hyperagg.TextClassifier(d_model=8, epochs=20)
    clf.fit(texts[:2] * 20, [("u", "x"), ("d",)] * 20).save_pretrained(tmp_path)
    predictor = hyperagg.load_predictor(tmp_path)
    want = [list(labels) for labels in predictor.predict(texts)]
    assert any(len(labels) == 2 for labels in want)
    for batch in (pa.table({"text": texts}), {"text": np.array(texts)}):
        out = BatchPredictor(tmp_path)(batch)
        rows = out["label"].to_pylist() if isinstance(out, pa.Table) else out["label"].tolist()
        assert rows == want
    empty = BatchPredictor(tmp_path)(pa.table({"text": pa.array([], pa.string())}))
    assert empty.schema == BatchPredictor(tmp_path)(pa.table({"text": texts})).schema


def test_it_is_pickled_as_the_path_and_works_on_one_thread(folder, texts, answers):
    predictor = BatchPredictor(folder)
    content = pickle.dumps(predictor)
    assert len(content) < 2000
    again = pickle.loads(content)
    assert again.predictor.threads == 1
    out = again({"text": texts})
    assert as_pairs(out["label"], out["score"]) == answers


def test_errors_name_the_argument(folder):
    with pytest.raises(KeyError, match=r"text='text': expected one of the columns \['body'\]"):
        BatchPredictor(folder)({"body": ["a"]})
    with pytest.raises(ValueError, match="label_column='label': the batch has a column of that"):
        BatchPredictor(folder)({"text": ["a"], "label": [1]})
    with pytest.raises(ValueError, match="score_of: 'goood' is not a class; expected one of 'bad'"):
        BatchPredictor(folder, score_of="goood")


def test_two_new_columns_have_two_names():
    with pytest.raises(ValueError, match="score_column='x': is the label_column too"):
        BatchPredictor("model", label_column="x", score_column="x")
