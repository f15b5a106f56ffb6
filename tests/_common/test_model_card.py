"""Model cards have front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import pytest

from hyperagg._common.model_card import model_card

METADATA = {
    "pipeline_tag": "text-classification",
    "license": "mit",
    "tags": ["hyperagg", 'a "quoted" tag: # x'],
}


def test_the_front_matter_is_what_was_given():
    hub = pytest.importorskip("huggingface_hub")
    text = model_card("films", "A classifier.", METADATA, ["classes: 2"], "import hyperagg\n")
    card = hub.ModelCard(text, ignore_metadata_errors=False)
    assert card.data.to_dict() == {"library_name": "hyperagg", **METADATA}
    assert "# films" in card.text and "- classes: 2" in card.text
    assert "```python\nimport hyperagg\n```" in card.text


@pytest.mark.network
def test_the_hub_accepts_it():
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(model_card("films", "A classifier.", METADATA, [], ""))
    try:
        card.validate()
    except ValueError:  # what the Hub does not accept
        raise
    except Exception as error:
        pytest.skip(f"the Hub cannot be reached: {error}")
