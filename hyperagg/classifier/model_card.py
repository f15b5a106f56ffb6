"""Writes the model card of a text classifier."""

from __future__ import annotations

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg._common.model_card import model_card
from hyperagg.classifier.history import History
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.training.labels import summarize_labels

__all__ = ["classifier_card"]


def classifier_card(
    title: str,
    model: ClassifierModel,
    decoder: LabelDecoder,
    history: History,
    *,
    quantized: bool = False,
) -> str:
    """Return the card in Markdown.

    Args:
        title: the name of the model.
        model: the parameters.
        decoder: the labels.
        history: the course of training; that of an imported model is empty.
        quantized: whether the embedding is saved as 8-bit integers.
    """
    kind = " (any number per text)" if decoder.multi_label else ""
    facts = [
        f"classes: {summarize_labels(decoder.classes)}{kind}",
        f"tokens in the vocabulary: {len(model.embedding):,}",
        f"parameters: {model.num_parameters():,}",
    ]
    if quantized:
        facts.append("embedding: quantized to 8-bit integers")
    if history.num_unlabelled:
        facts.append(f"texts without labels that training began with: {history.num_unlabelled:,}")
    if history.loss:
        facts.append(f"epochs: {len(history.loss)}; the best was {history.best_epoch + 1}")
    if history.validation_score:
        measure = "micro-F1" if decoder.multi_label else "accuracy"
        best = history.validation_score[history.best_epoch]
        facts.append(f"{measure} on {_held_out(history)}: {best:.4f}")
    if history.expected_calibration_error:
        facts.append(
            f"expected calibration error there: {history.expected_calibration_error[1]:.4f}"
        )
    return model_card(
        title,
        "A text classifier by aggregation of token vectors, trained with hyperagg.",
        {"pipeline_tag": "text-classification", "tags": ["hyperagg", "text-classification"]},
        facts,
        "import hyperagg\n\n"
        f'clf = hyperagg.TextClassifier.from_pretrained("{title}")\n'
        'clf.predict("a text")',
    )


def _held_out(history: History) -> str:
    """Models that were saved earlier do not know the number."""
    number = f"{history.num_validation:,} " if history.num_validation else ""
    return f"{number}held-out training texts"
