"""Columns of audio clips: arrays, or the paths of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hyperagg._common.validation import check_integer
from hyperagg.data import read_audio
from hyperagg.multimodal.augmentation import augment_clip
from hyperagg.multimodal.columns.base import RowName, errors_name_row, is_missing
from hyperagg.multimodal.modalities.audio import AudioFrames, AudioSamples

__all__ = ["MAX_SAMPLE_RATE", "MIN_SAMPLE_RATE", "AudioColumn"]

# Below the first, a frame of 25 ms has too few samples for a spectrum.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1000, 384_000


@dataclass(frozen=True)
class AudioColumn:
    """Clips of any length at one sample rate."""

    kind: ClassVar[str] = "audio"
    sample_rate: int

    def encode(self, cells: Sequence[Any], row_name: RowName) -> EncodedClips:
        # Many rows may have the same file.
        cache: dict[Path, np.ndarray] = {}
        clips = [self._checked_samples(cell, i, row_name, cache) for i, cell in enumerate(cells)]
        return EncodedClips(clips, np.array([clip is not None for clip in clips], dtype=bool))

    def make_modality(self, d_model: int, hidden_dim: int) -> AudioFrames | AudioSamples:
        return AudioFrames(d_model, self.sample_rate, hidden_dim=hidden_dim)

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, "sample_rate": self.sample_rate}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AudioColumn:
        rate = config["sample_rate"]
        return cls(check_integer("sample_rate", rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE))

    def token_names(self, cell: Any, num_tokens: int) -> list[str]:
        start_times = self.make_modality(1, 1).start_times(num_tokens)
        return [f"{second:.3f} s" for second in start_times]

    def _checked_samples(
        self, cell: Any, row: int, row_name: RowName, cache: dict[Path, np.ndarray]
    ) -> np.ndarray | None:
        if is_missing(cell):
            return None
        if isinstance(cell, str | Path):
            path = Path(cell)
            if path not in cache:
                with errors_name_row(row_name, row):
                    cache[path] = read_audio(path, self.sample_rate)
            return cache[path]
        samples = np.asarray(cell)
        if samples.ndim != 1 or not len(samples):
            raise ValueError(
                f"{row_name(row)}: an audio clip of shape {samples.shape}: expected (samples,)"
            )
        if samples.dtype == np.int16:
            return samples
        if not np.issubdtype(samples.dtype, np.floating):
            raise TypeError(
                f"{row_name(row)}: an audio clip of type {samples.dtype}: expected int16, or "
                "floats between -1 and 1"
            )
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            raise ValueError(f"{row_name(row)}: an audio clip has samples that are not finite")
        return samples


@dataclass(frozen=True)
class EncodedClips:
    clips: Sequence[np.ndarray | None]
    present: np.ndarray

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        own = []
        for i in rows:
            clip = self.clips[i]
            assert clip is not None
            x = clip / np.float32(32768) if clip.dtype == np.int16 else clip
            own.append(x if rng is None else augment_clip(x, rng))
        lengths = np.array([len(clip) for clip in own], dtype=np.int64)
        audio = np.zeros((len(own), lengths.max(initial=1)), dtype=np.float32)
        for row, clip in zip(audio, own):
            row[: len(clip)] = clip
        return torch.from_numpy(audio), torch.from_numpy(lengths)

    def arrays(self) -> Iterator[np.ndarray]:
        return (clip for clip in self.clips if clip is not None)
