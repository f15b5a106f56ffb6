"""The encoder's sum: exact parts, missing modalities, padding that never counts."""

from __future__ import annotations

import pytest
import torch

from hyperagg import MultimodalEncoder
from hyperagg.multimodal.encoder import Given, MultimodalNetwork
from hyperagg.multimodal.fusion import FUSIONS, make_encoder
from hyperagg.multimodal.modalities.audio import AudioFrames, AudioSamples, mel_filters
from hyperagg.multimodal.modalities.base import Block
from hyperagg.multimodal.modalities.image import ImagePatches
from hyperagg.multimodal.modalities.tabular import Category, Number, Words

D = 12


def modalities():
    return {
        "picture": ImagePatches(D, (11, 9), patch=4, stride=3, hidden=8, blocks=1),
        "sound": AudioFrames(D, 8000, bins=10, context=3, hidden=8, blocks=1),
        "raw": AudioSamples(D, 8000, window=40, hop=20, hidden=8),
        "text": Words(D, 20),
        "age": Number(D, [1.0, 2.0, 4.0]),
        "kind": Category(D, 3),
    }


def given(rows):
    """Row 0 has all, row 1 a picture and a sound, row 2 a text and an age, of which `rows`."""
    torch.manual_seed(2)
    samples, pictures = torch.randn(2, 3000) / 5, torch.rand(2, 1, 11, 9)
    ids = [torch.tensor([1, 2, 3, 2]), torch.tensor([5, 1])]
    whole = {
        "picture": ([0, 1], lambda k: (pictures[k],)),
        "sound": ([0, 1], lambda k: (samples[k], torch.tensor([3000, 1700])[k])),
        "raw": ([0], lambda k: (samples[:1], torch.tensor([2500]))),
        "text": (
            [0, 2],
            lambda k: (
                torch.cat([ids[i] for i in k]),
                torch.tensor([0, *torch.tensor([len(ids[i]) for i in k]).cumsum(0)]),
            ),
        ),
        "age": ([0, 2], lambda k: (torch.tensor([1.5, 9.0])[k],)),
        "kind": ([0], lambda k: (torch.tensor([2]),)),
    }
    found = {}
    for name, (own, make) in whole.items():
        kept = [i for i, row in enumerate(own) if row in rows]
        if kept:
            at = torch.tensor([rows.index(own[i]) for i in kept])
            found[name] = Given(at, make(kept))
    return found


@pytest.fixture
def network():
    torch.manual_seed(1)
    return MultimodalNetwork(MultimodalEncoder(D, modalities()), 5).eval()


@pytest.mark.parametrize("row", [0, 1, 2])
def test_parts_add_up_to_the_logits(network, row):
    own = given([row])
    logits = network(own, 1)[0].double()
    parts = network.contributions(own)
    assert set(parts) == set(own)
    total = network.head.bias.double() + sum(part.sum(0) for part in parts.values())
    torch.testing.assert_close(total, logits, rtol=0, atol=1e-5)
    assert len(parts["age" if row == 2 else "picture"]) == (1 if row == 2 else 4 * 3)


def test_a_row_does_not_depend_on_the_others(network):
    together = network(given([0, 1, 2]), 3)
    alone = torch.cat([network(given([row]), 1) for row in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_what_is_missing_adds_nothing(network):
    own = given([0])
    all_parts = network.contributions(own)
    sound = own.pop("sound")
    without = network(own, 1)[0].double()
    total = network.head.bias.double() + sum(
        part.sum(0) for name, part in all_parts.items() if name != "sound"
    )
    torch.testing.assert_close(total, without, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="'noise': the modalities are picture, sound"):
        network({"noise": sound}, 1)
    torch.testing.assert_close(network({}, 2), network.head.bias.expand(2, -1))


def test_samples_past_the_end_do_not_count():
    torch.manual_seed(0)
    for sound in (AudioFrames(D, 8000, hidden=8, blocks=1), AudioSamples(D, 8000, hidden=8)):
        audio = torch.randn(1, 4000)
        longer = torch.cat([audio, 100 * torch.randn(1, 2000)], 1)
        length = torch.tensor([4000])
        torch.testing.assert_close(
            sound(audio, length), sound(longer, length), rtol=1e-4, atol=1e-5
        )
        # Twice as loud is the same sound, and one sample is one too.
        if isinstance(sound, AudioFrames):
            torch.testing.assert_close(
                sound(audio, length), sound(2 * audio, length), rtol=1e-3, atol=1e-3
            )
        assert sound(audio[:, :1], torch.tensor([1])).isfinite().all()
        assert sound(torch.zeros(1, 4000), length).isfinite().all()


def test_numbers_are_straight_lines_between_knots():
    number = Number(D, [1.0, 2.0, 4.0])
    low, middle, high, beyond = number(torch.tensor([2.0, 3.0, 4.0, 40.0]))
    torch.testing.assert_close(middle, (low + high) / 2)
    torch.testing.assert_close(high, beyond)


def test_words_padded_and_end_to_end_are_the_same():
    words = Words(D, 30)
    with torch.no_grad():
        words.mixer.positions.weight.normal_(1, 0.3)
    ids, borders = torch.randint(0, 30, (40,)), torch.tensor([0, 25, 25, 40])
    tokens = words.tokens(ids, borders)
    torch.testing.assert_close(tokens.addends().sum(1), words(ids, borders))


def test_every_frequency_has_a_bin():
    filters = mel_filters(40, 256, 8000)
    assert (filters.sum(0) > 0).all() and (filters[2:-1].sum(1) > 0).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_takes_any_subset_and_learns_all_it_has(fusion):
    torch.manual_seed(1)
    network = MultimodalNetwork(make_encoder(fusion, D, modalities()), 5)
    logits = network(given([0, 1, 2]), 3)
    alone = torch.cat([network(given([row]), 1) for row in range(3)])
    torch.testing.assert_close(logits, alone, rtol=1e-3, atol=1e-4)
    logits.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    with pytest.raises(ValueError, match="fusion='mean': there are sum"):
        make_encoder("mean", D, modalities())


def test_a_block_looks_both_ways_and_not_at_padding():
    block = Block(D).eval()
    x = torch.randn(2, 9, D)
    changed = x.clone()
    changed[0, 8] += 1
    moved = (block(x) - block(changed)).abs().sum(2)
    assert (moved[0] > 0).all() and (moved[1] == 0).all()
    lengths = torch.tensor([8, 9])
    torch.testing.assert_close(block(x, lengths)[0, :8], block(changed, lengths)[0, :8])


def test_a_patch_larger_than_the_picture():
    with pytest.raises(ValueError, match="patch=14: larger than a picture of 5 × 9"):
        ImagePatches(D, (5, 9))
