"""A tagger for Dolma."""

from __future__ import annotations

from pathlib import Path

from hyperagg.classifier import Predictor
from hyperagg.integrations.batches import BatchPredictor

try:
    from dolma.core.data_types import DocResult, Document, Span
    from dolma.core.registry import TaggerRegistry
    from dolma.core.taggers import BaseTagger
except ImportError as error:
    raise ImportError("Dolma is required: pip install dolma", name="dolma") from error

__all__ = ["add_tagger"]


def add_tagger(name: str, model: str | Path | Predictor, mmap: bool = True) -> type[BaseTagger]:
    """Register a tagger that gives each document the probability of every class.

    Dolma makes the taggers of a module that `dolma tag --tagger_modules` names, so call this there:

        # my_taggers.py
        from hyperagg.integrations.dolma import add_tagger
        add_tagger("quality", "/models/quality")

    A document has one span per class, over its whole text; its type is the label. Dolma hands over
    one document at a time.

    Args:
        name: the name of the tagger.
        model: the folder of a saved text classifier, a repository id of the Hugging Face Hub, or a
            predictor. It is loaded when Dolma makes the tagger.
        mmap: as in `load_predictor`; False for a quantized model.

    Returns:
        The class of the tagger.
    """

    class ClassifierTagger(BaseTagger):
        def __init__(self) -> None:
            self.predictor = BatchPredictor(model, mmap=mmap).predictor

        @property
        def defaults(self) -> list[str]:
            """The types of the spans of every document."""
            return [str(label) for label in self.predictor.classes_]

        def predict(self, doc: Document) -> DocResult:
            """Return the spans of a document."""
            scores = self.predictor.predict_proba(doc.text).tolist()
            end = len(doc.text)
            spans = [Span(0, end, label, score) for label, score in zip(self.defaults, scores)]
            return DocResult(doc, spans)

    TaggerRegistry.add(name)(ClassifierTagger)
    return ClassifierTagger
