from __future__ import annotations

import math

import pytest
import torch

from hyperagg.layers.positions import (
    BlockPositions,
    LearnedPositions,
    SinusoidalPositions,
    position_blocks,
)


def test_blocks_double_in_length():
    assert position_blocks(9, 16).tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 3]
    assert position_blocks(9, 3).tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 2]
    assert position_blocks(0, 3).tolist() == []
    blocks = position_blocks(70_000, 32)
    assert blocks.tolist() == [(t + 1).bit_length() - 1 for t in range(70_000)]


def test_the_block_of_a_position_does_not_depend_on_the_length():
    long = position_blocks(5_000, 16)
    for n in (1, 2, 3, 100, 4_095, 4_096):
        assert torch.equal(position_blocks(n, 16), long[:n])


def test_sinusoids_match_the_formula():
    table = SinusoidalPositions(6, 10)(10)
    for t in (0, 3, 9):
        for k in range(3):
            angle = t / 10_000 ** (2 * k / 6)
            assert table[t, 2 * k].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * k + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert SinusoidalPositions(6, 10).weight.requires_grad
    assert not list(SinusoidalPositions(6, 10, trainable=False).parameters())


def test_learned_positions_start_near_one():
    p = LearnedPositions(64, 100)(100)
    assert abs(p.mean().item() - 1) < 0.01 and abs(p.std().item() - 0.02) < 0.005
    assert torch.equal(BlockPositions(4)(9), torch.ones(9, 4))


@pytest.mark.parametrize("positions", [LearnedPositions(4, 10), SinusoidalPositions(4, 10)])
def test_a_length_beyond_the_table_is_refused(positions):
    with pytest.raises(ValueError, match="n=11: expected at most max_length=10"):
        positions(11)


@pytest.mark.parametrize("make", [LearnedPositions, SinusoidalPositions])
def test_invalid_sizes_are_refused(make):
    with pytest.raises(ValueError, match="d_model=0: expected an integer >= 1"):
        make(0, 10)
    with pytest.raises(ValueError, match="max_length=0: expected an integer >= 1"):
        make(4, 0)
