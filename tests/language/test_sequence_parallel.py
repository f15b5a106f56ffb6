"""Rows that are cut over two and four processes have the logits and gradients of one process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from hyperagg.language import (
    LAYER_TYPES,
    HyperAggConfig,
    HyperAggForCausalLM,
    HyperAggForSequenceClassification,
    SequenceParallel,
)
from tests.process_group import run_on_ranks

PAGE = Path(__file__).parents[2] / "docs" / "sequence-parallelism.md"
V = 40
# With and without a convolution before the sums; four ranks have two of eight tokens each.
CASES = [
    (layer_type, conv_kernel_size, num_tokens)
    for layer_type in LAYER_TYPES
    if layer_type != "full_attention"
    for conv_kernel_size, num_tokens in ((0, 32), (4, 8))
]


def make(layer_types="gated_associative", **options):
    torch.manual_seed(0)
    settings = dict(
        vocab_size=V,
        hidden_size=16,
        num_hidden_layers=2,
        layer_types=layer_types,
        associative_head_dim=8,
    )
    return HyperAggForCausalLM(HyperAggConfig(**settings | options))


def make_rows(num_rows=2, num_tokens=32):
    """Rows and labels; the last quarter of the first row is padding, and the last token of all."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(V, (num_rows, num_tokens), generator=generator)
    labels = rows.clone()
    labels[0, -num_tokens // 4 :] = labels[:, -1] = -100
    return rows, labels


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def averaged(gradients):
    for gradient in gradients:
        dist.all_reduce(gradient)
    return [gradient / dist.get_world_size() for gradient in gradients]


def check_gradients(actual, expected, message):
    for grad, want in zip(actual, expected, strict=True):
        assert (grad - want).norm() <= 1e-5 * want.norm(), (message, grad, want)


def check_layer_types() -> None:
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    for case in CASES:
        layer_type, conv_kernel_size, num_tokens = case
        model = make(layer_type, conv_kernel_size=conv_kernel_size, negative_eigenvalues=True)
        rows, labels = make_rows(num_tokens=num_tokens)
        parallel = SequenceParallel(model)
        loss, piece_loss = model(rows, labels=labels).loss, parallel(rows, labels).loss
        (mean,) = averaged([piece_loss.detach().clone()])
        torch.testing.assert_close(mean, loss)
        expected = gradients(model, loss)
        check_gradients(averaged(gradients(model, piece_loss)), expected, case)

        model.eval()
        logits = model(rows).logits.chunk(num_ranks, 1)[rank]
        output = parallel(rows)
        torch.testing.assert_close(output.logits, logits, rtol=0, atol=1e-5, msg=str(case))
        assert output.loss is None and output.past_key_values is None


def check_data_parallelism() -> None:
    """Two pairs of ranks have a row each; FSDP holds a part of the weights on each rank."""
    model = make()
    rows, _ = make_rows()
    labels = rows  # as many targets in each row: a mean of means is the mean
    expected = gradients(model, model(rows, labels=labels).loss)

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "sequence"))
    own = slice(mesh.get_local_rank("data"), mesh.get_local_rank("data") + 1)
    replicated = DistributedDataParallel(SequenceParallel(make(), mesh["sequence"].get_group()))
    loss = replicated(rows[own], labels[own]).loss
    check_gradients(gradients(replicated, loss), expected, "DDP")

    sharded = make()
    for layer in sharded.model.layers:
        fully_shard(layer)
    fully_shard(sharded)
    SequenceParallel(sharded)(rows, labels).loss.backward()
    actual = [parameter.grad.full_tensor() for parameter in sharded.parameters()]
    check_gradients(actual, expected, "FSDP")

    recomputed = make().train()
    recomputed.gradient_checkpointing_enable()
    loss = SequenceParallel(recomputed)(rows, labels).loss
    check_gradients(averaged(gradients(recomputed, loss)), expected, "gradient checkpointing")


