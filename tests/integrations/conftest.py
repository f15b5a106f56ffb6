"""A small model of texts that real pipelines could hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import hyperagg

TEXTS = [
    "A fine film, well acted.",
    "",
    "dull dull\nplot\x00 and noise",
    "good acting, bad plot",
    "Ein Film: großartig! 好",
    "dull, bad",
] * 3


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved classifier with the labels "bad" and "good"."""
    clf = hyperagg.TextClassifier(d_model=16, epochs=3)
    clf.fit(["good fine film acting"] * 20 + ["bad dull plot"] * 20, ["good"] * 20 + ["bad"] * 20)
    path = tmp_path_factory.mktemp("models") / "quality"
    clf.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def answers(folder: Path) -> list[tuple[str, float]]:
    """The label of each text and its probability, by the plain predictor."""
    predictor = hyperagg.load_predictor(folder)
    probabilities = predictor.predict_proba(TEXTS)
    return list(zip(predictor.predict(TEXTS), probabilities.max(1).tolist()))
