"""The tagger of Dolma gives the probabilities of the plain predictor."""

from __future__ import annotations

import pytest

pytest.importorskip("dolma", reason="needs pip install dolma")

from dolma.core.data_types import Document
from dolma.core.registry import TaggerRegistry

import hyperagg
from hyperagg.integrations.dolma import add_tagger


def test_a_document_has_a_span_per_class(folder, texts):
    add_tagger("quality", folder)
    tagger = TaggerRegistry.get("quality")()
    want = hyperagg.load_predictor(folder).predict_proba(texts)
    for text, row in zip(texts, want.tolist()):
        spans = tagger.predict(Document("web", "0", text)).spans
        assert [(s.start, s.end, s.type, s.score) for s in spans] == [
            (0, len(text), "bad", row[0]),
            (0, len(text), "good", row[1]),
        ]
