"""A model of tables with text, numbers, categories, images and audio that is served.

An image or a clip arrives as the base64 text of a file, as `data:` URLs have it. A text is never
taken as the path of a file.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.data.readers.audio import UNKNOWN_FRAMES, iter_blocks, open_audio
from hyperagg.data.readers.images import open_image
from hyperagg.multimodal import MultimodalClassifier, load_multimodal
from hyperagg.serve.answers import check_number_of_scores, choose_labels, describe_model, rank
from hyperagg.serve.errors import RequestError
from hyperagg.serve.requests import ExplainRequest, PredictRequest
from hyperagg.serve.settings import Settings

__all__ = ["ServedMultimodal"]

# Small files may hold large images and long clips.
_MAX_PIXELS = 25_000_000
_MAX_SAMPLES = 50_000_000

Table = dict[str, list[Any]]


class ServedMultimodal:
    """A multimodal classifier or regressor that is served; `load_models` makes it.

    A regressor answers with one label, "value", whose score is the predicted value.

    Args:
        source: the folder or the repository id that the user gave.
        name: its name in paths.
        folder: where the model is.
    """

    kind: Literal["multimodal"] = "multimodal"

    def __init__(self, source: str, name: str, folder: Path) -> None:
        self.source, self.name = source, name
        self._model = load_multimodal(folder)
        self._is_classifier = isinstance(self._model, MultimodalClassifier)

    def warm_up(self) -> None:
        """Predict once; a row of one column is enough for the code that all rows share."""
        for name, kind in self._model.columns.items():
            if kind in ("text", "number"):
                self._logits({name: ["0" if kind == "text" else 0.0]})
                return

    def is_quick(self, content: bytes) -> bool:
        """Return False: every request takes milliseconds, so it waits for a thread."""
        return False

    def info(self) -> dict[str, Any]:
        """Return the fields of Text Embeddings Inference, and what is particular to this model."""
        return {
            **describe_model(self.source, self._decoder),
            "kind": self.kind,
            "columns": self._model.columns,
            "regression": not self._is_classifier,
            "multi_label": False,
            "streaming": False,
        }

    def predict(self, body: PredictRequest, settings: Settings) -> list[Any]:
        """Return the labels of a row with their scores, or a list of those for each row."""
        inputs = body.inputs
        if isinstance(inputs, dict):
            rows: Sequence[Any] = [inputs]
        elif isinstance(inputs, list) and all(isinstance(row, dict) for row in inputs):
            rows = inputs
        else:
            raise RequestError(
                422, "inputs: expected a row, {column: value}, or a list of rows", param="inputs"
            )
        check_number_of_scores(len(rows), self._decoder, body.top_k)
        with self._table(rows, settings) as table:
            logits = self._logits(table)
        function = "none" if body.raw_scores or not self._is_classifier else None
        answers = rank(self._decoder, logits, body.top_k, function)
        return answers[0] if isinstance(inputs, dict) else answers

    def explain(self, body: ExplainRequest, settings: Settings) -> dict[str, Any]:
        """Return the tokens of each column of a row and what each contributes to each logit.

        bias + sum(contributions of all columns) = logit, but for rounding.
        """
        if not isinstance(body.inputs, dict):
            raise RequestError(422, "inputs: expected a row, {column: value}", param="inputs")
        with self._table([body.inputs], settings) as table:
            found = self._model.explain(table)
        explanation = found[0] if isinstance(found, list) else found
        decoder = self._decoder
        columns = choose_labels(decoder, explanation.logits, body.labels, body.top_k)
        scores = explanation.logits
        if self._is_classifier:
            scores = decoder.probabilities(explanation.logits)
        return {
            "columns": {
                name: [{"text": text} for text in tokens]
                for name, tokens in explanation.tokens.items()
            },
            "labels": [
                {
                    "label": str(decoder.classes[c]),
                    "score": float(scores[c]),
                    "logit": float(explanation.logits[c]),
                    "bias": float(explanation.bias[c]),
                    "contributions": {
                        name: parts[:, c].round(6).tolist()
                        for name, parts in explanation.contributions.items()
                    },
                }
                for c in columns
            ],
        }

    @property
    def _decoder(self) -> LabelDecoder:
        model = self._model
        return model.decoder if isinstance(model, MultimodalClassifier) else LabelDecoder(["value"])

    def _logits(self, table: Table) -> np.ndarray:
        model = self._model
        if isinstance(model, MultimodalClassifier):
            return model.logits(table)
        return np.asarray(model.predict(table))[:, None]

    @contextmanager
    def _table(self, rows: Sequence[Mapping[str, Any]], settings: Settings) -> Iterator[Table]:
        """The rows as columns; files exist as long as the block.

        What the model raises about a cell is a mistake of the request.
        """
        if not rows:
            raise RequestError(422, "inputs: expected at least one row", param="inputs")
        if len(rows) > settings.max_texts:
            raise RequestError(
                413,
                f"inputs: {len(rows)} rows: expected at most {settings.max_texts}",
                param="inputs",
            )
        kinds = self._model.columns
        for i, row in enumerate(rows):
            for name, cell in row.items():
                if name not in kinds:
                    listed = ", ".join(map(repr, kinds))
                    raise RequestError(
                        422, f"inputs: column {name[:100]!r} of row {i}: expected {listed}"
                    )
                if kinds[name] == "text" and len(str(cell)) > settings.max_characters:
                    raise RequestError(
                        413,
                        f"inputs: column {name!r} of row {i}: a text of {len(str(cell))} "
                        f"characters: expected at most {settings.max_characters}",
                    )
        with tempfile.TemporaryDirectory(prefix="hyperagg-") as folder:
            table: Table = {}
            for name, kind in kinds.items():
                cells = [row.get(name) for row in rows]
                if kind in ("image", "audio"):
                    cells = [
                        _write_file(cell, kind, f"column {name!r} of row {i}", Path(folder, f"{i}"))
                        for i, cell in enumerate(cells)
                    ]
                if any(cell is not None for cell in cells):
                    table[name] = cells
            if not table:
                raise RequestError(422, "inputs: expected a row with at least one value")
            try:
                yield table
            except (ValueError, TypeError, OverflowError) as error:
                message = " ".join(str(error).replace(f"{folder}/", "file of row ").split())
                raise RequestError(422, f"inputs: {message}", param="inputs") from None


def _write_file(cell: Any, kind: str, where: str, path: Path) -> Path | None:
    """Write the file that a cell holds."""
    if cell is None:
        return None
    expected = f"inputs: {where}: expected the base64 text of an {kind} file"
    if not isinstance(cell, str):
        raise RequestError(422, expected, param="inputs")
    content = cell.partition(",")[2] if cell.startswith("data:") else cell
    path = path.with_name(f"{path.name}-{kind}")
    try:
        path.write_bytes(base64.b64decode(content, validate=True))
    except (binascii.Error, ValueError):
        raise RequestError(422, expected, param="inputs") from None
    try:
        size, most = _decoded_size(path, kind)
    except Exception as error:  # whatever Pillow or soundfile raises about a damaged file
        raise RequestError(422, expected, param="inputs") from error
    if size > most:
        unit = "pixels" if kind == "image" else "samples"
        raise RequestError(413, f"inputs: {where}: {size} {unit}: expected at most {most}")
    return path


def _decoded_size(path: Path, kind: str) -> tuple[int, int]:
    """The number of pixels or samples of a file, by its header if it has it, and the maximum."""
    if kind == "image":
        with open_image(path) as image:
            return image.width * image.height, _MAX_PIXELS
    with open_audio(path) as audio:
        frames, most = audio.frames, _MAX_SAMPLES // audio.channels
        if frames == UNKNOWN_FRAMES:
            frames = 0
            for block in iter_blocks(audio, path.name):
                frames += len(block)
                if frames > most:
                    break
        return frames * audio.channels, _MAX_SAMPLES
