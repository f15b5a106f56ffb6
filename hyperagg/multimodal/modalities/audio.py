"""Sounds as overlapping frames of a log-mel spectrogram, or of raw samples."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.multimodal.modalities.base import Block, Modality, Tokens, spread_positions

__all__ = ["AudioFrames", "AudioSamples", "log_mel", "mel_filters"]

WINDOW, HOP = 0.025, 0.0125  # seconds


class _Frames(Modality):
    """Frames of n features each, several neighbours to a token, at places of the whole's length."""

    def __init__(
        self,
        d_model: int,
        features: int,
        context: int,
        stride: int,
        hidden: int,
        places: int,
        blocks: int,
    ) -> None:
        super().__init__()
        self.context, self.stride = context, stride
        self.first = nn.Conv1d(features, hidden, context, stride)
        self.second = nn.Linear(hidden, d_model)
        self.blocks = nn.ModuleList(Block(d_model) for _ in range(blocks))
        self.positions = spread_positions(d_model, places)

    def _tokens(
        self, features: Float[Tensor, "R features frames"], counts: Int[Tensor, " R"]
    ) -> Tokens:
        """`counts` (R,) frames of each row, at least `context` are there of every row."""
        e = self.second(F.gelu(self.first(features)).transpose(1, 2))
        lengths = (counts - self.context).clamp(min=0) // self.stride + 1
        for block in self.blocks:
            e = block(e, lengths)
        # A word said slowly goes through the same places as one said fast.
        t = torch.arange(e.shape[1], device=e.device)
        places = len(self.positions.weight)
        at = (t * places // lengths[:, None]).clamp(max=places - 1)
        return Tokens(e, self.positions.weight[at], lengths)


class AudioFrames(_Frames):
    """Neighbouring log-mel frames through a small perceptron, at places relative to the length.

    e_t = W_2 GELU(W_1 [frame_{2t} ... frame_{2t + context - 1}]),  p_t learned, for
    floor(places t / n)

    Args:
        d_model: D.
        rate: samples a second.
        bins: of the mel scale.
        context: frames that a token sees; they are 12.5 ms apart and 25 ms long.
        stride: frames from a token to the next.
        hidden: width of the perceptron.
        places: position vectors, over the length of any sound.
        blocks: of `Block` before the sum.

    Numerics: a sound's spectrogram is centred and scaled as a whole, so loudness does not count.
    Cost: O(n (context bins hidden + hidden d)) for n tokens.
    """

    hann: Tensor
    filters: Tensor

    def __init__(
        self,
        d_model: int,
        rate: int,
        *,
        bins: int = 40,
        context: int = 11,
        stride: int = 2,
        hidden: int = 256,
        places: int = 24,
        blocks: int = 0,
    ) -> None:
        super().__init__(d_model, bins, context, stride, hidden, places, blocks)
        self.rate = rate
        self.window, self.hop = round(WINDOW * rate), round(HOP * rate)
        size = 1 << (self.window - 1).bit_length()
        self.size = size
        self.register_buffer("hann", torch.hann_window(self.window), persistent=False)
        self.register_buffer("filters", mel_filters(bins, size, rate), persistent=False)

    def tokens(self, audio: Float[Tensor, "R samples"], lengths: Int[Tensor, " R"]) -> Tokens:
        """Of sounds (R, samples) between -1 and 1, of which `lengths` (R,) samples are theirs."""
        least = self.window + (self.context - 1) * self.hop
        if audio.shape[1] < least:
            audio = F.pad(audio, (0, least - audio.shape[1]))
        counts = (lengths - self.window).clamp(min=0) // self.hop + 1
        features = log_mel(audio, counts, self.hann, self.filters, self.size, self.hop)
        return self._tokens(features, counts)

    def seconds(self, n: int) -> Float[Tensor, " n"]:
        """(n,) when each token begins."""
        return torch.arange(n) * (self.stride * self.hop / self.rate)


class AudioSamples(_Frames):
    """Frames of raw samples through a small perceptron; with 1 sample a frame, samples are tokens.

    Args:
        d_model: D.
        rate: samples a second.
        window: samples of a frame.
        hop: samples from a frame to the next.
        hidden, places, blocks: as of `AudioFrames`.
    """

    def __init__(
        self,
        d_model: int,
        rate: int,
        *,
        window: int = 160,
        hop: int = 80,
        hidden: int = 256,
        places: int = 24,
        blocks: int = 0,
    ) -> None:
        super().__init__(d_model, 1, window, hop, hidden, places, blocks)
        self.rate = rate

    def tokens(self, audio: Float[Tensor, "R samples"], lengths: Int[Tensor, " R"]) -> Tokens:
        """As `AudioFrames`."""
        if audio.shape[1] < self.context:
            audio = F.pad(audio, (0, self.context - audio.shape[1]))
        kept = torch.arange(audio.shape[1], device=audio.device) < lengths[:, None]
        power = (audio.square() * kept).sum(1) / lengths.clamp(min=1)
        return self._tokens((audio / (power.sqrt() + 1e-4)[:, None])[:, None], lengths)

    def seconds(self, n: int) -> Float[Tensor, " n"]:
        """(n,) when each token begins."""
        return torch.arange(n) * (self.stride / self.rate)


def log_mel(
    audio: Float[Tensor, "R samples"],
    counts: Int[Tensor, " R"],
    window: Float[Tensor, " window"],
    filters: Float[Tensor, "frequencies bins"],
    size: int,
    hop: int,
) -> Float[Tensor, "R bins frames"]:
    """log(power + floor) in the bins, less its mean over a row's own frames, over its deviation."""
    frames = audio.unfold(1, len(window), hop) * window
    spectrum = torch.fft.rfft(frames, size)
    # abs() would take a root of this, to be squared again.
    power = (spectrum.real.square() + spectrum.imag.square()) @ filters
    # The floor is 50 dB under the loudest frame, so that the noise of silence is no feature.
    kept = (torch.arange(power.shape[1], device=power.device) < counts[:, None])[..., None]
    loudest = (power * kept).amax((1, 2), keepdim=True)
    x = (power + 1e-5 * loudest + 1e-10).log()
    number = counts.clamp(min=1)[:, None, None] * power.shape[2]
    x = (x - (x * kept).sum((1, 2), keepdim=True) / number) * kept
    deviation = (x.square().sum((1, 2), keepdim=True) / number).sqrt()
    return (x / (deviation + 1e-3)).transpose(1, 2)


def mel_filters(bins: int, size: int, rate: int) -> Float[Tensor, "frequencies {bins}"]:
    """(size / 2 + 1, bins): triangles of equal width on the mel scale, 2595 log10(1 + f / 700)."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bins + 2) / 2595) - 1)
    f = torch.arange(size // 2 + 1)[:, None] * (rate / size)
    # A triangle narrower than the distance of two frequencies would hold none of them.
    width = edges.diff().clamp(min=rate / size)
    up = (f - edges[1:-1]) / width[:-1] + 1
    down = (edges[1:-1] - f) / width[1:] + 1
    return torch.minimum(up, down).clamp(0, 1)
