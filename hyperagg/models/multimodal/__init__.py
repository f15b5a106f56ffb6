"""Several modalities in one sum: what makes tokens of each, the encoder, and its rivals."""

from hyperagg.models.multimodal.encoder import Given, MultimodalEncoder, MultimodalNetwork
from hyperagg.models.multimodal.modality import Block, Modality, Tokens
from hyperagg.models.multimodal.pictures import ImagePatches
from hyperagg.models.multimodal.sounds import AudioFrames, AudioSamples
from hyperagg.models.multimodal.tables import Category, Number, Words

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
