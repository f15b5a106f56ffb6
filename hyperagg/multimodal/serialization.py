"""A model's folder: config.json, model.safetensors, tokenizer-N.json, README.md."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperagg._common.atomic import atomic_write

if TYPE_CHECKING:
    from hyperagg.multimodal.estimator import MultimodalModel

__all__ = ["is_multimodal", "read", "write"]

FORMAT, FORMAT_VERSION = "hyperagg.MultimodalModel", 1


def is_multimodal(folder: Path) -> bool:
    """Whether that is the folder of a multimodal model; reads one line of JSON, no PyTorch."""
    try:
        described = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(described, dict) and described.get("format") == FORMAT


def write(model: MultimodalModel, folder: Path) -> None:
    from safetensors.torch import save_file

    from hyperagg.multimodal.columns.tabular import TextColumn

    network = model.network
    if network is None:
        raise ValueError("the model has not learned yet: call fit before it is saved")
    history = model.history_
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **model.describe(),
        "history": {"loss": history.loss, "score": history.score, "best": history.best_epoch},
    }
    texts = {"README.md": _card(model, folder.name)}
    for number, column in enumerate(model.columns.values()):
        if isinstance(column, TextColumn):
            texts[TextColumn.file(number)] = column.tokenizer.to_json()
    # The last makes the folder a model.
    texts["config.json"] = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    with ExitStack() as drafts:
        draft = drafts.enter_context(atomic_write(folder / "config.json"))
        draft.write_text(texts.pop("config.json"), "utf-8")
        for name, text in texts.items():
            drafts.enter_context(atomic_write(folder / name)).write_text(text, "utf-8")
        draft = drafts.enter_context(atomic_write(folder / "model.safetensors"))
        tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(tensors, draft, {"format": "pt"})


def read(folder: Path) -> MultimodalModel:
    """Raises ValueError where there is no such model, or a file of it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from hyperagg.multimodal.estimator import KINDS, MultimodalModel
    from hyperagg.multimodal.targets import Targets

    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give one that save_pretrained wrote")
    if not is_multimodal(folder):
        raise ValueError(f"{folder}: not the folder of a multimodal model of hyperagg")
    name = "config.json"
    try:
        described: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
        if described["format_version"] != FORMAT_VERSION:
            raise ValueError(f"it is of format version {described['format_version']}")
        columns = described["columns"]
        model = MultimodalModel(
            {column: about["kind"] for column, about in columns.items()},
            **{
                key: described[key]
                for key in ("regression", "d_model", "hidden", "rate", "fusion", "epochs")
            },
            validation_fraction=described["validation_fraction"],
            **described["recipe"],
        )
        model.targets = Targets(
            bool(described["regression"]),
            described["classes"],
            float(described["centre"]),
            float(described["scale"]),
        )
        history = described["history"]
        model.history_.loss, model.history_.score = history["loss"], history["score"]
        model.history_.best_epoch = history["best"]
        for number, (column, about) in enumerate(columns.items()):
            name = f"tokenizer-{number}.json" if about["kind"] == "text" else "config.json"
            model.columns[column] = KINDS[about["kind"]].read(about, folder, number)
        network = model._make_network()
        name = "model.safetensors"
        network.load_state_dict(load_file(folder / name))
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: {name} is missing; save the model again") from error
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{folder / name}: damaged ({reason[:200]}); save the model again") from (
            error
        )
    model.network = network.eval()
    return model


def _card(model: MultimodalModel, name: str) -> str:
    columns = ", ".join(f"{column} ({kind})" for column, kind in model.kinds.items())
    assert model.network is not None
    parameters = sum(p.numel() for p in model.network.parameters())
    task = "a number" if model.regression else f"one of {len(model.classes_)} labels"
    scores, lines = model.history_.score, ""
    if scores:
        measure = "R²" if model.regression else "accuracy"
        best = scores[model.history_.best_epoch]
        lines = f"- {measure} on the held-out part of the training rows: {best:.4f}\n"
    return (
        f"---\nlibrary_name: hyperagg\n---\n# {name}\n\n"
        f"Foretells {task} from any of the columns {columns}; trained with hyperagg.\n\n"
        f"- parameters: {parameters:,}\n{lines}\n"
        "```python\nfrom hyperagg.multimodal.estimator import MultimodalModel\n\n"
        f'model = MultimodalModel.from_pretrained("{name}")\n```\n'
    )
