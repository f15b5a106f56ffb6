from __future__ import annotations

import pytest
import torch

from hyperagg.layers import SelfAttention


def test_padding_is_not_attended_to():
    attention = SelfAttention(8, 2)
    x = torch.randn(2, 5, 8)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    y = attention(x, mask)
    torch.testing.assert_close(y[0], attention(x[:1])[0])
    torch.testing.assert_close(y[1, :3], attention(x[1:, :3])[0])


@pytest.mark.parametrize("num_heads", [0, 3])
def test_a_number_of_heads_that_does_not_divide_d_model_is_refused(num_heads):
    with pytest.raises(ValueError, match=f"num_heads={num_heads}: must divide d_model=8"):
        SelfAttention(8, num_heads)
