from __future__ import annotations

import pytest

from hyperagg.classifier.training import run_options


@pytest.mark.parametrize(("asked", "started"), [(None, 3), (2, 2), (4, 4), (64, 4)])
def test_no_more_threads_than_processors(monkeypatch, asked, started):
    monkeypatch.setattr(run_options, "usable_cpus", lambda: 4)
    monkeypatch.setattr(run_options, "max_threads", lambda: 3)
    assert run_options.check_run_options(0, asked, None, ()).threads == started
