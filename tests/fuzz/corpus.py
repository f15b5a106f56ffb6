"""Damage that was once read wrongly: a traceback, no end, gigabytes, or an answer in silence."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

__all__ = ["CORPUS", "MEDIA"]

Damage = Callable[[Path], object]
INFINITE, HUGE = float("inf"), 2**63


def put(file: str, *keys: str | int, value: Any) -> Damage:
    """Replace a value in a JSON file."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / file).read_text("utf-8"))
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        (folder / file).write_text(json.dumps(content), "utf-8")

    return damage


def merge(file: str, **values: Any) -> Damage:
    """Replace several values at the top of a JSON file."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / file).read_text("utf-8")) | values
        (folder / file).write_text(json.dumps(content), "utf-8")

    return damage


def write(file: str, content: str | bytes) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def fill(file: str, value: float) -> Damage:
    """Replace the first number of the first tensor of floats."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / file)
        name = next(n for n, a in sorted(tensors.items()) if a.dtype == np.float32)
        tensors[name] = tensors[name].copy()
        tensors[name].flat[0] = value
        save_file(tensors, folder / file, {"format": "pt"})

    return damage


def replace_by_fifo(file: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        os.mkfifo(folder / file)

    return damage


def replace_by_device(file: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to("/dev/zero")

    return damage


def grow(file: str, size: int = 2**36) -> Damage:
    """Make a file of that size, which is not on the disk."""
    return lambda folder: os.truncate(folder / file, size)


def pickled(file: str, name: str) -> Damage:
    """Save the weights by pickle instead."""

    def damage(folder: Path) -> None:
        import torch

        tensors = {k: torch.from_numpy(v.copy()) for k, v in load_file(folder / file).items()}
        (folder / file).unlink()
        torch.save(tensors, folder / name)

    return damage


def weight_map(outside: str) -> Damage:
    """Move the weights out of the folder, and name them in an index of shards."""

    def damage(folder: Path) -> None:
        weights, target = folder / "model.safetensors", folder.parent / "elsewhere.safetensors"
        names = list(load_file(weights))
        target.write_bytes(weights.read_bytes())
        weights.unlink()
        shard = str(target) if outside == "absolute" else f"../{target.name}"
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, shard)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return damage


def header(file: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change the header of a safetensors file."""

    def damage(folder: Path) -> None:
        content = (folder / file).read_bytes()
        length = int.from_bytes(content[:8], "little")
        fields = json.loads(content[8 : 8 + length])
        change(fields)
        text = json.dumps(fields).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return damage


def _enlarge(fields: dict[str, Any]) -> None:
    name = next(n for n in sorted(fields) if n != "__metadata__")
    fields[name]["shape"] = [2**40, 2**20]


def shift(file: str) -> Damage:
    """Add a value to the description of a tensor, and move all weights behind it by 20 bytes."""

    def damage(folder: Path) -> None:
        header(file, lambda fields: fields[min(fields.keys() - {"__metadata__"})].update(x=[3]))(
            folder
        )
        content = (folder / file).read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        (folder / file).write_bytes(content[:start] + b" " * 20 + content[start:-20])

    return damage


_REPLACE = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40
_REPLACE_ALL = {"type": "Replace", "pattern": {"Regex": "."}, "content": "xx"}
_BACKTRACKING = {
    "type": "Split",
    "pattern": {"Regex": "(?:(a*)*)*b|((\\w+)+)+$|^(\\w+\\s?)*\\W"},
    "behavior": "Isolated",
    "invert": False,
}
_FIXED_PADDING = {
    **dict(strategy={"Fixed": 10**9}, direction="Right", pad_to_multiple_of=None),
    **dict(pad_id=0, pad_type_id=0, pad_token="[UNK]"),
}
_TRUNCATION = dict(direction="Right", max_length=10**9, strategy="LongestFirst", stride=10**8)

_CLASSIFIER: dict[str, Damage] = {
    "max_tokens 2^63": merge("config.json", max_tokens=HUGE),
    "history is a list": merge("config.json", history=[1]),
    "history.seconds": put("config.json", "history", "seconds", value="x"),
    "history.loss NaN": put("config.json", "history", "loss", value=[float("nan")]),
    "temperature NaN": put("config.json", "history", "temperature", value=float("nan")),
    "temperature 1e-300": put("config.json", "history", "temperature", value=1e-300),
    "threshold 1e400": write("config.json", '{"format": "hyperagg.TextClassifier", "x": 1e400}'),
    "multi_label is a string": merge("config.json", multi_label="no"),
    "classes with NaN": merge("config.json", classes=["money", float("nan")]),
    "classes with null": merge("config.json", classes=["money", None]),
    "classes with lists": merge("config.json", classes=[["money"], "weather"]),
    "classes are equal": merge("config.json", classes=["money", "money"]),
    "d_model 20000": merge("config.json", d_model=20_000),
    "d_model Infinity": merge("config.json", d_model=INFINITE),
    "class_weight": merge("config.json", class_weight=[[1, 2, 3], 5]),
    "class_weight 10^400": merge("config.json", class_weight=[["money", 10**400]]),
    "config is nested": write("config.json", "[" * 100_000),
    "config is a list": write("config.json", "[]"),
    "config is a FIFO": replace_by_fifo("config.json"),
    "config is a device": replace_by_device("config.json"),
    "config of 64 GiB": grow("config.json"),
    "tokenizer is a FIFO": replace_by_fifo("tokenizer.json"),
    "tokenizer is a device": replace_by_device("tokenizer.json"),
    "tokenizer of 64 GiB": grow("tokenizer.json"),
    "weights are a FIFO": replace_by_fifo("model.safetensors"),
    "weights are a device": replace_by_device("model.safetensors"),
    "weights are a folder": lambda f: ((f / "model.safetensors").unlink(),
                                       (f / "model.safetensors").mkdir()),
    "training is a FIFO": replace_by_fifo("training.safetensors"),
    "weights of 2^60": header("model.safetensors", _enlarge),
    "weights are shifted": shift("model.safetensors"),
    "weights NaN": fill("model.safetensors", float("nan")),
    "weights infinite": fill("model.safetensors", INFINITE),
    "weights 3e38": fill("model.safetensors", 3e38),
    "weights are pickled": pickled("model.safetensors", "pytorch_model.bin"),
}  # fmt: skip

_WORDS: dict[str, Damage] = {
    **_CLASSIFIER,
    "tokenizer kind": merge("tokenizer.json", kind=5),
    "tokenizer without kind": write("tokenizer.json", "{}"),
    "vocabulary of numbers": merge("tokenizer.json", vocabulary=["[UNK]", 1.5, True]),
    "vocabulary twice": lambda f: _repeat(f),
    "vocabulary with surrogates": merge("tokenizer.json", vocabulary=["[UNK]", "\ud800"]),
    "features": merge("tokenizer.json", features=["words"]),
}


def _repeat(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    content["vocabulary"][-1] = content["vocabulary"][1]
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")


def _vocabulary_id(value: Any) -> Damage:
    """Give an entry of the vocabulary of the tokenizers library another id."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        vocabulary = content["model"]["vocab"]
        vocabulary[sorted(vocabulary)[3]] = value
        (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")

    return damage


_TOKENIZERS: dict[str, Damage] = {
    "padding of 10^9": merge("tokenizer.json", padding=_FIXED_PADDING),
    "truncation": merge("tokenizer.json", truncation=_TRUNCATION),
    "truncation to 1": merge("tokenizer.json", truncation=_TRUNCATION | dict(max_length=1)),
    "40 doublings": merge("tokenizer.json", normalizer=dict(type="Sequence", normalizers=_REPLACE)),
    "40 doublings of all": merge(
        "tokenizer.json", normalizer=dict(type="Sequence", normalizers=[_REPLACE_ALL] * 40)
    ),
    "backtracking": merge("tokenizer.json", pre_tokenizer=_BACKTRACKING),
    "no text in a template": merge("tokenizer.json", post_processor=dict(
        type="TemplateProcessing", single=[], pair=[], special_tokens={})),
    "pre_tokenizer 5": merge("tokenizer.json", pre_tokenizer=5),
    "model 5": merge("tokenizer.json", model=5),
    "Prepend": merge("tokenizer.json", normalizer=dict(type="Prepend", prepend="a" * 10**6)),
    "nested": merge("tokenizer.json", normalizer=json.loads(
        '{"type":"Sequence","normalizers":[' * 80 + '{"type":"Lowercase"}' + "]}" * 80)),
    "id 10^9": _vocabulary_id(10**9),
    "id 4 * 10^9": _vocabulary_id(4 * 10**9),
    "id 1.5": _vocabulary_id(1.5),
    "id true": _vocabulary_id(True),
    "id of another": _vocabulary_id(1),
    "id negative": _vocabulary_id(-1),
    "added token far away": merge("tokenizer.json", added_tokens=[
        dict(id=10**9, content="[X]", single_word=False, lstrip=False, rstrip=False,
             normalized=False, special=True)]),
}  # fmt: skip

_FASTTEXT: dict[str, Damage] = {
    "bucket 2^31": merge("tokenizer.json", bucket=2**31),
    "bucket 2^31 - 1": merge("tokenizer.json", bucket=2**31 - 1, kept_buckets=None),
    "kept_buckets": merge("tokenizer.json", kept_buckets=[10**400]),
    "kept_buckets true": merge("tokenizer.json", kept_buckets=[True]),
    "kept_buckets beyond": merge("tokenizer.json", kept_buckets=[1, 2**40, -5]),
    "word_ngrams 2^31": merge("tokenizer.json", word_ngrams=2**31),
    "word_ngrams 10^6": merge("tokenizer.json", word_ngrams=10**6),
    "maxn": merge("tokenizer.json", minn=1, maxn=2**31 - 1),
    "words are equal": merge("tokenizer.json", words=["a"] * 4),
    "words are numbers": merge("tokenizer.json", words=[1, 2]),
    "words with surrogates": merge("tokenizer.json", words=["\ud800", "b", "c", "d"]),
    "loss": merge("config.json", fasttext_loss="x"),
}

_MULTIMODAL: dict[str, Damage] = {
    "d_model 20000": put("config.json", "arguments", "d_model", value=20_000),
    "both 20000": lambda f: [put("config.json", "arguments", name, value=20_000)(f)
                             for name in ("d_model", "hidden_dim")],
    "knots 10^400": put("config.json", "columns", "a", "knots", value=[1, 10**400]),
    "knots NaN": put("config.json", "columns", "a", "knots", value=[1, float("nan")]),
    "knots are strings": put("config.json", "columns", "a", "knots", value=["1", "2"]),
    "knots are true": put("config.json", "columns", "a", "knots", value=[False, True]),
    "channels true": put("config.json", "columns", "image", "channels", value=True),
    "channels 1.0": put("config.json", "columns", "image", "channels", value=1.0),
    "categories twice": put("config.json", "columns", "b", "categories", value=["u", "u"]),
    "kind is a list": put("config.json", "columns", "b", "kind", value=[]),
    "classes NaN": put("config.json", "target", "classes", value=["money", float("nan")]),
    "classes lists": put("config.json", "target", "classes", value=[[1], [2]]),
    "history 5": merge("config.json", history=5),
    "history.seconds NaN": put("config.json", "history", "seconds", value=float("nan")),
    "arguments 5": merge("config.json", arguments=5),
    "columns 10^5": lambda f: put("config.json", "columns", value={
        f"c{i}": {"kind": "number", "knots": [0.0, 1.0]} for i in range(100_000)})(f),
    "classes 10^6": put("config.json", "target", "classes", value=list(range(10**6))),
    "version true": merge("config.json", format_version=True),
    "config is a FIFO": replace_by_fifo("config.json"),
    "config is a device": replace_by_device("config.json"),
    "config of 64 GiB": grow("config.json"),
    "config is nested": write("config.json", "[" * 100_000),
    "config is UTF-16": write("config.json", "{}".encode("utf-16")),
    "tokenizer is a FIFO": replace_by_fifo("tokenizer-0.json"),
    "tokenizer of 64 GiB": grow("tokenizer-0.json"),
    "weights are a device": replace_by_device("model.safetensors"),
    "weights are a FIFO": replace_by_fifo("model.safetensors"),
    "weights of 2^60": header("model.safetensors", _enlarge),
    "weights are shifted": shift("model.safetensors"),
    "weights NaN": fill("model.safetensors", float("nan")),
    "weights 3e38": fill("model.safetensors", 3e38),
    "another tokenizer": write("tokenizer-0.json", '{"version":"1.0","model":{"type":"WordLevel",'
                               '"vocab":{"[UNK]":0,"a":1000000000},"unk_token":"[UNK]"}}'),
}  # fmt: skip

_LANGUAGE: dict[str, Damage] = {
    "10^6 layers": merge("config.json", num_hidden_layers=10**6, mixers="gated", layer_types=None),
    "10^5 layers": merge("config.json", num_hidden_layers=10**5, mixers=["gated"] * 10**5,
                         layer_types=["linear_attention"] * 10**5),
    "hidden_size 2^20": merge("config.json", hidden_size=2**20),
    "hidden_size 20000": merge("config.json", hidden_size=20_000),
    "vocab_size Infinity": merge("config.json", vocab_size=INFINITE),
    "vocab_size 10^12": merge("config.json", vocab_size=10**12),
    "vocab_size 10^400": merge("config.json", vocab_size=10**400),
    "vocab_size true": merge("config.json", vocab_size=True),
    "max_position_embeddings": merge("config.json", max_position_embeddings=10**12),
    "expand 10^9": merge("config.json", expand=10**9),
    "intermediate_size 10^9": merge("config.json", intermediate_size=10**9),
    "rms_norm_eps x": merge("config.json", rms_norm_eps="x"),
    "rms_norm_eps NaN": merge("config.json", rms_norm_eps=float("nan")),
    "layer_types 5": merge("config.json", mixers=5),
    "layer_types lists": merge("config.json", mixers=[[], []]),
    "model_type": merge("config.json", model_type=5),
    "model_type of another": merge("config.json", model_type="gpt2"),
    "architectures 5": merge("config.json", architectures=5),
    "auto_map": merge("config.json", auto_map={"AutoModelForCausalLM": "../x--y.Z"}),
    "dtype": merge("config.json", dtype="float8_unknown"),
    "dtype 5": merge("config.json", dtype=5),
    "id2label": merge("config.json", id2label=5),
    "quantization": merge("config.json", quantization_config={"quant_method": "x"}),
    "quantization 5": merge("config.json", quantization_config=5),
    "eos_token_id": merge("config.json", eos_token_id="x"),
    "eos_token_id 10^12": merge("config.json", eos_token_id=10**12),
    "pad_token_id beyond": merge("config.json", pad_token_id=1000),
    "pad_token_id negative": merge("config.json", pad_token_id=-5),
    "rope": merge("config.json", rope_parameters={"rope_type": "default", "rope_theta": "x"}),
    "rope 5": merge("config.json", rope_parameters=5),
    "rope yarn": merge("config.json", rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}),
    "config 5": write("config.json", "5"),
    "config nested": write("config.json", '{"a":' * 100_000),
    "config is a FIFO": replace_by_fifo("config.json"),
    "config is a device": replace_by_device("config.json"),
    "config of 64 GiB": grow("config.json"),
    "generation_config []": write("generation_config.json", "[]"),
    "generation_config 5": write("generation_config.json", "5"),
    "generation_config nested": write("generation_config.json", "[" * 100_000),
    "generation_config value": merge("generation_config.json", eos_token_id="x"),
    "generation_config temperature": merge("generation_config.json", temperature="x"),
    "generation_config max_length": merge("generation_config.json", max_length=-5),
    "generation_config beams": merge("generation_config.json", num_beams=10**9),
    "generation_config sequences": merge("generation_config.json", num_return_sequences=10**9),
    "generation_config assistant": merge("generation_config.json", prompt_lookup_num_tokens=10**9),
    "generation_config cache": merge("generation_config.json", cache_implementation="x"),
    "generation_config pad": merge("generation_config.json", pad_token_id=1000),
    "generation_config eos": merge("generation_config.json", eos_token_id=[0, 1000]),
    "generation_config suppress": merge("generation_config.json", suppress_tokens=[1000]),
    "generation_config FIFO": replace_by_fifo("generation_config.json"),
    "adapter_config 5": write("adapter_config.json", "5"),
    "adapter_config": write("adapter_config.json", '{"base_model_name_or_path": 5}'),
    "adapter_config elsewhere": write("adapter_config.json",
                                      '{"base_model_name_or_path": "../language"}'),
    "adapter_config FIFO": replace_by_fifo("adapter_config.json"),
    "tokenizer_config []": write("tokenizer_config.json", "[]"),
    "tokenizer_config class": merge("tokenizer_config.json", tokenizer_class=5),
    "tokenizer_config eos": merge("tokenizer_config.json", eos_token=5),
    "tokenizer_config side": merge("tokenizer_config.json", padding_side=5),
    "tokenizer_config length": merge("tokenizer_config.json", model_max_length="x"),
    "tokenizer_config token": merge("tokenizer_config.json", eos_token="not there"),
    "tokenizer_config template": merge("tokenizer_config.json", chat_template=5),
    "tokenizer_config without pad": merge("tokenizer_config.json", pad_token=None),
    "tokenizer_config added": merge("tokenizer_config.json",
                                    added_tokens_decoder={"1000000000": {"content": "x"}}),
    "tokenizer_config FIFO": replace_by_fifo("tokenizer_config.json"),
    "special_tokens_map": write("special_tokens_map.json", "5"),
    "special_tokens_map token": write("special_tokens_map.json", '{"eos_token": "new one"}'),
    "added_tokens": write("added_tokens.json", '{"new": 1000000000}'),
    "tokenizer is a FIFO": replace_by_fifo("tokenizer.json"),
    "tokenizer of 64 GiB": grow("tokenizer.json"),
    "tokenizer without unknown": lambda f: _rename_unknown(f),
    **{f"tokenizer {name}": damage for name, damage in _TOKENIZERS.items()},
    "weights NaN": fill("model.safetensors", float("nan")),
    "weights infinite": fill("model.safetensors", INFINITE),
    "weights 3e38": fill("model.safetensors", 3e38),
    "weights are pickled": pickled("model.safetensors", "pytorch_model.bin"),
    "weights of 2^60": header("model.safetensors", _enlarge),
    "weights are shifted": shift("model.safetensors"),
    "weights are a FIFO": replace_by_fifo("model.safetensors"),
    "weights are a device": replace_by_device("model.safetensors"),
    "weights elsewhere": weight_map("relative"),
    "weights at an absolute path": weight_map("absolute"),
    "index 5": lambda f: ((f / "model.safetensors").unlink(),
                          (f / "model.safetensors.index.json").write_text("5")),
    "index without a map": lambda f: ((f / "model.safetensors").unlink(),
                                      (f / "model.safetensors.index.json").write_text("{}")),
}  # fmt: skip


def _rename_unknown(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["x"] = vocabulary.pop("<unk>")
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")


_DENOISER: dict[str, Damage] = {
    "num_layers 100000": merge("denoiser/config.json", num_layers=100_000),
    "num_layers 1000": merge("denoiser/config.json", num_layers=1000),
    "d_model 20000": merge("denoiser/config.json", d_model=20_000),
    "d_model Infinity": merge("denoiser/config.json", d_model=INFINITE),
    "num_classes 10^6": merge("denoiser/config.json", num_classes=10**6),
    "sample_size": merge("denoiser/config.json", sample_size=8192),
    "config 5": write("denoiser/config.json", "5"),
    "config is a FIFO": replace_by_fifo("denoiser/config.json"),
    "config of 64 GiB": grow("denoiser/config.json"),
    "_class_name 5": merge("denoiser/config.json", _class_name=5),
    "_class_name of another": merge("denoiser/config.json", _class_name="UNet2DModel"),
    "quantization": merge("denoiser/config.json", quantization_config=5),
    "timesteps 2e9": merge("scheduler/scheduler_config.json", num_train_timesteps=2 * 10**9),
    "timesteps 0": merge("scheduler/scheduler_config.json", num_train_timesteps=0),
    "timesteps x": merge("scheduler/scheduler_config.json", num_train_timesteps="x"),
    "betas 10^400": merge("scheduler/scheduler_config.json", trained_betas=[10**400]),
    "betas 1": merge("scheduler/scheduler_config.json", trained_betas=[1.0] * 1000),
    "betas 0": merge("scheduler/scheduler_config.json", trained_betas=[0.0] * 1000),
    "betas NaN": merge("scheduler/scheduler_config.json", trained_betas=[float("nan")] * 1000),
    "beta_schedule": merge("scheduler/scheduler_config.json", beta_schedule=5),
    "prediction_type": merge("scheduler/scheduler_config.json", prediction_type=5),
    "spacing": merge("scheduler/scheduler_config.json", timestep_spacing=5),
    "steps_offset": merge("scheduler/scheduler_config.json", steps_offset=10**9),
    "thresholding": merge("scheduler/scheduler_config.json", thresholding="x"),
    "clip_sample_range": merge("scheduler/scheduler_config.json", clip_sample=True,
                               clip_sample_range="x"),
    "scheduler 5": write("scheduler/scheduler_config.json", "5"),
    "scheduler _class_name 5": merge("scheduler/scheduler_config.json", _class_name=5),
    "scheduler of another": merge("scheduler/scheduler_config.json", _class_name="PNDMScheduler"),
    "scheduler is a FIFO": replace_by_fifo("scheduler/scheduler_config.json"),
    "index 5": write("model_index.json", "5"),
    "index id2label 5": merge("model_index.json", id2label=5),
    "index id2label list": merge("model_index.json", id2label=[1]),
    "index id2label number": merge("model_index.json", id2label={"0": 5, "1": [1]}),
    "index nested": write("model_index.json", "[" * 100_000),
    "index is a FIFO": replace_by_fifo("model_index.json"),
    "index of 64 GiB": grow("model_index.json"),
    "index _class_name 5": merge("model_index.json", _class_name=5),
    "weights NaN": fill("denoiser/diffusion_pytorch_model.safetensors", float("nan")),
    "weights 3e38": fill("denoiser/diffusion_pytorch_model.safetensors", 3e38),
    "weights are pickled": pickled("denoiser/diffusion_pytorch_model.safetensors",
                                   "denoiser/diffusion_pytorch_model.bin"),
    "weights are a FIFO": replace_by_fifo("denoiser/diffusion_pytorch_model.safetensors"),
    "weights are a device": replace_by_device("denoiser/diffusion_pytorch_model.safetensors"),
    "weights of 2^60": header("denoiser/diffusion_pytorch_model.safetensors", _enlarge),
    "weights are shifted": shift("denoiser/diffusion_pytorch_model.safetensors"),
    "index elsewhere": lambda f: _denoiser_index(f),
}  # fmt: skip


def _denoiser_index(folder: Path) -> None:
    name = "diffusion_pytorch_model.safetensors"
    weights, target = folder / "denoiser" / name, folder.parent / "elsewhere.safetensors"
    names = list(load_file(weights))
    target.write_bytes(weights.read_bytes())
    weights.unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, f"../../{target.name}")}
    (folder / "denoiser" / f"{name}.index.json").write_text(json.dumps(index))


def _wav(rate: int, channels: int = 1, frames: int = 100) -> bytes:
    samples = bytes(2 * 100)
    size = 2 * frames * channels
    return (
        b"RIFF" + struct.pack("<I", (36 + size) & 0xFFFFFFFF) + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, channels, rate, 0, 2 * channels & 0xFFFF, 16)
        + b"data" + struct.pack("<I", size & 0xFFFFFFFF) + samples
    )  # fmt: skip


