"""The encoder: one sum for everything that a row has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.multimodal.modalities.base import Modality

__all__ = ["Given", "MultimodalEncoder", "MultimodalNetwork"]


class Given(NamedTuple):
    """What a batch has of one modality.

    Args:
        rows: (R,) the rows of the batch that have it, R of its B.
        values: of these rows, what the modality's `tokens` takes.
    """

    rows: Int[Tensor, " R"]
    values: tuple[Tensor, ...]


class MultimodalEncoder(nn.Module):
    """Any number of modalities in one space, each with places and a vector of its own.

    context = sum_m sum_t s_m e_mt * p_mt * v_m

    The sum runs over the modalities that a row has, so any of them may be missing in any row; one
    that is missing adds nothing. It is linear in the tokens: a linear map of the context is the sum
    of what it makes of each token.

    Args:
        d_model: D.
        modalities: by name, what makes tokens of each, all of them of dimension D.

    Numerics: sums in float32 or better. Cost: O(n d) after the tokens, for n tokens in all.
    """

    def __init__(self, d_model: int, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        if not modalities:
            raise ValueError("modalities: there are none; give at least one")
        self.out_features = d_model
        self.names = list(modalities)
        self.modalities = nn.ModuleList(modalities.values())  # names may have dots in them
        self.vectors = nn.Parameter(1 + 0.02 * torch.randn(len(modalities), d_model))

    def forward(self, given: Mapping[str, Given], rows: int) -> Float[Tensor, "{rows} D"]:
        """(B, D) of a batch of B = `rows` rows; what a modality's `given` leaves out has none.

        Raises:
            ValueError: a modality that is not known.
        """
        self.check(given)
        context = self.vectors.new_zeros(rows, self.out_features)
        for name, modality, vector in zip(self.names, self.modalities, self.vectors):
            if name in given and len(given[name].rows):
                own = given[name]
                context = context.index_add(0, own.rows, modality(*own.values) * vector)
        return context

    def addends(self, given: Mapping[str, Given]) -> dict[str, Float[Tensor, "N D"]]:
        """Of a batch of one row, by modality, the (N, D) terms that its context is the sum of."""
        self.check(given)
        found = {}
        for name, modality, vector in zip(self.names, self.modalities, self.vectors):
            if name in given and len(given[name].rows):
                assert isinstance(modality, Modality)
                tokens = modality.tokens(*given[name].values)
                terms = tokens.addends()[0] * vector
                found[name] = terms if tokens.lengths is None else terms[: int(tokens.lengths[0])]
        return found

    def check(self, given: Mapping[str, Given]) -> None:
        for name in given:
            if name not in self.names:
                raise ValueError(f"{name!r}: the modalities are {', '.join(self.names)}")


class MultimodalNetwork(nn.Module):
    """logits = W context + b.

    Args:
        encoder: from what a batch has to (B, D).
        outputs: C.
    """

    def __init__(self, encoder: nn.Module, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(int(encoder.out_features), outputs)  # type: ignore[arg-type]

    def forward(self, given: Mapping[str, Given], rows: int) -> Float[Tensor, "{rows} C"]:
        """(B, C) of a batch of B = `rows` rows."""
        return self.head(self.encoder(given, rows))

    def contributions(self, given: Mapping[str, Given]) -> dict[str, Float[Tensor, "N C"]]:
        """Of a batch of one row, by modality, what each token adds to each logit, in float64.

        logits = b + the sum of all of them, but for rounding.
        """
        if not isinstance(self.encoder, MultimodalEncoder):
            raise ValueError("contributions: only the sum's logits are a sum over tokens")
        weight = self.head.weight.double().T
        return {name: x.double() @ weight for name, x in self.encoder.addends(given).items()}