def check_refusals_on_all_ranks() -> None:
    """Whatever one rank alone could refuse, the others raise as well; a rank that waits hangs."""
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    ones = torch.ones(1, 4, dtype=torch.int64)
    swapped = torch.tensor([[0, 1, 0, 0], [2, 0, 0, 0]])  # The sum of i x_i is the same.
    zeros = torch.zeros_like(ones)
    last_outside = torch.tensor([[1, 1, 1, V]])
    refused = {
        "input_ids: rank 1 of the process group differs from rank 0": [
            (swapped[rank : rank + 1], None),
            (torch.zeros(1 + rank, 4, dtype=torch.int64), None),
            (torch.ones(1, 4 + rank, dtype=torch.int64), None),
            (ones.bfloat16() if rank else ones, None),
            (ones.tolist() if rank else ones, None),
        ],
        "labels: rank 1 of the process group differs from rank 0": [
            (zeros, None if rank else zeros),
            (zeros, zeros[:, :rank]),
        ],
        f"input_ids: id {V}; expected 0 to {V - 1}, the ids of the vocabulary$": [
            (last_outside, None)
        ],
        f"labels: id {V}; expected 0 to {V - 1}, the ids of the vocabulary, or -100": [
            (ones, last_outside)
        ],
    }
    parallel = SequenceParallel(make())
    for message, arguments in refused.items():
        for rows, labels in arguments:
            with pytest.raises(ValueError, match=message):
                parallel(rows, labels)

    parallel = SequenceParallel(make("prefix_sum", max_position_embeddings=6))
    with pytest.raises(ValueError, match="input_ids: rows of 8 tokens; expected at most 6, the"):
        parallel(ones.repeat(1, 2))
    assert parallel(ones).logits.shape == (1, 4 // num_ranks, V)


def check_models_on_all_ranks() -> None:
    rank = dist.get_rank()
    half, frozen, other = make(), make(), make()
    if rank:
        half.bfloat16()
        frozen.model.embed_tokens.requires_grad_(False)
        with torch.no_grad():
            other.model.norm.weight[0] += 1
    parameters = "names, types or requires_grad of the parameters"
    for model, differs in [
        (make(num_hidden_layers=2 + rank), "configuration"),
        (make("gated" if rank else "decay"), "configuration"),
        (half, parameters),
        (frozen, parameters),
        (other, "shapes or values of the parameters"),
    ]:
        with pytest.raises(ValueError, match=f"model: {differs}: rank 1 of the process group dif"):
            SequenceParallel(model)(torch.ones(1, 4, dtype=torch.int64))

    # The first call compares the weights only after DistributedDataParallel made them the same.
    rows, _ = make_rows()
    DistributedDataParallel(SequenceParallel(other))(rows, rows).loss.backward()


def check_layer_types_and_refusals() -> None:
    check_layer_types()
    check_refusals_on_all_ranks()
    check_models_on_all_ranks()


def check_layer_types_and_data_parallelism() -> None:
    check_layer_types()
    check_data_parallelism()


@pytest.mark.slow
def test_two_processes_give_the_logits_and_gradients_of_one(tmp_path):
    run_on_ranks(check_layer_types_and_refusals, 2, tmp_path)


@pytest.mark.slow
def test_four_processes_give_them_also_beside_data_parallelism(tmp_path):
    run_on_ranks(check_layer_types_and_data_parallelism, 4, tmp_path)


@pytest.mark.slow
def test_the_script_of_the_page_runs(tmp_path):
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "train.py").write_text(script, "utf-8")
    torchrun = Path(sys.executable).with_name("torchrun")
    command = [torchrun, "--nproc-per-node", "2", "--standalone", "train.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    first, *_, last = (float(line.split()[-1]) for line in ran.stdout.splitlines())
    assert last < first
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_one_process_computes_whole_rows(group):
    model = make().eval()
    rows, labels = make_rows()
    expected, output = model(rows, labels=labels), SequenceParallel(model, group)(rows, labels)
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.loss, expected.loss)


def test_rows_may_be_of_int32(group):
    rows, labels = make_rows()
    parallel = SequenceParallel(make())
    expected = parallel(rows, labels).loss
    torch.testing.assert_close(parallel(rows.int(), labels.int()).loss, expected)


def test_the_page_says_how_many_bytes_a_layer_sends(group, monkeypatch):
    table = re.findall(r'^\| (`"\w+"`.*?) \|.*\| ([\d,]+) \|$', PAGE.read_text("utf-8"), re.M)
    listed = {
        layer_type: int(size.replace(",", ""))
        for names, size in table
        for layer_type in re.findall(r'"(\w+)"', names)
    }
    assert set(listed) == set(LAYER_TYPES) - {"full_attention"}
    sent = []
    all_gather = dist.all_gather

    def record(pieces, piece, group):
        sent.append(piece.numel() * piece.element_size())
        all_gather(pieces, piece, group)

    monkeypatch.setattr(dist, "all_gather", record)
    for layer_type, size in listed.items():
        model = HyperAggForCausalLM(
            HyperAggConfig(vocab_size=V, num_hidden_layers=1, layer_types=layer_type)
        )
        sent.clear()
        SequenceParallel(model)(torch.ones(1, 16, dtype=torch.int64))
        digests, *of_the_layer = sent
        assert f"digests ({digests} bytes)" in PAGE.read_text("utf-8")
        assert sum(of_the_layer) == size, layer_type


def test_what_cannot_be_cut_is_refused(group):
    with pytest.raises(ValueError, match=r"model: layer 1 is of type 'full_attention'; expected"):
        SequenceParallel(make(["gated", "full_attention"]))
    other = HyperAggForSequenceClassification(make().config)
    with pytest.raises(TypeError, match="model: HyperAggForSequenceClassification; expected"):
        SequenceParallel(other)
    model = make()
    parallel = SequenceParallel(model)
    parallel.num_ranks = 3
    with pytest.raises(ValueError, match=r"expected \(B, N\) with N a multiple of 3, the number"):
        parallel(torch.ones(1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"labels: shape \(1, 2\); expected \(1, 3\)"):
        parallel(torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 2, dtype=torch.int64))
    ids = torch.ones(1, 4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"input_ids: torch\.float32; expected a tensor of torch"):
        parallel(torch.ones(1, 3))
    for wrong in ("world", 0, init_device_mesh("cpu", (1,))):
        message = f"process_group: {type(wrong).__name__}; expected a ProcessGroup, which `get_gr"
        with pytest.raises(TypeError, match=message):
            SequenceParallel(model, wrong)
    with pytest.raises(ValueError, match="process_group: expected neither attention_mask"):
        model(ids, attention_mask=ids, process_group=group)


def test_without_a_process_group_it_says_so():
    with pytest.raises(ValueError, match="Default process group has not been initialized"):
        SequenceParallel(make())
