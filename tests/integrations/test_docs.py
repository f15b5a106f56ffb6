"""The code of docs/pipelines.md runs, and its filter keeps a tenth of the corpus."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hyperagg

pytest.importorskip("datatrove", reason="needs pip install 'hyperagg[datatrove]'")

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Newswires in two shards; those about earnings are the good ones."""
    train = hyperagg.load_dataset("r8").train
    (tmp_path / "shards").mkdir()
    for shard in range(2):
        texts = train.texts[shard:1200:2]
        table = pa.table({"text": texts, "id": [f"{shard}-{i}" for i in range(len(texts))]})
        pq.write_table(table, tmp_path / "shards" / f"{shard}.parquet")
    good = [text for text, label in zip(train.texts, train.labels) if label == "earn"][-400:]
    pq.write_table(pa.table({"text": good}), tmp_path / "good.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_quality_filter_keeps_a_tenth_by_the_plain_predictor(corpus, capsys):
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        if "import ray" in block:  # it takes half a minute, and test_ray.py makes the same call
            continue
        block = block.replace("tasks=2", "tasks=2, workers=1")  # without the start of processes
        exec(compile(block, PAGE.name, "exec"), namespace)
    predictor = hyperagg.load_predictor("quality")
    scores = {
        id: predictor.predict_proba(text)[0]
        for file in Path("shards").iterdir()
        for text, id in zip(*pq.read_table(file).to_pydict().values())
    }
    want = {id for id, score in scores.items() if score >= namespace["threshold"]}
    lines = {
        name: [
            json.loads(line)
            for file in Path(name).iterdir()
            for line in file.read_text("utf-8").splitlines()
        ]
        for name in ("kept-by-datatrove", "removed-by-datatrove")
    }
    by_datatrove = {row["id"] for row in lines["kept-by-datatrove"]}
    assert by_datatrove == want
    assert len(want) == 120  # a tenth; the sample was the whole corpus
    removed = lines["removed-by-datatrove"]
    assert len(removed) == len(scores) - len(want)
    assert all(row["metadata"]["filter_reason"].startswith("good_below_") for row in removed)
    assert "[(" in capsys.readouterr().out
