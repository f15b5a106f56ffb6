"""The README.md of a saved classifier, filled from its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperagg.classifier.training.labels import enumerate_labels

if TYPE_CHECKING:
    from hyperagg.classifier.estimator import TextClassifier

__all__ = ["model_card"]


def model_card(classifier: TextClassifier, name: str) -> str:
    """Markdown with the header that the Hugging Face hub reads."""
    history = classifier.history_
    lines = [
        "---",
        "library_name: hyperagg",
        "pipeline_tag: text-classification",
        "---",
        f"# {name}",
        "",
        f"A text classifier by {classifier.config.mixer}, trained with hyperagg.",
        "",
        f"- classes: {enumerate_labels(classifier.classes_)}"
        + (" (any number of them a text)" if classifier.multi_label_ else ""),
        f"- words and grams: {len(classifier.tokenizer):,}",
        f"- parameters: {classifier.model.count_parameters()['parameters']:,}",
    ]
    if history.loss:
        lines.append(f"- epochs: {len(history.loss)}, the best of them {history.best_epoch + 1}")
    if history.validation_score:
        measure = "micro-F1" if classifier.multi_label_ else "accuracy"
        best = history.validation_score[history.best_epoch]
        lines.append(f"- {measure} on the held-out part of the training rows: {best:.4f}")
    if history.calibration_error:
        before, after = history.calibration_error
        lines.append(
            f"- expected calibration error there: {before:.4f}, with temperature "
            f"{history.temperature:.2f}: {after:.4f}"
        )
    lines += [
        "",
        "```python",
        "import hyperagg",
        "",
        f'clf = hyperagg.TextClassifier.from_pretrained("{name}")',
        'clf.predict(["a text"])',
        "```",
        "",
    ]
    return "\n".join(lines)
