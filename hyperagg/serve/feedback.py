"""The route `/feedback`: corrected labels continue the training of a served classifier."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from starlette.responses import Response

from hyperagg.classifier import TextClassifier
from hyperagg.serve.classifier import ServedClassifier, check_texts, load
from hyperagg.serve.errors import RequestError
from hyperagg.serve.guard import has_secret
from hyperagg.serve.requests import FeedbackRequest, body_schema, parse
from hyperagg.serve.responses import json_response
from hyperagg.serve.selection import select_model
from hyperagg.serve.settings import Settings
from hyperagg.text.tokenizer_errors import TokenizerError

__all__ = ["Trainer", "add_feedback_routes"]


class Trainer:
    """Continues the training of a served classifier.

    Args:
        model: what is served; its folder is written to.

    Raises:
        ValueError: the classifier cannot continue training, or is not in a folder of the user.
    """

    def __init__(self, model: ServedClassifier) -> None:
        if model.source != str(model.folder):
            raise ValueError(
                f"{model.source}: feedback is saved to the folder of the model; expected a folder"
            )
        self._model = model
        self._classifier = TextClassifier.from_pretrained(model.folder)
        # Refuses what cannot be trained, and compiles the kernels.
        label = self._classifier.classes_[0]
        labels = [[label] if self._classifier.multi_label_ else label]
        try:
            self._train(["warm-up"], labels, 1)
        except TokenizerError:  # it may lack a token for what is unknown
            self._train([""], labels, 1)

    def update(self, texts: list[str], labels: list[Any], epochs: int) -> None:
        """Train a copy, save it, and only then let it answer requests.

        Args:
            texts: the texts.
            labels: as many labels of the model, as strings.
            epochs: the number of passes over the texts.
        """
        updated = self._train(texts, self._classifier.parse_labels(labels), epochs)
        updated.save_pretrained(self._model.folder)
        predictor = load(self._model.folder, self._model.threads)
        predictor.logits(texts[:1])
        self._classifier, self._model.predictor = updated, predictor

    def _train(self, texts: list[str], labels: Sequence[Any], epochs: int) -> TextClassifier:
        updated = copy.copy(self._classifier)
        return updated.partial_fit(texts, labels, epochs=epochs, progress=False)


def add_feedback_routes(app: FastAPI) -> None:
    """Add the route to an application whose models can all continue training."""
    settings: Settings = app.state.settings
    models = [each for each in app.state.models.values() if isinstance(each, ServedClassifier)]
    for each in models:  # before the first trainer compiles kernels, which may take a minute
        if not (each.folder / "training.safetensors").is_file():
            raise ValueError(
                f"{each.source}: cannot learn from feedback without training.safetensors, which "
                "quantized and imported models do not have; serve it without feedback"
            )
    trainers = {each.name: Trainer(each) for each in models}
    one_at_a_time = asyncio.Lock()

    async def feedback(request: Request) -> Response:
        """Continue the training of the model on texts with their labels, save it and use it."""
        assert settings.feedback_token is not None
        if not has_secret(request.scope, settings.feedback_token):
            raise RequestError(
                401,
                "the feedback token is missing or wrong; send it as Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
        model = select_model(request)
        if model.name not in trainers:
            raise RequestError(404, f"model {model.name!r} does not learn from feedback")
        body = parse(FeedbackRequest, await request.body())
        check_texts(body.texts, settings)
        _check_labels(body, model)
        async with one_at_a_time:
            try:
                await to_thread.run_sync(
                    trainers[model.name].update, body.texts, body.labels, body.epochs
                )
            except TokenizerError as error:
                raise RequestError(422, f"texts: {error}", param="texts") from error
            except OSError as error:
                raise RequestError(
                    424, f"the model could not be saved: {error.strerror}"
                ) from error
        return json_response(
            {"model_sha": model.predictor.fingerprint, "num_texts": len(body.texts)}
        )

    for path in ("/feedback", "/models/{model}/feedback"):
        app.add_api_route(
            path, feedback, methods=["POST"], openapi_extra=body_schema(FeedbackRequest)
        )


def _check_labels(body: FeedbackRequest, model: ServedClassifier) -> None:
    """Check that there is one label per text, or one list of them, and that all are known."""
    if len(body.labels) != len(body.texts):
        raise RequestError(
            422, f"labels: {len(body.labels)} for {len(body.texts)} texts: expected one for each"
        )
    known = {str(label) for label in model.predictor.classes_}
    for row, own in enumerate(body.labels):
        if isinstance(own, str) is model.predictor.multi_label_:
            kind = "a list of labels" if model.predictor.multi_label_ else "a label"
            raise RequestError(422, f"labels: {own!r} of text {row}: expected {kind}")
        for label in [own] if isinstance(own, str) else own:
            if label not in known:
                listed = ", ".join(sorted(map(repr, known))[:20])
                raise RequestError(
                    422, f"labels: {label!r} of text {row}: expected a label of the model: {listed}"
                )
