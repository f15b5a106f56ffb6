"""The sum over the tokens of all modalities of a row, and the linear head on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.multimodal.modalities.base import Modality

__all__ = ["ModalityInput", "MultimodalEncoder", "MultimodalNetwork"]


class ModalityInput(NamedTuple):
    """The values of one modality in a batch of B rows.

    Args:
        rows: (R,) indices of the rows that have this modality, R <= B.
        values: what the modality's `tokens` takes, for these rows.
    """

    rows: Int[Tensor, " R"]
    values: tuple[Tensor, ...]


class MultimodalEncoder(nn.Module):
    """Sums the tokens of any number of modalities into one vector per row.

    context = sum_m sum_t s_m e_mt * p_mt * v_m

    The sum runs over the modalities that a row has, so any of them may be missing in any row; a
    missing modality adds nothing. The sum is linear in the tokens: a linear map of the context is
    the sum of that map over the tokens.

    Args:
        d_model: dimension D of the tokens and of the context.
        modalities: by name, the modules that make tokens of dimension D.

    Raises:
        ValueError: there is not a single modality.

    Numerics: sums in float32 or better.
    Cost: O(n d) after the tokens, for n tokens in all.

    >>> from hyperagg.multimodal import Category, Number
    >>> encoder = MultimodalEncoder(8, {"age": Number(8, [0.0, 99.0]), "kind": Category(8, 3)})
    >>> ages = ModalityInput(torch.tensor([0, 1]), (torch.tensor([3.0, 40.0]),))
    >>> kinds = ModalityInput(torch.tensor([1]), (torch.tensor([2]),))
    >>> encoder({"age": ages, "kind": kinds}, num_rows=2).shape
    torch.Size([2, 8])
    """

    def __init__(self, d_model: int, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        if not modalities:
            raise ValueError("modalities={}: expected at least one")
        self.out_features = d_model
        self.names = list(modalities)
        # Not a ModuleDict, because names may contain dots.
        self.modalities = nn.ModuleList(modalities.values())
        self.modality_vectors = nn.Parameter(1 + 0.02 * torch.randn(len(modalities), d_model))

    def forward(
        self, inputs: Mapping[str, ModalityInput], num_rows: int
    ) -> Float[Tensor, "{num_rows} D"]:
        """Return the context of each row.

        Args:
            inputs: by name, the modalities of the batch; one that is left out is missing in every
                row.
            num_rows: number of rows B of the batch.

        Returns:
            (B, D).

        Raises:
            ValueError: `inputs` has an unknown name.
        """
        self._check_names(inputs)
        context = self.modality_vectors.new_zeros(num_rows, self.out_features)
        for name, modality, vector in zip(self.names, self.modalities, self.modality_vectors):
            if name in inputs and len(inputs[name].rows):
                rows, values = inputs[name]
                context = context.index_add(0, rows, modality(*values) * vector)
        return context

    def terms(self, inputs: Mapping[str, ModalityInput]) -> dict[str, Float[Tensor, "N D"]]:
        """Return the terms of the context of a single row.

        Args:
            inputs: by name, the modalities of a batch of one row.

        Returns:
            by name, (N, D) for N tokens; their sum over all names is the context.

        Raises:
            ValueError: `inputs` has an unknown name.
        """
        self._check_names(inputs)
        terms = {}
        for name, modality, vector in zip(self.names, self.modalities, self.modality_vectors):
            if name in inputs and len(inputs[name].rows):
                assert isinstance(modality, Modality)
                tokens = modality.tokens(*inputs[name].values)
                own = tokens.terms()[0] * vector
                terms[name] = own if tokens.lengths is None else own[: int(tokens.lengths[0])]
        return terms

    def _check_names(self, inputs: Mapping[str, ModalityInput]) -> None:
        for name in inputs:
            if name not in self.names:
                raise ValueError(f"inputs[{name!r}]: expected one of {', '.join(self.names)}")


class MultimodalNetwork(nn.Module):
    """Maps the context of an encoder to logits: W context + b.

    Args:
        encoder: maps a batch to (B, D).
        num_outputs: number of logits C.
    """

    def __init__(self, encoder: nn.Module, num_outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(int(encoder.out_features), num_outputs)  # type: ignore[arg-type]

    def forward(
        self, inputs: Mapping[str, ModalityInput], num_rows: int
    ) -> Float[Tensor, "{num_rows} C"]:
        """Return the logits (B, C) of a batch of `num_rows` rows."""
        return self.head(self.encoder(inputs, num_rows))

    @torch.no_grad()
    def divide_head(self, divisor: float) -> None:
        """Divide weight and bias of the head, and with them all logits, by a number."""
        self.head.weight.div_(divisor)
        self.head.bias.div_(divisor)

    def contributions(self, inputs: Mapping[str, ModalityInput]) -> dict[str, Float[Tensor, "N C"]]:
        """Return what each token of a single row adds to each logit.

        Args:
            inputs: by name, the modalities of a batch of one row.

        Returns:
            by name, (N, C) float64; b plus the sum over all tokens gives the logits up to rounding.

        Raises:
            ValueError: the encoder is not the sum, so its logits are not a sum over tokens.
        """
        if not isinstance(self.encoder, MultimodalEncoder):
            raise ValueError("explain: only fusion='sum' has logits that are a sum over tokens")
        weight = self.head.weight.double().T
        return {name: terms.double() @ weight for name, terms in self.encoder.terms(inputs).items()}
