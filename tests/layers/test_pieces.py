"""Rows that are cut over the ranks of a process group give what they give in one process."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
import torch.distributed as dist

from hyperagg.layers import CausalAggregation, GatedAssociativeAggregation, Layout
from tests.layers.conftest import ASSOCIATIVE, CAUSAL, D, make_mixer
from tests.process_group import run_on_ranks


def check_mixers() -> None:
    """Every mixer, on pieces of 5 tokens and of 1, of which a convolution reads more than one."""
    rank, layout = dist.get_rank(), Layout(process_group=dist.group.WORLD)
    mixers = {name: make_mixer(name) for name in (*CAUSAL, *ASSOCIATIVE)}
    torch.manual_seed(0)
    mixers["both"] = GatedAssociativeAggregation(D, conv_kernel_size=3, head_dim=4).double()
    for name, mixer in mixers.items():
        for n in (5, 1):
            message = f"{name}, {n} tokens per rank, rank {rank}: "
            torch.manual_seed(n)
            row = torch.randn(2, n * dist.get_world_size(), D, dtype=torch.float64)
            weight = torch.randn_like(row)  # of each output in what is derived
            row.requires_grad_()
            expected, after = mixer(row)
            wanted = torch.autograd.grad((expected * weight).sum(), [row, *mixer.parameters()])

            piece = slice(rank * n, (rank + 1) * n)
            u = row[:, piece].detach().requires_grad_()
            y, state = mixer(u, layout)
            grads = torch.autograd.grad((y * weight[:, piece]).sum(), [u, *mixer.parameters()])
            assert_close(y, expected[:, piece], message + "output")
            assert_close(grads[0], wanted[0][:, piece], message + "gradient of the tokens")
            for grad, want in zip(grads[1:], wanted[1:]):
                dist.all_reduce(grad)
                assert_close(grad, want, message + "gradient of a parameter")
            if rank == dist.get_world_size() - 1:
                assert_close(state.sums.sums, after.sums.sums, message + "state")
                assert torch.equal(state.sums.num_tokens, after.sums.num_tokens)
                if after.conv_state is not None:
                    assert_close(state.conv_state, after.conv_state, message + "convolution state")


def assert_close(actual, expected, message):
    # Decays are computed in float32, and so are their gradients.
    torch.testing.assert_close(
        actual, expected, rtol=1e-6, atol=1e-6, msg=lambda difference: f"{message}: {difference}"
    )


@pytest.mark.slow
def test_three_ranks_give_the_outputs_states_and_gradients_of_one(tmp_path):
    run_on_ranks(check_mixers, 3, tmp_path)


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_pieces_neither_continue_a_state_nor_keep_a_history(mixer, group):
    u, layout = torch.randn(1, 3, D, dtype=torch.float64), Layout(process_group=group)
    expected, state = mixer(u)
    torch.testing.assert_close(mixer(u, layout)[0], expected)
    with pytest.raises(ValueError, match="state: expected None with process_group"):
        mixer(u, layout, state)
    with pytest.raises(ValueError, match="return_history=True: expected False with process_group"):
        mixer(u, layout, return_history=True)


def test_positions_of_later_ranks_have_to_exist(monkeypatch, group):
    monkeypatch.setattr(dist.ProcessGroup, "rank", lambda group: 2)
    mixer = CausalAggregation(D, "prefix_sum", max_length=8)
    with pytest.raises(ValueError, match="sequence of 9 tokens: expected at most 8"):
        mixer(torch.randn(1, 3, D), Layout(process_group=group))


def test_a_layout_of_pieces_has_neither_padding_nor_documents(group):
    packed = Layout.from_position_ids(torch.tensor([[0, 1, 0]])).documents
    for other in ({"lengths": torch.tensor([3])}, {"documents": packed}):
        with pytest.raises(ValueError, match="process_group: expected neither lengths nor"):
            Layout(**other, process_group=group)


def test_a_layout_names_what_is_not_a_process_group(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it checks the type as well
    with pytest.raises(TypeError, match=r"process_group: str; expected a torch\.distributed\."):
        Layout(process_group="gloo")
