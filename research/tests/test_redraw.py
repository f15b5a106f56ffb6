from __future__ import annotations

import shutil
from pathlib import Path

from research.redraw import FIGURES, redraw

RESULTS = Path(__file__).parents[2] / "results"
# Images of digits, and explanations of them by a model that is not committed.
IMAGES = {
    *("samples-aggregation.png", "samples-attention.png"),
    *("nearest-aggregation.png", "nearest-attention.png", "explanation.png"),
}


def test_every_committed_figure_is_drawn_from_its_results(tmp_path):
    figures = [path for path in RESULTS.rglob("*.png") if path.name not in IMAGES]
    assert len(figures) >= 10 and {path.name for path in figures} <= set(FIGURES)
    for figure in figures:
        folder = tmp_path / figure.parent.relative_to(RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(figure.parent / "results.json", folder)
        (folder / figure.name).touch()
    drawn = redraw(tmp_path)
    assert {p.relative_to(tmp_path) for p in drawn} == {p.relative_to(RESULTS) for p in figures}
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_only_figures_that_exist_are_drawn(tmp_path):
    folder = tmp_path / "deletion"
    folder.mkdir()
    shutil.copy(RESULTS / "deletion" / "results.json", folder)
    assert redraw(tmp_path) == []
    assert [path.name for path in folder.iterdir()] == ["results.json"]
