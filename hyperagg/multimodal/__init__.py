"""Several modalities in one sum: what makes tokens of each, the encoder, and its rivals."""

from hyperagg.multimodal.encoder import Given, MultimodalEncoder, MultimodalNetwork
from hyperagg.multimodal.modalities.audio import AudioFrames, AudioSamples
from hyperagg.multimodal.modalities.base import Block, Modality, Tokens
from hyperagg.multimodal.modalities.image import ImagePatches
from hyperagg.multimodal.modalities.tabular import Category, Number, Words

__all__ = [
    "AudioFrames",
    "AudioSamples",
    "Block",
    "Category",
    "Given",
    "ImagePatches",
    "Modality",
    "MultimodalEncoder",
    "MultimodalNetwork",
    "Number",
    "Tokens",
    "Words",
]
