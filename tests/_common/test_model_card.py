"""Model cards have front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import pytest

from hyperagg._common.model_card import example_texts, model_card

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


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (None, []),
        ("# no front matter\n- text: a\n", []),
        ("---\ntags: [a]\n---\n- text: a\n", []),
        ('---\nwidget:\n- text: one two\n  - text: "a \\"b\\""\n---\n', ["one two", 'a "b"']),
        ("---\nwidget:\n- text: 'it''s'\n- text: \"open\n- text:\n---\n", ["it's"]),
        ("---\n" + "- text: a\n" * 99 + f"- text: {'a' * 9999}\n---\n", ["a"] * 10),
        (b"---\n- text: \xff\n---\n", []),
    ],
)
def test_example_texts_are_those_of_the_widget(tmp_path, card, expected):
    if card is not None:
        content = card if isinstance(card, bytes) else card.encode()
        (tmp_path / "README.md").write_bytes(content)
    assert example_texts(tmp_path) == expected
