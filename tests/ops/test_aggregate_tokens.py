from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperagg import ops
from hyperagg.layers.positions import position_blocks
from hyperagg.ops import reference


def problem(lengths, d=5, vocabulary=11, dtype=torch.float64):
    cu_seqlens = torch.tensor([0, *np.cumsum(lengths)])
    token_ids = torch.randint(0, vocabulary, (int(cu_seqlens[-1]),), dtype=torch.int32)
    embedding = torch.randn(vocabulary, d, dtype=dtype, requires_grad=True)
    p = torch.randn(max([1, *lengths]), d, dtype=dtype, requires_grad=True)
    return token_ids, cu_seqlens, embedding, p


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8),
    st.sampled_from(["none", "sqrt"]),
    st.booleans(),
)
def test_equals_reference_with_gradients(lengths, normalize, weighted):
    token_ids, cu_seqlens, embedding, p = problem(lengths)
    weights = torch.randn(len(token_ids), dtype=embedding.dtype) if weighted else None
    norm_exponent = {"none": 0.0, "sqrt": 0.5}[normalize]
    got = ops.aggregate_tokens(
        token_ids, embedding, p, cu_seqlens=cu_seqlens, weights=weights, normalize=normalize
    )
    want = reference.aggregate_tokens(
        token_ids, embedding, cu_seqlens[:-1], cu_seqlens.diff(), p, None, weights, norm_exponent
    )
    torch.testing.assert_close(got, want)
    grad = torch.randn_like(got)
    embedding_grad, p_grad = torch.autograd.grad(got, (embedding, p), grad)
    wanted = torch.autograd.grad(
        want, (embedding, p), grad, allow_unused=True, materialize_grads=True
    )
    assert embedding_grad.is_sparse
    torch.testing.assert_close(embedding_grad.to_dense(), wanted[0])
    torch.testing.assert_close(p_grad, wanted[1])


def test_padded_ragged_and_vector_forms_agree():
    lengths = [4, 0, 7]
    token_ids, cu_seqlens, embedding, p = problem(lengths)
    ragged = ops.aggregate_tokens(token_ids, embedding, p, cu_seqlens=cu_seqlens)
    padded = torch.zeros(3, 7, dtype=torch.int64)
    for b, n in enumerate(lengths):
        padded[b, :n] = token_ids[cu_seqlens[b] : cu_seqlens[b] + n]
    counts = torch.tensor(lengths)
    weights = torch.randn(11, dtype=embedding.dtype)[token_ids.long()]
    weighted = torch.zeros(3, 7, dtype=embedding.dtype)
    for b, n in enumerate(lengths):
        weighted[b, :n] = weights[cu_seqlens[b] : cu_seqlens[b] + n]
    torch.testing.assert_close(
        ops.aggregate_tokens(padded, embedding, p, lengths=counts, weights=weighted),
        ops.aggregate_tokens(token_ids, embedding, p, cu_seqlens=cu_seqlens, weights=weights),
    )
    torch.testing.assert_close(ops.aggregate_tokens(padded, embedding, p, lengths=counts), ragged)
    vectors = ops.aggregate(embedding[padded], p, lengths=counts)[:, 0]
    torch.testing.assert_close(vectors, ragged)


def test_position_ids_map_positions_to_vectors():
    token_ids, cu_seqlens, embedding, _ = problem([9, 3])
    blocks = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    position_ids = position_blocks(9, 3)
    shared = ops.aggregate_tokens(
        token_ids, embedding, blocks, cu_seqlens=cu_seqlens, position_ids=position_ids
    )
    spread = ops.aggregate_tokens(token_ids, embedding, blocks[position_ids], cu_seqlens=cu_seqlens)
    torch.testing.assert_close(shared, spread)
    grad = torch.randn_like(shared)
    a, b = (torch.autograd.grad(y, blocks, grad)[0] for y in (shared, spread))
    torch.testing.assert_close(a, b)


