"""Ray Data and the ordered map give the answers of the plain predictor."""

from __future__ import annotations

import pytest

from hyperagg.integrations import BatchPredictor
from tests.docs import pages

ray = pytest.importorskip("ray", reason="needs pip install 'hyperagg[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def test_ray_data_gives_the_plain_answers(folder, texts, answers):
    out = ray.data.from_items([{"text": text, "row": i} for i, text in enumerate(texts)])
    out = out.map_batches(
        BatchPredictor,
        fn_constructor_kwargs={"model": folder},
        batch_format="pyarrow",
        batch_size=5,
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    rows = sorted(out.take_all(), key=lambda row: row["row"])
    assert [(row["label"], row["score"]) for row in rows] == answers


def test_the_ordered_map_keeps_the_order_and_raises_what_the_function_raises(
    folder, texts, answers
):
    from hyperagg.integrations.ray import ordered_map

    batches = [texts[i : i + 4] for i in range(0, len(texts), 4)]
    done = list(ordered_map(BatchPredictor(folder).score, batches, workers=1))
    assert [batch for batch, _ in done] == batches
    found = [pair for _, one in done for pair in zip(one.labels, one.scores.tolist())]
    assert found == answers
    with pytest.raises(TypeError, match="expected str"):
        list(ordered_map(BatchPredictor(folder).score, [[1]], workers=1))


def test_the_tutorial_runs_and_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.check(pages.ROOT / "docs" / "tutorials" / "filter-a-corpus.md")
