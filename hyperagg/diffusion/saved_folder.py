"""Reads the folder of a denoiser without asking diffusers, which trusts what it names.

The classes are fixed, every value of the configurations has a range, and the shapes of the weights
are compared with the configuration before a network is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file

from hyperagg._common.saved_files import (
    Check,
    check_dimensions,
    check_fields,
    check_num_layers,
    check_range,
    check_tensors,
    choice,
    integer,
    list_of,
    object_of,
    optional,
    raise_as_corrupt,
    read_json,
    real,
    text,
)
from hyperagg._common.tensors import read_header
from hyperagg._common.validation import check_bool, check_choice
from hyperagg.diffusion.model import LIMITS, MIXERS, Denoiser

__all__ = ["SavedDenoiser", "check_pipeline_folder", "read_pipeline_folder"]

MAX_TIMESTEPS = 100_000
_PIPELINE = "DenoiserPipeline"
_INDEX = "model_index.json"
_CONFIG = "denoiser/config.json"
_SCHEDULER = "scheduler/scheduler_config.json"
_WEIGHTS = "denoiser/diffusion_pytorch_model.safetensors"


def _pipeline_class(name: str, value: Any) -> None:
    # With the name of its module if it was loaded by the script in the folder.
    check_choice(name, value[-1] if isinstance(value, list) and value else value, (_PIPELINE,))


_DENOISER: dict[str, Check] = {name: integer(*limits) for name, limits in LIMITS.items()}
_SCHEMAS: dict[str, dict[str, Check]] = {
    _INDEX: {"_class_name": _pipeline_class, "id2label": object_of(text)},
    _CONFIG: {"_class_name": choice("Denoiser"), **_DENOISER, "mixer": choice(*MIXERS)},
    _SCHEDULER: {
        # Both have the same configuration, and are read as DDIMScheduler.
        "_class_name": choice("DDIMScheduler", "DDPMScheduler"),
        "num_train_timesteps": integer(1, MAX_TIMESTEPS),
        "beta_start": real(0, 1),
        "beta_end": real(0, 1),
        "beta_schedule": choice("linear", "scaled_linear", "squaredcos_cap_v2"),
        "trained_betas": optional(list_of(real(0, 1))),
        "prediction_type": choice("epsilon", "sample", "v_prediction"),
        "timestep_spacing": choice("leading", "trailing", "linspace"),
        "steps_offset": integer(0, 1),
        "dynamic_thresholding_ratio": real(0, 1),
        "clip_sample_range": real(0, 1e6),
        "sample_max_value": real(1, 1e6),
        **dict.fromkeys(
            ("clip_sample", "set_alpha_to_one", "thresholding", "rescale_betas_zero_snr"),
            check_bool,
        ),
    },
}


@dataclass(frozen=True)
class SavedDenoiser:
    """The content of a folder.

    Attributes:
        denoiser: the network, in evaluation mode.
        scheduler: the sampler.
        id2label: names of the classes by their numbers, as strings.
    """

    denoiser: Denoiser
    scheduler: DDIMScheduler
    id2label: Mapping[str, str]


def read_pipeline_folder(folder: Path) -> SavedDenoiser:
    """Read the folder of a pipeline.

    Raises:
        ValueError: a file is missing, damaged or out of bounds; the message names it.
    """
    configs = check_pipeline_folder(folder)
    with raise_as_corrupt(folder, _SCHEDULER):
        known = configs[_SCHEDULER]
        scheduler = DDIMScheduler(**{k: v for k, v in known.items() if not k.startswith("_")})
        _check_noise(scheduler)
    with raise_as_corrupt(folder, _WEIGHTS):
        tensors = load_file(folder / _WEIGHTS)
        for name, tensor in tensors.items():
            check_range(name, *map(float, torch.aminmax(tensor)))
        denoiser = Denoiser(**_arguments(configs[_CONFIG]))
        denoiser.to(tensors["proj_out.weight"].dtype).load_state_dict(tensors)
    return SavedDenoiser(denoiser.eval(), scheduler, configs[_INDEX]["id2label"])


def check_pipeline_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Check the files of a pipeline, and return the configurations by the name of their file.

    Raises:
        ValueError: as for `read_pipeline_folder`.

    Cost: the configurations and the header of the weights are read, and a network without memory is
        made of as many layers as the header has.
    """
    configs = {}
    for name, schema in _SCHEMAS.items():
        with raise_as_corrupt(folder, name):
            configs[name] = read_json(folder / name)
            check_fields(configs[name], schema)
    with raise_as_corrupt(folder, _SCHEDULER):
        config = configs[_SCHEDULER]
        betas = config.get("trained_betas")
        steps = config.get("num_train_timesteps", 1000)
        if betas is not None and len(betas) != steps:
            raise ValueError(f"trained_betas: {len(betas)} values; expected {steps}")
        known = {"_diffusers_version", *_SCHEMAS[_SCHEDULER]}
        if unknown := sorted(config.keys() - known):
            raise ValueError(f"{shorten(unknown[0])} is not a known key")
    with raise_as_corrupt(folder, _INDEX):
        if "id2label" not in configs[_INDEX]:
            raise ValueError("id2label is missing")
    arguments = _arguments(configs[_CONFIG])
    with raise_as_corrupt(folder, _WEIGHTS):
        found = read_header(folder / _WEIGHTS)
    with raise_as_corrupt(folder, _CONFIG):
        if "num_layers" in arguments:
            check_num_layers(found, r"^blocks\.([^.]*)\.", "num_layers", arguments["num_layers"])
        names = arguments.keys() & {"d_model", "num_classes"}
        check_dimensions(found, {name: arguments[name] for name in sorted(names)})
        with torch.device("meta"):
            expected = Denoiser(**arguments).state_dict()
    with raise_as_corrupt(folder, _WEIGHTS):
        shapes = {name: (tuple(value.shape), "floats") for name, value in expected.items()}
        check_tensors(found, shapes)
    return configs


def _check_noise(scheduler: DDIMScheduler) -> None:
    """Check that every step has some noise and, but for the last, some signal; it divides by both.

    Without signal in the last step, the noise does not tell what the image is.
    """
    signal = scheduler.alphas_cumprod
    least = signal[-1] if scheduler.config.prediction_type == "epsilon" else signal[:-1].min()
    if not (least > 0 and signal.max() < 1):
        raise ValueError(
            "the betas leave steps without signal or without noise; expected betas between 0 and 1 "
            "whose products of 1 - beta do not vanish"
        )


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in (*LIMITS, "mixer") if name in config}
