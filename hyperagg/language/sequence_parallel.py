"""Training on rows that are too long for one process: each rank computes a piece of every row."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from hyperagg.language.configuration_hyperagg import LAYER_TYPES
from hyperagg.language.loss import IGNORE_INDEX, check_label_shape
from hyperagg.language.modeling_hyperagg import HyperAggForCausalLM
from hyperagg.language.same_on_ranks import check_same_on_ranks, digest_model, digest_values

__all__ = ["SequenceParallel"]

_ACCEPTED = tuple(name for name in LAYER_TYPES if name != "full_attention")


class SequenceParallel(nn.Module):
    """Cut each row over the ranks of a process group, so that every rank computes one piece.

    Logits, loss and gradients are those of the whole rows. In each layer the ranks send one another
    the map by which their piece changes a state, S -> M S + S_0, and the last K - 1 inputs of the
    convolutions.

    All ranks of the group are given the same model and the same whole rows. The first `forward`
    compares the models, after DistributedDataParallel has sent its weights to all ranks, and each
    `forward` the rows; where they differ, every rank raises the same error.

    The loss of a rank is scaled so that the mean over the ranks is the mean over all targets, and
    each rank has its own part of the gradients: they have to be averaged over the ranks of the
    group, as DistributedDataParallel and FSDP average them over all processes.

    Args:
        model: a `HyperAggForCausalLM` of layers other than "full_attention".
        process_group: its ranks hold the pieces in their order; None (default): all processes.

    Attributes:
        module: the model, which `save_pretrained` and `generate` are called on.

    Raises:
        TypeError: if the model or the process group is of another class.
        ValueError: if a layer is of another type, if there is no process group, or if this process
            does not belong to it.

    Numerics: the sums are added up in another order, so logits and gradients agree to rounding.
    Cost: each of P ranks computes 1 / P of the tokens and keeps their activations. Sums take two
        passes over the tokens and those of bound pairs the time of three, because the first finds
        the map of the piece. Every layer waits for all ranks. The first call reads all parameters.
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
        is_group = isinstance(process_group, dist.ProcessGroup)
        if not is_group and process_group not in (None, dist.GroupMember.NON_GROUP_MEMBER):
            raise TypeError(
                f"process_group: {type(process_group).__name__}; expected a ProcessGroup, which "
                "`get_group()` returns for a DeviceMesh"
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
            TypeError: if input_ids or labels are not tensors of integers.
            ValueError: if a shape does not fit, if an id is not in the vocabulary, if the rows are
                longer than the model has positions, or if the ranks are given different rows or, in
                the first call, different models.
        """
        self._check_same(input_ids, labels)
        self._check_rows(input_ids, labels)
        targets, num_targets = None, None
        if labels is not None:
            targets = F.pad(labels[:, 1:].long(), (0, 1), value=IGNORE_INDEX)
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

    @cached_property
    def _model_digests(self) -> dict[str, int]:
        return digest_model(self.module)

    @torch.compiler.disable
    def _check_same(self, input_ids: Tensor, labels: Tensor | None) -> None:
        """Raise ValueError on all ranks unless they have the same rows and the same model.

        This precedes all that a rank could refuse alone, while the others wait for it. The digests
        of the model are sent with all rows, so that what is sent never depends on the rank.
        """
        digests = {"input_ids": digest_values([input_ids]), "labels": digest_values([labels])}
        device = input_ids.device if isinstance(input_ids, Tensor) else self.module.device
        check_same_on_ranks(digests | self._model_digests, device, self.process_group)

    @torch.compiler.disable
    def _check_rows(self, input_ids: Tensor, labels: Tensor | None) -> None:
        """Check whole rows, because a mistake in a piece would stop its rank alone."""
        config = self.module.config
        _check_integers("input_ids", input_ids)
        if input_ids.ndim != 2 or not input_ids.shape[1] or input_ids.shape[1] % self.num_ranks:
            raise ValueError(
                f"input_ids: shape {tuple(input_ids.shape)}; expected (B, N) with N a multiple of "
                f"{self.num_ranks}, the number of ranks"
            )
        has_positions = "prefix_sum" in (config.layer_types or ())
        max_tokens = config.max_position_embeddings if has_positions else None
        if max_tokens is not None and input_ids.shape[1] > max_tokens:
            raise ValueError(
                f"input_ids: rows of {input_ids.shape[1]} tokens; expected at most {max_tokens}, "
                'the number of position vectors of the layers of type "prefix_sum"'
            )
        _check_ids("input_ids", input_ids, config.vocab_size)
        if labels is not None:
            _check_integers("labels", labels)
            check_label_shape("labels", labels, input_ids)
            _check_ids("labels", labels[labels != IGNORE_INDEX], config.vocab_size)

    def _piece(self, x: Tensor) -> Tensor:
        return x.chunk(self.num_ranks, 1)[self.rank]


def _check_integers(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.int64, torch.int32):
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: {given}; expected a tensor of torch.int64 or torch.int32")


def _check_ids(name: str, ids: Tensor, vocab_size: int) -> None:
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if len(outside):
        raise ValueError(
            f"{name}: id {outside[0].item()}; expected 0 to {vocab_size - 1}, the ids of the "
            f"vocabulary{', or -100' if name == 'labels' else ''}"
        )
