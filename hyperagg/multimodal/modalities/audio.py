"""Audio as overlapping frames of a log-mel spectrogram, or of raw samples."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.multimodal.modalities.base import Block, Modality, Tokens, random_positions

__all__ = ["AudioFrames", "AudioSamples", "log_mel_spectrogram", "mel_filters"]

WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.0125


class _Frames(Modality):
    """Tokens of `context` neighboring frames each, at positions relative to the clip's length."""

    def __init__(
        self,
        d_model: int,
        num_features: int,
        context: int,
        stride: int,
        hidden_dim: int,
        num_positions: int,
        num_blocks: int,
    ) -> None:
        super().__init__()
        self.context, self.stride = context, stride
        self.frame_projection = nn.Conv1d(num_features, hidden_dim, context, stride)
        self.output_projection = nn.Linear(hidden_dim, d_model)
        self.blocks = nn.ModuleList(Block(d_model) for _ in range(num_blocks))
        self.positions = random_positions(d_model, num_positions)

    def _tokens(
        self, features: Float[Tensor, "R features frames"], num_frames: Int[Tensor, " R"]
    ) -> Tokens:
        """`num_frames` (R,) frames of each row are not padding; there are at least `context`."""
        hidden = F.gelu(self.frame_projection(features))
        e = self.output_projection(hidden.transpose(1, 2))
        lengths = (num_frames - self.context).clamp(min=0) // self.stride + 1
        for block in self.blocks:
            e = block(e, lengths)
        # A word spoken slowly passes through the same positions as one spoken fast.
        t = torch.arange(e.shape[1], device=e.device)
        num_positions = len(self.positions.weight)
        index = (t * num_positions // lengths[:, None]).clamp(max=num_positions - 1)
        return Tokens(e, self.positions.weight[index], lengths)


class AudioFrames(_Frames):
    """Maps neighboring log-mel frames to tokens by a two-layer perceptron.

    e_t = W_2 GELU(W_1 [frame_{2t} ... frame_{2t + context - 1}])
    p_t = learned vector floor(num_positions t / n), initialized from N(1, 1)

    Args:
        d_model: dimension D of the tokens.
        sample_rate: of the audio, in samples per second.
        num_mels: number of bins of the mel scale.
        context: number of frames per token; frames are 25 ms long and 12.5 ms apart.
        stride: distance of neighboring tokens in frames.
        hidden_dim: width of the perceptron.
        num_positions: number of position vectors over the length of a clip, however long it is.
        num_blocks: number of `Block` layers before the sum.

    Numerics: the spectrogram of a clip is centered and scaled as a whole, so the tokens do not
        depend on the loudness.
    Cost: O(n (context num_mels hidden_dim + hidden_dim d)) for n tokens.

    >>> AudioFrames(8, 8000)(torch.randn(2, 4000), torch.tensor([4000, 2500])).shape
    torch.Size([2, 8])
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        d_model: int,
        sample_rate: int,
        *,
        num_mels: int = 40,
        context: int = 11,
        stride: int = 2,
        hidden_dim: int = 256,
        num_positions: int = 24,
        num_blocks: int = 0,
    ) -> None:
        super().__init__(d_model, num_mels, context, stride, hidden_dim, num_positions, num_blocks)
        self.sample_rate = sample_rate
        self.window_length = round(WINDOW_SECONDS * sample_rate)
        self.hop_length = round(HOP_SECONDS * sample_rate)
        self.fft_size = 1 << (self.window_length - 1).bit_length()
        self.register_buffer("window", torch.hann_window(self.window_length), persistent=False)
        filters = mel_filters(num_mels, self.fft_size, sample_rate)
        self.register_buffer("filters", filters, persistent=False)

    def tokens(self, audio: Float[Tensor, "R samples"], lengths: Int[Tensor, " R"]) -> Tokens:
        """Return the frame tokens.

        Args:
            audio: (R, samples) between -1 and 1, padded on the right.
            lengths: (R,) number of samples of each clip.
        """
        shortest = self.window_length + (self.context - 1) * self.hop_length
        if audio.shape[1] < shortest:
            audio = F.pad(audio, (0, shortest - audio.shape[1]))
        num_frames = (lengths - self.window_length).clamp(min=0) // self.hop_length + 1
        features = log_mel_spectrogram(
            audio, num_frames, self.window, self.filters, self.fft_size, self.hop_length
        )
        return self._tokens(features, num_frames)

    def start_times(self, n: int) -> Float[Tensor, " n"]:
        """Return the seconds at which each of n tokens starts, (n,)."""
        return torch.arange(n) * (self.stride * self.hop_length / self.sample_rate)


class AudioSamples(_Frames):
    """Maps frames of raw samples to tokens by a two-layer perceptron.

    With frames of one sample, every sample is a token.

    Args:
        d_model: dimension D of the tokens.
        sample_rate: of the audio, in samples per second.
        frame_length: number of samples per frame.
        hop_length: distance of neighboring frames in samples.
        hidden_dim, num_positions, num_blocks: see `AudioFrames`.

    Numerics: a clip is divided by its root mean square.
    Cost: O(n (frame_length hidden_dim + hidden_dim d)) for n tokens.

    >>> AudioSamples(8, 8000)(torch.randn(2, 4000), torch.tensor([4000, 2500])).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        d_model: int,
        sample_rate: int,
        *,
        frame_length: int = 160,
        hop_length: int = 80,
        hidden_dim: int = 256,
        num_positions: int = 24,
        num_blocks: int = 0,
    ) -> None:
        super().__init__(
            d_model, 1, frame_length, hop_length, hidden_dim, num_positions, num_blocks
        )
        self.sample_rate = sample_rate

    def tokens(self, audio: Float[Tensor, "R samples"], lengths: Int[Tensor, " R"]) -> Tokens:
        """Return the frame tokens; arguments as in `AudioFrames.tokens`."""
        if audio.shape[1] < self.context:
            audio = F.pad(audio, (0, self.context - audio.shape[1]))
        valid = torch.arange(audio.shape[1], device=audio.device) < lengths[:, None]
        power = (audio.square() * valid).sum(1) / lengths.clamp(min=1)
        return self._tokens((audio / (power.sqrt() + 1e-4)[:, None])[:, None], lengths)

    def start_times(self, n: int) -> Float[Tensor, " n"]:
        """Return the seconds at which each of n tokens starts, (n,)."""
        return torch.arange(n) * (self.stride / self.sample_rate)


