"""Selection of the next token from its logits."""

from __future__ import annotations

import numpy as np

__all__ = ["Sampler", "log_softmax", "most_probable"]


class Sampler:
    """Draw tokens from the softmax of their logits, with random numbers of its own.

    P(i) = exp(z_i / temperature) / Σ_j exp(z_j / temperature), of the smallest set of tokens whose
    total probability reaches top_p.

    Args:
        temperature: a number >= 0; 0 takes the most probable token.
        top_p: a number from 0 to 1; 1 keeps all tokens.
        seed: any integer; None takes random numbers that differ every time.
        stream: distinguishes the choices of one request, each with random numbers of its own.

    Numerics: float64. The same seed and logits give the same token.
    Cost: O(V), and O(V log V) with top_p < 1.

    Example:
        >>> Sampler(temperature=0)(np.array([0.0, 2.0, 1.0]))
        1
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stream: int = 0,
    ) -> None:
        self.temperature, self.top_p = temperature, top_p
        self._rng = np.random.default_rng(None if seed is None else [seed % 2**64, stream])

    def __call__(self, logits: np.ndarray) -> int:
        """Return the id of the next token.

        Args:
            logits: (V,) any floating type.

        Raises:
            FloatingPointError: a logit is NaN or infinite.
        """
        if not np.isfinite(logits).all():
            raise FloatingPointError("the model returned logits that are not finite")
        if self.temperature == 0:
            return int(logits.argmax())
        # With a tiny temperature all differences become infinite, and none of them NaN.
        with np.errstate(over="ignore"):
            scaled = (logits.astype(np.float64) - logits.max()) / self.temperature
        weights = np.exp(scaled)
        order = None
        if self.top_p < 1:
            order = np.argsort(-weights, kind="stable")
            weights = weights[order]
        cumulative = np.cumsum(weights)
        if order is not None:
            reaches = np.searchsorted(cumulative, self.top_p * cumulative[-1])
            cumulative = cumulative[: reaches + 1]
        drawn = np.searchsorted(cumulative, self._rng.random() * cumulative[-1], side="right")
        index = min(int(drawn), len(cumulative) - 1)
        return index if order is None else int(order[index])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities, (V,) float64."""
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def most_probable(log_probabilities: np.ndarray, number: int) -> list[tuple[int, float]]:
    """Return the tokens of the largest log probabilities, and these, in descending order."""
    order = np.argsort(-log_probabilities, kind="stable")[:number]
    return [(int(index), float(log_probabilities[index])) for index in order]
