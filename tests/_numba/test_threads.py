"""Ranges of outputs: they cost about the same, and each is computed once, on whatever threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, get_ident

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._numba import threads
from hyperagg._numba.threads import (
    even_borders,
    limit_threads,
    max_threads,
    parts,
    run,
    run_on_team,
)

BORDERS = np.arange(0, 41, 5)


@pytest.mark.parametrize("items, parts", [(8, 2), (16, 2), (64, 4), (6, 3)])
def test_equal_items_are_divided_equally(items, parts):
    sizes = np.diff(even_borders(np.full(items, 5), parts))
    assert sizes.tolist() == [items // parts] * parts


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 6))
def test_no_range_exceeds_an_even_one_by_more_than_an_item(costs, parts):
    borders = even_borders(np.array(costs, dtype=np.int64), parts)
    assert borders[0] == 0 and borders[-1] == len(costs)
    assert (np.diff(borders) >= 0).all()
    totals = [sum(costs[a:b]) for a, b in zip(borders, borders[1:])]
    assert max(totals) <= sum(costs) / parts + max(costs, default=0)


def count(begin: int, end: int, counts: np.ndarray) -> None:
    counts[begin:end] += 1


def run_count(run=run) -> list[int]:
    counts = np.zeros(40, dtype=np.int64)
    run(count, BORDERS, counts)
    return counts.tolist()


@pytest.mark.parametrize("limit", [None, 1, 2, 5, 99])
def test_every_range_runs_once(limit):
    with limit_threads(limit):
        assert run_count() == [1] * 40


def test_every_range_runs_once_on_the_team_of_torch():
    pytest.importorskip("torch")
    assert run_count(run_on_team) == [1] * 40


def test_the_team_of_torch_is_left_alone_elsewhere(monkeypatch):
    monkeypatch.setattr(threads, "_team", lambda: pytest.fail("OpenMP may end the process"))
    assert run_count() == [1] * 40


def test_the_limit_of_threads():
    before, used = max_threads(), set()
    meeting = Barrier(3, timeout=60)

    def kernel(begin, end):
        if begin < end:
            used.add(get_ident())
            if begin < 15:
                meeting.wait()  # until three threads are here

    with limit_threads(3):
        assert max_threads() == 3 and parts(10**9) == 3
        run(kernel, BORDERS)
        with limit_threads(None):
            assert max_threads() == 3
    assert len(used) == 3 and max_threads() == before


def test_threads_that_cannot_start(monkeypatch):
    class Full(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            super().submit(*args, **kwargs)  # the executor has queued the call when it fails
            raise RuntimeError("can't start new thread")

    with Full(1) as pool:
        monkeypatch.setattr(threads, "_pool", lambda process_id: pool)
        with limit_threads(3):
            assert run_count() == [1] * 40


def test_an_error_is_raised_when_all_ranges_have_ended():
    ended = []

    def kernel(begin, end):
        ended.append(begin)
        if begin == 5:
            raise ValueError("5")

    with pytest.raises(ValueError, match="5"):
        run(kernel, BORDERS)
    assert sorted(ended) == sorted([0, *BORDERS[:-1]])  # the first call is that of no range


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork of POSIX")
def test_run_after_a_fork():
    assert run_count() == [1] * 40
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that hangs
        os._exit(0 if run_count() == [1] * 40 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_without_torch_scipy_and_sklearn():
    code = """
import sys
for name in ("torch", "scipy", "sklearn", "tokenizers", "huggingface_hub"):
    sys.modules[name] = None
import hyperagg.data, hyperagg.text, hyperagg._numba.threads, hyperagg._numba.simd
import hyperagg._numba.tasks, hyperagg._numba.prefetch, hyperagg._common.atomic, hyperagg.cli.data
from hyperagg.text import WordTokenizer, read_tokenizer
tokenizer = WordTokenizer.train(["a fine film", "a film"], max_ngrams=9)
print(read_tokenizer(tokenizer.to_json()).encode(["a film"]).token_ids.tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1, 2, 6]\n"