def test_same_bits_for_any_number_of_threads():
    token_ids, cu_seqlens, embedding, p = problem([300] * 40, d=64, dtype=torch.float32)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y = ops.aggregate_tokens(token_ids, embedding, p, cu_seqlens=cu_seqlens)
            rows, p_grad = torch.autograd.grad(y.square().sum(), (embedding, p))
            results.append((y.detach(), rows.to_dense(), p_grad))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_eight_concurrent_python_threads():
    token_ids, cu_seqlens, embedding, p = problem([200] * 30, d=64, dtype=torch.float32)
    table, positions = embedding.detach(), p.detach()
    want = ops.aggregate_tokens(token_ids, table, positions, cu_seqlens=cu_seqlens)
    failures = []

    def work():
        for _ in range(5):
            y = ops.aggregate_tokens(token_ids, table, positions, cu_seqlens=cu_seqlens)
            if not torch.equal(y, want):
                failures.append(y)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_opcheck():
    token_ids, cu_seqlens, embedding, p = problem([3, 5])
    tensors = token_ids, embedding.detach(), cu_seqlens[:-1], cu_seqlens.diff()
    torch.library.opcheck(
        torch.ops.hyperagg.aggregate_tokens.default,
        (*tensors, p.detach(), None, None, 0.5),
    )
    weights = torch.rand(8, dtype=embedding.dtype)
    torch.library.opcheck(
        torch.ops.hyperagg.aggregate_tokens.default,
        (*tensors, p.detach(), None, weights, 0.5),
    )


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (dict(token_ids=torch.tensor([0, 99])), "token_ids: from 0 to 99; expected 0 to 3"),
        (dict(token_ids=torch.tensor([0.0, 1.0])), "token_ids: torch.float32; expected int32"),
        (dict(cu_seqlens=torch.tensor([0, 1])), "cu_seqlens: expected integers from 0 to 2"),
        (dict(cu_seqlens=torch.tensor([0, 3, 2])), "cu_seqlens: expected integers"),
        (dict(cu_seqlens=[0, 2]), "cu_seqlens: list; expected a tensor or None"),
        (dict(cu_seqlens=torch.tensor([0.0, 2.0])), "cu_seqlens: torch.float32; expected int32"),
        (dict(cu_seqlens=torch.tensor([[0, 2]])), "cu_seqlens: shape .1, 2.; expected one dim"),
        (dict(token_ids=[0, 1]), "token_ids: list; expected a tensor"),
        (dict(embedding=torch.ones(4)), "embedding: shape .4,.; expected .V, D."),
        (dict(embedding=torch.ones(4, 4).to_sparse()), "embedding: torch.sparse_coo; expected"),
        (dict(p=torch.ones(2, 4).to_sparse()), "p: torch.sparse_coo; expected a dense tensor"),
        (dict(p=[1.0]), "p: list; expected a tensor or None"),
        (
            dict(p=torch.ones(2, 4), position_ids=torch.tensor([0.0, 1.0])),
            "position_ids: torch.float32; expected int32 or int64",
        ),
        (dict(lengths=torch.tensor([2])), "lengths: expected None with cu_seqlens"),
        (dict(cu_seqlens=None), "token_ids: shape .2,.; expected .B, N."),
        (dict(p=torch.ones(1, 4)), "p: 1 positions; expected at least 2"),
        (dict(p=torch.ones(2, 3)), "p: shape"),
        (dict(position_ids=torch.tensor([0, 1])), "position_ids: expected None without p"),
        (
            dict(p=torch.ones(2, 4), position_ids=torch.tensor([0, 2])),
            "position_ids: from 0 to 2; expected 0 to 1",
        ),
        (
            dict(p=torch.ones(2, 4), position_ids=torch.tensor([0])),
            "position_ids: 1 positions; expected at least 2",
        ),
        (dict(embedding=torch.ones(4, 4, dtype=torch.bfloat16)), "embedding: torch.bfloat16"),
        (dict(weights=torch.ones(3)), "weights: shape"),
        (dict(weights=torch.ones(2, dtype=torch.float64)), "weights: shape .* torch.float64"),
        (dict(weights=torch.ones(2, requires_grad=True)), "weights: a gradient"),
    ],
)
def test_errors_name_the_argument(change, names):
    call = dict(
        token_ids=torch.tensor([0, 1]), embedding=torch.ones(4, 4), cu_seqlens=torch.tensor([0, 2])
    )
    call.update(change)
    with pytest.raises((ValueError, TypeError), match=names):
        ops.aggregate_tokens(call.pop("token_ids"), call.pop("embedding"), **call)
