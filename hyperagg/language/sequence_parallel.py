"""Training on rows that are too long for one process: each rank computes a piece of every row."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from hyperagg.language.configuration_hyperagg import LAYER_TYPES
from hyperagg.language.loss import IGNORE_INDEX, check_label_shape
from hyperagg.language.modeling_hyperagg import HyperAggForCausalLM

__all__ = ["SequenceParallel"]

_ACCEPTED = tuple(name for name in LAYER_TYPES if name != "full_attention")


class SequenceParallel(nn.Module):
    """Cut each row over the ranks of a process group, so that every rank computes one piece.

    Logits, loss and gradients are those of the whole rows. In each layer the ranks send one another
    the map by which their piece changes a state, S -> M S + S_0, and the last K - 1 inputs of the
    convolutions.

    All ranks of the group are given the same whole rows. The loss of a rank is scaled so that the
    mean over the ranks is the mean over all targets, and each rank has its own part of the
    gradients: they have to be averaged over the ranks of the group, as DistributedDataParallel and
    FSDP average them over all processes.

    Args:
        model: a `HyperAggForCausalLM` of layers other than "full_attention".
        process_group: its ranks hold the pieces in their order; None (default): all processes.

    Attributes:
        module: the model, which `save_pretrained` and `generate` are called on.

    Raises:
        TypeError: if the model is of another class.
        ValueError: if a layer is of another type, if there is no process group, or if this process
            does not belong to it.

    Numerics: the sums are added up in another order, so logits and gradients agree to rounding.
    Cost: each of P ranks computes 1 / P of the tokens and keeps their activations. Sums take two
        passes over the tokens and those of bound pairs the time of three, because the first finds
        the map of the piece. Every layer waits for all ranks.
    Source: states gathered once per layer, as in LASP-2 (Sun et al. 2025, arXiv:2502.07563).

    Example:
        >>> import torch
        >>> from torch.distributed import HashStore, destroy_process_group, init_process_group
        >>> from hyperagg.language import HyperAggConfig
        >>> init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
        >>> model = SequenceParallel(HyperAggForCausalLM(config))
        >>> model(torch.tensor([[1, 2, 3]])).logits.shape
        torch.Size([1, 3, 10])
        >>> destroy_process_group()
    """

    def __init__(
        self, model: HyperAggForCausalLM, process_group: dist.ProcessGroup | None = None
    ) -> None:
        super().__init__()
        if not isinstance(model, HyperAggForCausalLM):
            raise TypeError(f"model: {type(model).__name__}; expected a HyperAggForCausalLM")
        for index, layer_type in enumerate(model.config.layer_types or ()):
            if layer_type not in _ACCEPTED:
                raise ValueError(
                    f"model: layer {index} is of type {layer_type!r}; expected one of "
                    f"{', '.join(_ACCEPTED)}, whose states the ranks can send one another"
                )
        self.rank = dist.get_rank(process_group)
        if self.rank < 0:
            raise ValueError("process_group: expected one that this process belongs to")
        self.module = model
        self.process_group = dist.group.WORLD if process_group is None else process_group
        self.num_ranks = dist.get_world_size(process_group)

    def forward(
        self, input_ids: Int[Tensor, "B N"], labels: Int[Tensor, "B N"] | None = None
    ) -> CausalLMOutputWithPast:
        """Compute the logits and the loss of this rank's piece of each row.

        Args:
            input_ids: (B, N) the whole rows, the same on all ranks; N is a multiple of P. Rows of
                different lengths are padded on the right, with labels of -100.
            labels: (B, N) the input ids themselves, and -100 where no loss is wanted.

        Returns:
            What the model returns for the tokens of this rank: `logits`, (B, N / P, V), and with
            labels `loss`, whose mean over the ranks is the loss of the whole rows. In training
            mode with labels there are no logits.

        Raises:
            ValueError: if a shape does not fit, or if the ranks are given different rows.
        """
        if input_ids.ndim != 2 or not input_ids.shape[1] or input_ids.shape[1] % self.num_ranks:
            raise ValueError(
                f"input_ids: shape {tuple(input_ids.shape)}; expected (B, N) with N a multiple of "
                f"{self.num_ranks}, the number of ranks"
            )
        if labels is not None:
            check_label_shape("labels", labels, input_ids)
        self._check_same_rows(input_ids if labels is None else torch.cat([input_ids, labels]))
        targets, num_targets = None, None
        if labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)
            num_targets = (targets != IGNORE_INDEX).sum()
        output = self.module(
            input_ids=self._piece(input_ids),
            shift_labels=None if targets is None else self._piece(targets),
            num_items_in_batch=num_targets,
            use_cache=False,
            process_group=self.process_group,
            return_dict=True,
        )
        if output.loss is not None:
            output.loss = output.loss * self.num_ranks
        return output

    def _check_same_rows(self, rows: Tensor) -> None:
        """Raise ValueError on all ranks unless they are given the same rows, by a checksum."""
        token = torch.arange(1, 1 + rows.numel(), device=rows.device)
        checksum = torch.stack([(token * rows.flatten()).sum(), token.new_tensor(rows.shape[1])])
        checksums = [torch.empty_like(checksum) for _ in range(self.num_ranks)]
        dist.all_gather(checksums, checksum, group=self.process_group)
        differ = (torch.stack(checksums) != checksum).any(1).nonzero().flatten().tolist()
        if differ:
            raise ValueError(
                f"input_ids, labels: rank {self.rank} of the process group has other rows than "
                f"rank {differ[0]}; expected the same whole rows on all ranks"
            )

    def _piece(self, x: Tensor) -> Tensor:
        return x.chunk(self.num_ranks, 1)[self.rank]
