"""A function of Spark gives the answers of the plain predictor."""

from __future__ import annotations

import shutil
import sys

import pytest

pytest.importorskip("pyspark", reason="needs pip install 'hyperagg[spark]'")
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
    pytest.mark.filterwarnings("ignore"),  # of Spark's own
]


def test_a_column_gets_the_plain_answers(folder, texts, answers, monkeypatch):
    from pyspark.sql import SparkSession

    from hyperagg.integrations.spark import predict_udf

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    settings = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1"}
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        rows = [(i, text) for i, text in enumerate([*texts, None])]
        df = spark.createDataFrame(rows, "id bigint, text string")
        answer = predict_udf(folder, batch_size=5)("text").alias("answer")
        found = df.select("id", answer).select("id", "answer.*").orderBy("id").collect()
    finally:
        spark.stop()
    got = [(row["label"], row["score"]) for row in found]
    assert got == [*answers, answers[texts.index("")]]