def _flac(rate: int, channels: int, frames: int) -> bytes:
    packed = rate << 44 | (channels - 1) << 41 | 15 << 36 | frames
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80" + len(info).to_bytes(3, "big") + info + bytes(55)


def _gif(width: int, height: int) -> bytes:
    import io

    from PIL import Image

    content = io.BytesIO()
    Image.new("P", (8, 8)).save(content, "GIF")
    data = bytearray(content.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def _png(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (len(body).to_bytes(4, "big") + kind + body
                + zlib.crc32(kind + body).to_bytes(4, "big"))  # fmt: skip

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )  # fmt: skip


_WEBP = b"RIFF\x64\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + b"\xff\xff\xff" * 2 + bytes(70)
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"

# The content of files by kind; None is a pipe.
MEDIA: dict[str, dict[str, bytes | None]] = {
    "image": {
        "GIF of 65535 × 65535": _gif(65535, 65535),
        "GIF of 16000 × 16000": _gif(16000, 16000),
        "PNG of 2^31 × 2^31": _png(2**31 - 1, 2**31 - 1),
        "PNG of 10^5 × 10^4": _png(10**5, 10**4),
        "PPM of 10^5 × 10^5": b"P6 100000 100000 255\n" + bytes(100),
        "PPM of 10^400": b"P6 1" + b"0" * 400 + b" 1 255\n",
        "BMP of 2^31": b"BM" + bytes(8) + struct.pack("<IIiiHHIIiiII", 54, 40, 2**31 - 1, 2**31 - 1,
                                                     1, 24, 0, 0, 0, 0, 0, 0) + bytes(100),
        "WebP of 2^24 × 2^24": _WEBP,
        "EPS": _EPS,
        "PSD": b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 100, 100, 8, 3) + bytes(100),
        "empty": b"",
        "pipe": None,
    },
    "audio": {
        "WAV at 655349": _wav(655_349),
        "WAV at 2^31 - 1": _wav(2**31 - 1),
        "WAV at 0": _wav(0),
        "WAV at 1": _wav(1),
        "WAV of 65535 channels": _wav(8000, 65535),
        "WAV of 2^31 frames": _wav(8000, 1, 2**31),
        "FLAC of 11.7 GiB": _flac(655_350, 8, 393_000_000),
        "FLAC of 2^36 frames": _flac(44_100, 2, 2**36 - 1),
        "FLAC of ten minutes": _flac(96_000, 1, 57_000_000),
        "text": b"no header",
        "empty": b"",
        "pipe": None,
    },
}  # fmt: skip

CORPUS: dict[str, dict[str, Damage]] = {
    "classifier": _WORDS,
    "tokenizers": _TOKENIZERS,
    "fasttext": _FASTTEXT,
    "multimodal": _MULTIMODAL,
    "language": _LANGUAGE,
    "denoiser": _DENOISER,
}