def log_mel_spectrogram(
    audio: Float[Tensor, "R samples"],
    num_frames: Int[Tensor, " R"],
    window: Float[Tensor, " window"],
    filters: Float[Tensor, "frequencies mels"],
    fft_size: int,
    hop_length: int,
) -> Float[Tensor, "R mels frames"]:
    """Compute log(power + floor) per mel bin, standardized over each row's own frames.

    Args:
        audio: (R, samples).
        num_frames: (R,) number of frames of each row that are not padding.
        window: (window_length,) factors of the samples of a frame.
        filters: (frequencies, mels), see `mel_filters`.
        fft_size: length of the Fourier transform.
        hop_length: distance of neighboring frames in samples.

    Returns:
        (R, mels, frames), zero at padding.
    """
    frames = audio.unfold(1, len(window), hop_length) * window
    spectrum = torch.fft.rfft(frames, fft_size)
    # Cheaper than abs(), which takes a root that would be squared again.
    power = (spectrum.real.square() + spectrum.imag.square()) @ filters
    # The floor lies 50 dB below the loudest frame, so that the noise of silence is not a feature.
    valid = (torch.arange(power.shape[1], device=power.device) < num_frames[:, None])[..., None]
    loudest = (power * valid).amax((1, 2), keepdim=True)
    x = (power + 1e-5 * loudest + 1e-10).log()
    count = num_frames.clamp(min=1)[:, None, None] * power.shape[2]
    x = (x - (x * valid).sum((1, 2), keepdim=True) / count) * valid
    std = (x.square().sum((1, 2), keepdim=True) / count).sqrt()
    return (x / (std + 1e-3)).transpose(1, 2)


def mel_filters(
    num_mels: int, fft_size: int, sample_rate: int
) -> Float[Tensor, "frequencies {num_mels}"]:
    """Make triangular filters of equal width on the mel scale, 2595 log10(1 + f / 700).

    Args:
        num_mels: number of filters.
        fft_size: length of the Fourier transform.
        sample_rate: of the audio, in samples per second.

    Returns:
        (fft_size / 2 + 1, num_mels).
    """
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    # On the CPU whatever the default device is: an empty network on the meta device has them too.
    edges = 700 * (10 ** (torch.linspace(0, top, num_mels + 2, device="cpu") / 2595) - 1)
    f = torch.arange(fft_size // 2 + 1, device="cpu")[:, None] * (sample_rate / fft_size)
    # A triangle narrower than the distance of two frequencies would contain neither of them.
    width = edges.diff().clamp(min=sample_rate / fft_size)
    up = (f - edges[1:-1]) / width[:-1] + 1
    down = (edges[1:-1] - f) / width[1:] + 1
    return torch.minimum(up, down).clamp(0, 1)
