"""The encoder: exact contributions, missing modalities, and rows that do not affect each other."""

from __future__ import annotations

import pytest
import torch

from hyperagg.multimodal import (
    AudioFrames,
    AudioSamples,
    Category,
    ImagePatches,
    ModalityInput,
    MultimodalEncoder,
    MultimodalNetwork,
    Number,
    Words,
)
from hyperagg.multimodal.fusion import FUSIONS, make_encoder

D = 12


def modalities():
    return {
        "image": ImagePatches(D, (11, 9), patch_size=4, stride=3, hidden_dim=8, num_blocks=1),
        "audio": AudioFrames(D, 8000, num_mels=10, context=3, hidden_dim=8, num_blocks=1),
        "samples": AudioSamples(D, 8000, frame_length=40, hop_length=20, hidden_dim=8),
        "text": Words(D, 20),
        "age": Number(D, [1.0, 2.0, 4.0]),
        "kind": Category(D, 3),
    }


def make_inputs(rows):
    """Row 0 has all modalities, row 1 an image and audio, row 2 a text and an age."""
    torch.manual_seed(2)
    clips, images = torch.randn(2, 3000) / 5, torch.rand(2, 1, 11, 9)
    ids = [torch.tensor([1, 2, 3, 2]), torch.tensor([5, 1])]
    values = {
        "image": ([0, 1], lambda k: (images[k],)),
        "audio": ([0, 1], lambda k: (clips[k], torch.tensor([3000, 1700])[k])),
        "samples": ([0], lambda k: (clips[:1], torch.tensor([2500]))),
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
    inputs = {}
    for name, (own, make) in values.items():
        kept = [i for i, row in enumerate(own) if row in rows]
        if kept:
            inputs[name] = ModalityInput(
                torch.tensor([rows.index(own[i]) for i in kept]), make(kept)
            )
    return inputs


@pytest.fixture
def network():
    torch.manual_seed(1)
    return MultimodalNetwork(MultimodalEncoder(D, modalities()), 5).eval()


@pytest.mark.parametrize("row", [0, 1, 2])
def test_contributions_sum_to_the_logits(network, row):
    inputs = make_inputs([row])
    logits = network(inputs, 1)[0].double()
    parts = network.contributions(inputs)
    assert set(parts) == set(inputs)
    total = network.head.bias.double() + sum(part.sum(0) for part in parts.values())
    torch.testing.assert_close(total, logits, rtol=0, atol=1e-5)
    assert len(parts["age" if row == 2 else "image"]) == (1 if row == 2 else 4 * 3)


def test_a_row_does_not_depend_on_the_others(network):
    together = network(make_inputs([0, 1, 2]), 3)
    alone = torch.cat([network(make_inputs([row]), 1) for row in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_missing_modality_adds_nothing(network):
    inputs = make_inputs([0])
    parts = network.contributions(inputs)
    audio = inputs.pop("audio")
    without = network(inputs, 1)[0].double()
    total = network.head.bias.double() + sum(
        part.sum(0) for name, part in parts.items() if name != "audio"
    )
    torch.testing.assert_close(total, without, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"inputs\['noise'\]: expected one of image, audio"):
        network({"noise": audio}, 1)
    torch.testing.assert_close(network({}, 2), network.head.bias.expand(2, -1))


def test_an_encoder_needs_a_modality():
    with pytest.raises(ValueError, match=r"modalities=\{\}: expected at least one"):
        MultimodalEncoder(D, {})


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_takes_any_subset_and_trains_all_parameters(fusion):
    torch.manual_seed(1)
    network = MultimodalNetwork(make_encoder(fusion, D, modalities()), 5)
    logits = network(make_inputs([0, 1, 2]), 3)
    alone = torch.cat([network(make_inputs([row]), 1) for row in range(3)])
    torch.testing.assert_close(logits, alone, rtol=1e-3, atol=1e-4)
    logits.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_an_unknown_fusion():
    with pytest.raises(ValueError, match=r'fusion=\'mean\': expected one of "sum", "concat'):
        make_encoder("mean", D, modalities())
