"""Checks the folder of a language model before transformers reads it.

transformers trusts a folder: it builds what config.json asks for, follows the paths in an index of
shards, and reads pickled weights. What is accepted here are the files that `save_pretrained`
writes: JSON with values of the right types and ranges, weights as safetensors beside it, and shapes
that agree with the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from reprlib import repr as shorten
from typing import Any

import torch
from torch import nn

from hyperagg._common.saved_files import (
    MAX_TEXT_BYTES,
    Check,
    anything,
    check_dimensions,
    check_fields,
    check_file,
    check_num_layers,
    check_range,
    choice,
    integer,
    list_of,
    object_of,
    optional,
    raise_as_corrupt,
    read_json,
    read_text,
    real,
    text,
)
from hyperagg._common.tensors import TensorInfo, read_header
from hyperagg._common.validation import check_bool, check_integer
from hyperagg.text.tokenizer_file import check_tokenizer_file

__all__ = ["check_model_folder", "check_sizes", "check_tokenizer_folder", "check_weights"]

_WEIGHTS = "model.safetensors"
_MAX_ID = 2**31 - 1
_NAMES = ("float64", "float32", "float16", "bfloat16")
# Earlier versions of transformers wrote the names with the prefix.
_DTYPES = (*_NAMES, "auto", *(f"torch.{name}" for name in _NAMES))

_id, _count, _flag = optional(integer(0, _MAX_ID)), optional(integer(0, _MAX_ID)), check_bool
_few: Check = optional(integer(1, 1000))
_number: Check = optional(real())
_fraction: Check = optional(real(0, 1))


def _ids(name: str, value: Any) -> None:
    """Check one id, several, or null."""
    (list_of(integer(0, _MAX_ID)) if isinstance(value, list) else _id)(name, value)


def _token(name: str, value: Any) -> None:
    """Check a special token: its text, or an object with its content."""
    if isinstance(value, dict):
        value = value.get("content")
    optional(text)(name, value)


def _templates(name: str, value: Any) -> None:
    """Check one chat template, or several: a list of objects, or an object from names to them."""
    several: dict[type, Check] = {list: list_of(object_of(text)), dict: object_of(text)}
    several.get(type(value), text)(name, value)


_CONFIG: dict[str, Check] = {
    "model_type": choice("hyperagg"),
    "architectures": optional(list_of(text)),
    "dtype": optional(choice(*_DTYPES)),
    "torch_dtype": optional(choice(*_DTYPES)),
    "transformers_version": optional(text),
    "layer_types": optional(anything),
    "mixers": anything,
    "id2label": optional(object_of(text)),
    "label2id": optional(object_of(integer(0, _MAX_ID))),
    "num_labels": optional(integer(1, _MAX_ID)),
    "problem_type": optional(text),
    "auto_map": optional(object_of(text)),
    "quantization_config": optional(object_of(anything)),
    "rope_parameters": optional(object_of(anything)),
    **dict.fromkeys(("pad_token_id", "bos_token_id"), _id),
    "eos_token_id": _ids,
    **dict.fromkeys(("output_gate", "negative_eigenvalues", "tie_word_embeddings"), _flag),
    "use_cache": optional(_flag),
}
_TOKEN_IDS = (
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"),
    "bad_words_ids",
)
_GENERATION: dict[str, Check] = {
    **dict.fromkeys(
        ("max_length", "max_new_tokens", "min_length", "min_new_tokens", "top_k"), _count
    ),
    **dict.fromkeys(("num_beams", "num_return_sequences", "num_beam_groups"), _few),
    **dict.fromkeys(("num_assistant_tokens", "prompt_lookup_num_tokens"), _few),
    **dict.fromkeys(("max_matching_ngram_size", "prefill_chunk_size"), _few),
    **dict.fromkeys(
        ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), optional(integer(0, 1000))
    ),
    **dict.fromkeys(("top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff"), _fraction),
    **dict.fromkeys(("eta_cutoff", "penalty_alpha"), _fraction),
    **dict.fromkeys(
        ("temperature", "repetition_penalty", "encoder_repetition_penalty", "max_time"),
        optional(real(0)),
    ),
    **dict.fromkeys(("length_penalty", "guidance_scale", "diversity_penalty"), _number),
    **dict.fromkeys(
        ("do_sample", "use_cache", "output_attentions", "output_hidden_states", "output_scores",
         "output_logits", "return_dict_in_generate", "renormalize_logits", "low_memory",
         "remove_invalid_values", "is_assistant", "token_healing", "disable_compile"),
        optional(_flag),
    ),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "decoder_start_token_id"), _id),
    **dict.fromkeys(("eos_token_id", "forced_bos_token_id", "forced_eos_token_id"), _ids),
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens"), _ids),
    **dict.fromkeys(("cache_implementation", "transformers_version"), optional(text)),
    "stop_strings": optional(lambda name, value: (
        text if isinstance(value, str) else list_of(text))(name, value)),
    "bad_words_ids": optional(list_of(list_of(integer(0, _MAX_ID)))),
    "watermarking_config": optional(object_of(anything)),
}  # fmt: skip
_SPECIAL_TOKENS: dict[str, Check] = {
    **dict.fromkeys(
        (
            "bos_token",
            "eos_token",
            "pad_token",
            "unk_token",
            "sep_token",
            "cls_token",
            "mask_token",
        ),
        _token,
    ),
    "additional_special_tokens": optional(list_of(_token)),
}
_TOKENIZER_CONFIG: dict[str, Check] = {
    **_SPECIAL_TOKENS,
    **dict.fromkeys(("tokenizer_class", "backend"), optional(text)),
    **dict.fromkeys(("padding_side", "truncation_side"), choice("left", "right")),
    "model_max_length": optional(real(1)),
    "clean_up_tokenization_spaces": optional(_flag),
    "chat_template": optional(_templates),
    "added_tokens_decoder": optional(object_of(object_of(anything))),
}  # fmt: skip


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Check the files of a model, and return what config.json holds.

    Raises:
        ValueError: a file is missing, damaged, out of bounds or not a regular file; weights are not
            safetensors, or lie outside of the folder.
    """
    config = _read(folder, "config.json", _CONFIG)
    if config.get("model_type") != "hyperagg":
        raise ValueError(
            f"{folder / 'config.json'}: model_type={shorten(config.get('model_type'))}: expected "
            "'hyperagg'"
        )
    _check_ids(folder, "config.json", config, config.get("vocab_size"))
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder}: holds an adapter (adapter_config.json); merge it into its model, and save "
            "that, or load it with peft"
        )
    generation = _read_if_any(folder, "generation_config.json", _GENERATION)
    _check_ids(folder, "generation_config.json", generation, config.get("vocab_size"))
    return config


