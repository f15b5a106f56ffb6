"""Tokens of images, audio, text, numbers and categories."""

from __future__ import annotations

import pytest
import torch

from hyperagg.multimodal import AudioFrames, AudioSamples, Block, ImagePatches, Number, Words
from hyperagg.multimodal.modalities.audio import mel_filters

D = 12


@pytest.mark.parametrize("kind", [AudioFrames, AudioSamples])
def test_samples_beyond_the_length_do_not_count(kind):
    torch.manual_seed(0)
    audio = kind(D, 8000, hidden_dim=8, num_blocks=1)
    clip = torch.randn(1, 4000)
    padded = torch.cat([clip, 100 * torch.randn(1, 2000)], 1)
    length = torch.tensor([4000])
    torch.testing.assert_close(audio(clip, length), audio(padded, length), rtol=1e-4, atol=1e-5)
    if kind is AudioFrames:  # does not depend on the loudness
        torch.testing.assert_close(
            audio(clip, length), audio(2 * clip, length), rtol=1e-3, atol=1e-3
        )
    assert audio(clip[:, :1], torch.tensor([1])).isfinite().all()
    assert audio(torch.zeros(1, 4000), length).isfinite().all()


def test_numbers_are_interpolated_linearly_between_knots():
    number = Number(D, [1.0, 2.0, 4.0])
    low, middle, high, beyond = number(torch.tensor([2.0, 3.0, 4.0, 40.0]))
    torch.testing.assert_close(middle, (low + high) / 2)
    torch.testing.assert_close(high, beyond)


def test_padded_and_concatenated_words_have_equal_sums():
    words = Words(D, 30)
    with torch.no_grad():
        words.mixer.positions.weight.normal_(1, 0.3)
    ids, cu_seqlens = torch.randint(0, 30, (40,)), torch.tensor([0, 25, 25, 40])
    tokens = words.tokens(ids, cu_seqlens)
    torch.testing.assert_close(tokens.terms().sum(1), words(ids, cu_seqlens))


def test_every_mel_filter_and_every_frequency_is_used():
    filters = mel_filters(40, 256, 8000)
    assert (filters.sum(0) > 0).all() and (filters[2:-1].sum(1) > 0).all()


def test_a_block_is_bidirectional_and_ignores_padding():
    block = Block(D).eval()
    x = torch.randn(2, 9, D)
    changed = x.clone()
    changed[0, 8] += 1
    difference = (block(x) - block(changed)).abs().sum(2)
    assert (difference[0] > 0).all() and (difference[1] == 0).all()
    lengths = torch.tensor([8, 9])
    torch.testing.assert_close(block(x, lengths)[0, :8], block(changed, lengths)[0, :8])


def test_a_patch_may_not_be_larger_than_the_image():
    with pytest.raises(ValueError, match="patch_size=14: expected at most 5 for images of 5 × 9"):
        ImagePatches(D, (5, 9))


def test_mel_filters_are_on_the_cpu_whatever_the_default_device_is():
    with torch.device("meta"):
        filters = mel_filters(40, 256, 8000)
    assert filters.device.type == "cpu"
    assert torch.equal(filters, mel_filters(40, 256, 8000))
