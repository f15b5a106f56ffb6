"""Comparison of what the ranks of a process group were given, which no rank can fail in alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel


def digest_values(values: Iterable[object]) -> int:
    """Return 64 bits that depend on the values, types and shapes of tensors and on other objects.

    Any type of tensor will do, and None, so that what one rank alone was given by mistake is
    compared before it is refused.
    """
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(f"{type(value).__name__} {value!r}\n".encode())
    return int.from_bytes(digest.digest(), "little", signed=True)


def digest_model(model: PreTrainedModel) -> dict[str, int]:
    """Return a digest of each property of a model that the ranks must have in common, by its name.

    Cost: one pass over the parameters, unless FSDP has cut them: then each rank has its own part,
        and neither shapes nor values are compared.
    """
    config = model.config.to_dict()
    config.pop("_name_or_path", None)  # Ranks may load the same model from their own folders.
    parameters = dict(model.named_parameters())
    properties = ((name, p.dtype, p.requires_grad) for name, p in parameters.items())
    return {
        "model: configuration": digest_values(sorted(config.items())),
        "model: names, types or requires_grad of the parameters": digest_values(properties),
        "model: shapes or values of the parameters": digest_values(
            () if _is_sharded(model) else parameters.values()
        ),
    }


def check_same_on_ranks(
    digests: Mapping[str, int], device: torch.device, process_group: dist.ProcessGroup | None
) -> None:
    """Raise ValueError on all ranks unless all have the same digests.

    Args:
        digests: 64 bits by the name of what they were computed from; as many on every rank.
        device: where the process group sends tensors from.
        process_group: the ranks; None: all processes.
    """
    own = torch.tensor(list(digests.values()), device=device)
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(process_group))]
    dist.all_gather(gathered, own, group=process_group)
    for name, of_ranks in zip(digests, torch.stack(gathered, 1).tolist(), strict=True):
        for rank, digest in enumerate(of_ranks):
            if digest != of_ranks[0]:
                raise ValueError(
                    f"{name}: rank {rank} of the process group differs from rank 0; expected the "
                    "same whole rows and the same model on all ranks"
                )


def _is_sharded(model: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters()) or any(
        isinstance(module, FullyShardedDataParallel) for module in model.modules()
    )
