from __future__ import annotations

import pytest

from hyperagg._common.progress import progress_bar


def test_a_bar_shows_description_and_status_on_standard_error(capsys):
    with progress_bar("training", enabled=True) as update:
        update(0.5, "epoch 1/2")
    captured = capsys.readouterr()
    assert "training" in captured.err and "epoch 1/2" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("enabled", [False, None])
def test_nothing_is_shown_where_it_is_switched_off_or_in_a_log(capsys, enabled):
    with progress_bar("training", enabled=enabled) as update:
        update(0.5, "epoch 1/2")
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""
