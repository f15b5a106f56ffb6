"""A text classifier that is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import orjson

from hyperagg._common.model_card import example_texts
from hyperagg.classifier import Predictor, load_predictor
from hyperagg.serve.answers import check_number_of_scores, choose_labels, describe_model, rank
from hyperagg.serve.errors import RequestError
from hyperagg.serve.requests import ExplainRequest, InferenceRequest, PredictRequest, parse
from hyperagg.serve.settings import Settings
from hyperagg.text.tokenizer_errors import TokenizerError

__all__ = ["ServedClassifier", "check_texts", "load"]

# Times the number of labels: what is explained at a time takes less than about 500 MB.
_MAX_CHARACTERS_TO_EXPLAIN = 20_000_000
_QUICK_SCORES = 2_500


class ServedClassifier:
    """A text classifier that is served; `load_models` makes it.

    A request takes `predictor` once and uses nothing else, so a model that replaces it never mixes
    with it.

    Args:
        source: the folder or the repository id that the user gave.
        name: its name in paths.
        folder: where the model is.
        threads: the number of threads that a call may use.
    """

    kind: Literal["classifier"] = "classifier"
    inline_bytes = 50_000  # of text, whose logits take less than about a millisecond

    def __init__(self, source: str, name: str, folder: Path, *, threads: int | None = None) -> None:
        self.source, self.name, self.folder, self.threads = source, name, folder, threads
        self.predictor: Predictor = load(folder, threads)
        self._examples = example_texts(folder)

    def warm_up(self) -> None:
        """Compile, or load from the cache, every kernel that requests use."""
        text = "A text of a few words, read twice."
        settings = Settings()
        try:
            self.predictor.logits(text)
        except TokenizerError:  # it may lack a token for what is unknown
            text = ""
        self.predict(parse(PredictRequest, orjson.dumps({"inputs": text})), settings)
        self.predict(parse(PredictRequest, orjson.dumps({"texts": [text] * 3})), settings)
        if self.predictor.model.tree is None:
            self.explain(parse(ExplainRequest, orjson.dumps({"inputs": text})), settings)
        if self.can_stream:
            self.predictor.stream().append(text).append(text).logits()
        self.info()  # the fingerprint reads all parameters once

    def is_quick(self, content: bytes) -> bool:
        """Whether the predictions for a request take less than a few milliseconds, so that it does
        not wait for a thread."""
        scores = content.count(b'"') // 2 * len(self.predictor.classes_)  # no more than these
        return len(content) <= self.inline_bytes and scores <= _QUICK_SCORES

    @property
    def can_stream(self) -> bool:
        """Whether a text may arrive in pieces."""
        return _can_stream(self.predictor)

    def info(self) -> dict[str, Any]:
        """Return the fields of Text Embeddings Inference, and what is particular to this model."""
        predictor = self.predictor
        return {
            **describe_model(self.source, predictor.decoder, predictor.fingerprint),
            "kind": self.kind,
            "multi_label": predictor.multi_label_,
            "threshold": predictor.decoder.threshold if predictor.multi_label_ else None,
            "streaming": self.can_stream,
            "examples": self._examples,
        }

    def predict(self, body: PredictRequest, settings: Settings) -> list[Any]:
        """Return the labels of a text with their scores, or a list of those for each text."""
        texts, single = _read_texts(body, settings)
        predictor = self.predictor
        check_number_of_scores(len(texts), predictor.decoder, body.top_k)
        function = "none" if body.raw_scores else None
        answers = rank(predictor.decoder, predictor.logits(texts), body.top_k, function)
        return answers[0] if single else answers

    def infer(self, body: InferenceRequest, settings: Settings) -> list[Any]:
        """Return a list of labels with their scores for each text, also for a single one."""
        parameters = body.parameters
        top_k = None if parameters is None else parameters.top_k
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        predictor = self.predictor
        check_texts(texts, settings)
        check_number_of_scores(len(texts), predictor.decoder, top_k)
        function = None if parameters is None else parameters.function_to_apply
        return rank(predictor.decoder, predictor.logits(texts), top_k, function)

    def explain(self, body: ExplainRequest, settings: Settings) -> dict[str, Any]:
        """Return the words of a text and what each of them contributes to the logit of each label.

        bias + sum(contributions) = logit, but for rounding.
        """
        text, predictor = body.inputs, self.predictor
        try:
            predictor.model.refuse_tree("explain")
        except ValueError as error:
            raise RequestError(422, str(error)) from error
        if not isinstance(text, str):
            raise RequestError(422, "inputs: expected a text", param="inputs")
        check_texts([text], settings)
        most = _MAX_CHARACTERS_TO_EXPLAIN // len(predictor.decoder.classes)
        if len(text) > most:
            raise RequestError(
                413,
                f"inputs: a text of {len(text)} characters: expected at most {most} to explain "
                f"with {len(predictor.decoder.classes)} labels",
                param="inputs",
            )
        explanation = predictor.explain(text)
        decoder, logits = explanation.decoder, explanation.logits
        columns = choose_labels(decoder, logits, body.labels, body.top_k)
        scores = decoder.probabilities(logits)
        contributions = explanation.contributions.T.round(6)
        return {
            "tokens": [
                {"text": text[begin:end], "start": begin, "end": end}
                for begin, end in explanation.spans
            ],
            "labels": [
                {
                    "label": str(decoder.classes[c]),
                    "score": float(scores[c]),
                    "logit": float(logits[c]),
                    "bias": float(explanation.bias[c]),
                    "contributions": contributions[c].tolist(),
                }
                for c in columns
            ],
        }


def load(folder: Path, threads: int | None) -> Predictor:
    """Load the predictor of a folder, its parameters mapped if they are not quantized."""
    try:
        return load_predictor(folder, mmap=True, threads=threads)
    except ValueError:  # a quantized embedding cannot be mapped; any other reason comes again
        return load_predictor(folder, threads=threads)


def _can_stream(predictor: Predictor) -> bool:
    try:
        predictor.stream()
    except ValueError:
        return False
    return True


def _read_texts(body: PredictRequest, settings: Settings) -> tuple[list[str], bool]:
    """The texts of a request, and whether it has a single one, whose answer is not in a list."""
    inputs, given = body.inputs, body.texts
    if (inputs is None) == (given is None):
        raise RequestError(422, "expected one of inputs and texts", param="inputs")
    single = False
    if given is not None:
        texts = given
    elif isinstance(inputs, str):
        texts, single = [inputs], True
    elif isinstance(inputs, list) and inputs and isinstance(inputs[0], str):
        texts, single = [_join(inputs)], True
    elif isinstance(inputs, list) and all(isinstance(each, list) for each in inputs):
        texts = [_join(each) for each in inputs]
    else:
        raise RequestError(422, "inputs: expected texts, not rows of a table", param="inputs")
    if body.truncate:
        end = settings.max_characters
        cut = (
            slice(None, end)
            if body.truncation_direction in ("Right", "right")
            else slice(-end, None)
        )
        texts = [text[cut] for text in texts]
    check_texts(texts, settings)
    return texts, single


def _join(pair: Any) -> str:
    """The text of a pair: the classifier reads one text, so the second follows on a new line."""
    if not 1 <= len(pair) <= 2:
        raise RequestError(
            422,
            f"inputs: a list of {len(pair)} texts is not valid: expected a text or a pair; a batch "
            'is [["one"], ["two"]], or "texts": ["one", "two"]',
            param="inputs",
        )
    return "\n".join(pair)


def check_texts(texts: Sequence[str], settings: Settings) -> None:
    """Check the number of texts and their lengths.

    Raises:
        RequestError: a limit is exceeded.
    """
    if not texts:
        raise RequestError(422, "inputs: a batch of 0 texts: expected at least 1", param="inputs")
    if len(texts) > settings.max_texts:
        raise RequestError(
            413,
            f"inputs: a batch of {len(texts)} texts: expected at most {settings.max_texts}",
            param="inputs",
        )
    longest = max(map(len, texts))
    if longest > settings.max_characters:
        raise RequestError(
            413,
            f"inputs: a text of {longest} characters: expected at most {settings.max_characters}",
            param="inputs",
        )