def _check_ids(folder: Path, file: str, content: Mapping[str, Any], vocab_size: Any) -> None:
    """Check that the token ids in a file are ids of the vocabulary."""
    if type(vocab_size) is not int:
        return  # which is refused as the size of a network
    with raise_as_corrupt(folder, file):
        for name in _TOKEN_IDS:
            for number in _flatten(content.get(name)):
                check_integer(name, number, 0, vocab_size - 1)


def _flatten(value: Any) -> list[Any]:
    """The values of lists in lists; none of null."""
    if isinstance(value, list):
        return [each for part in value for each in _flatten(part)]
    return [] if value is None else [value]


def check_sizes(folder: Path, network: type[nn.Module], config: Any) -> None:
    """Check that the weights in a folder have the shapes that a configuration requires.

    Args:
        folder: the folder.
        network: the class that is to be made of them.
        config: its configuration, whose own bounds have been checked.

    Raises:
        ValueError: they differ, or a file is damaged.

    Cost: the headers of the files are read, and a network without memory is made of as many layers
        as the files have.
    """
    found = _headers(folder)
    with raise_as_corrupt(folder, "config.json"):
        layer = r"(?:^|\.)layers\.(\d+)\."
        check_num_layers(found, layer, "num_hidden_layers", config.num_hidden_layers)
        names = ("vocab_size", "hidden_size", "intermediate_size")
        check_dimensions(found, {name: getattr(config, name) for name in names})
        with torch.device("meta"):
            expected = network(config).state_dict()
        prefix = getattr(network, "base_model_prefix", "") + "."
        for name, value in expected.items():
            # The weights may be those of the base model alone, or of a model that contains it.
            for key in (name, prefix + name, name.removeprefix(prefix)):
                if key in found and found[key].shape != tuple(value.shape):
                    raise ValueError(
                        f"the shapes of its weights differ: {key} is {list(found[key].shape)}, and "
                        f"the configuration requires {list(value.shape)}"
                    )


