"""The page of a row shows its texts as they stand."""

from __future__ import annotations

import html
import re

import numpy as np

from hyperagg import MultimodalClassifier
from hyperagg.multimodal.explanation_report import explained_row, explanation_page

TEXT = "An ODD number; it is odd!"


def test_a_text_stands_as_it_is_and_its_words_are_colored():
    """It was a bag of tokens: "[UNK] odd number odd number ..."."""
    notes = ["an odd number it is", "an even number it is"] * 10
    table = {"note": notes, "price": [1.0, 2.0] * 10}
    model = MultimodalClassifier({"note": "text", "price": "number"}, d_model=8, epochs=2)
    model.fit(table, ["odd", "even"] * 10)
    why = model.explain({"note": TEXT, "price": 1.0})
    words = why.texts["note"]
    assert [TEXT[begin:end] for begin, end in words.spans] == re.findall(r"\w+|[;!]", TEXT)
    np.testing.assert_allclose(
        words.contributions.sum(0), why.by_modality()["note"], rtol=1e-6, atol=1e-9
    )
    (column, pieces), _ = explained_row(why).views[0].parts
    assert column == "note" and "".join(text for text, _ in pieces) == TEXT
    page = explanation_page([why], "One row")
    shown = re.search(r"<h3>note</h3><div[^>]*>(.*?)</div>", page)[1]
    assert html.unescape(re.sub(r"<[^>]*>", "", shown)) == TEXT
    assert set(why.texts) == {"note"}
    assert model.explain({"note": None, "price": 1.0}).texts == {}
