"""The benchmarks of pipelines and of shared memory on a few texts. Times are not tested."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from hyperagg.data import Split
from research.benchmarks import pipelines
from research.benchmarks.pipelines import QUICK_PIPELINES, bench_pipelines
from research.benchmarks.shared_memory import QUICK_MEMORY, bench_shared_memory


@pytest.mark.filterwarnings("ignore")  # of fastText, datasets and datatrove
def test_every_engine_gives_the_same_labels(tmp_path):
    pytest.importorskip("datasets", reason="needs pip install 'hyperagg[datasets]'")
    pytest.importorskip("datatrove", reason="needs pip install 'hyperagg[datatrove]'")
    data = SimpleNamespace(
        name="films", train=Split(["a good\nfilm", "a bad film"] * 40, ["yes", "no"] * 40)
    )
    bench_pipelines(data, QUICK_PIPELINES, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert {"plain predictor", "datasets, hyperagg", "datatrove, hyperagg"} <= set(
        results["engines"]
    )
    assert "datatrove" in results["environment"]


def test_an_engine_that_gives_other_labels_is_an_error():
    jobs = {"plain": lambda: (1.0, ["a"]), "other": lambda: (1.0, ["b"])}
    with pytest.raises(RuntimeError, match="other gives other labels than plain"):
        pipelines._measure(jobs, 1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_worker_is_counted(tmp_path):
    results = bench_shared_memory(QUICK_MEMORY, tmp_path)
    assert 2**20 < results["mapped"]["Pss"] <= results["mapped"]["Rss"]