def check_weights(folder: Path, model: nn.Module) -> None:
    """Check that the loaded weights are finite.

    Raises:
        ValueError: one is not.
    """
    with raise_as_corrupt(folder, _WEIGHTS):
        for name, weight in model.state_dict().items():
            if (
                weight.is_floating_point()
                and weight.numel()
                and weight.dtype.itemsize > 1
                and (not weight.is_meta)
            ):
                minimum, maximum = torch.aminmax(weight.detach())
                check_range(name, float(minimum), float(maximum))


def check_tokenizer_folder(folder: Path) -> None:
    """Check the files of a tokenizer.

    Raises:
        ValueError: tokenizer.json is missing, or a file is damaged, out of bounds or not a regular
            file.
    """
    with raise_as_corrupt(folder, "tokenizer.json"):
        content = read_json(folder / "tokenizer.json", MAX_TEXT_BYTES)
        check_tokenizer_file(content)
        _check_unknown_token(content["model"])
    _read_if_any(folder, "tokenizer_config.json", _TOKENIZER_CONFIG)
    _read_if_any(folder, "special_tokens_map.json", _SPECIAL_TOKENS)
    _read_if_any(folder, "added_tokens.json", {})
    with raise_as_corrupt(folder, "chat_template.jinja"):
        if (folder / "chat_template.jinja").exists():
            read_text(folder / "chat_template.jinja", 2**20)


def _check_unknown_token(model: Mapping[str, Any]) -> None:
    """Check that the token for unknown words has an id; or a text that has one is an error."""
    unknown, vocabulary = model.get("unk_token"), model.get("vocab")
    if isinstance(unknown, str) and isinstance(vocabulary, dict) and unknown not in vocabulary:
        raise ValueError(f"unk_token={shorten(unknown)}: expected an entry of the vocabulary")


def _headers(folder: Path) -> Mapping[str, TensorInfo]:
    """What the weights say of themselves: one file, or the shards of an index."""
    if (folder / _WEIGHTS).exists():
        with raise_as_corrupt(folder, _WEIGHTS):
            return read_header(folder / _WEIGHTS)
    name = f"{_WEIGHTS}.index.json"
    if not (folder / name).exists():
        raise ValueError(f"{folder}: {_WEIGHTS} not found; expected weights as safetensors")
    with raise_as_corrupt(folder, name):
        index = read_json(folder / name)
        check_fields(index, {"weight_map": object_of(_shard), "metadata": object_of(anything)})
        shards = sorted(set(index["weight_map"].values()))
    found: dict[str, TensorInfo] = {}
    for shard in shards:
        with raise_as_corrupt(folder, shard):
            found |= read_header(folder / shard)
    return found


def _shard(name: str, value: Any) -> None:
    text(name, value)
    if PurePosixPath(value).name != value or "\\" in value or not value.endswith(".safetensors"):
        raise ValueError(f"{name}={shorten(value)}: expected a safetensors file in the folder")


def _read(folder: Path, name: str, schema: Mapping[str, Check]) -> dict[str, Any]:
    with raise_as_corrupt(folder, name):
        content = read_json(folder / name)
        check_fields(content, schema)
    return content


def _read_if_any(folder: Path, name: str, schema: Mapping[str, Check]) -> dict[str, Any]:
    if not (folder / name).exists():
        return {}
    with raise_as_corrupt(folder, name):
        check_file(folder / name)
    return _read(folder, name, schema)
