"""Prediction of how often a token is retrieved correctly from a sum.

Unbinding position i gives u_k = sum_t e_{w_t,k} g_tk, with g_tk = p_tk p_ik (or p_tk / p_ik), and a
token's score is s_v = sum_k e_vk u_k. Vectors of tokens have independent coordinates of mean 0,
variance 1 and fourth moment m (signs 1, Gaussian 3). With K_t = sum_k g_tk, the Gram weight of
position t, |g_t|^2 = sum_k g_tk^2 and S = sum_t |g_t|^2, the scores are sums of d terms or more,
hence close to Gaussian, with

    the token at i               mean K_i,  variance S + (m - 2) |g_i|^2
    the token at position t      mean K_t,  variance S + (m - 2) |g_t|^2
    a token that does not occur  mean 0,    variance S
    covariance of those at t, i  sum_k g_tk g_ik  (both contain the product of their vectors)

Independent positions: K_i = d, and all other K_t are noise of variance d, the same for all wrong
tokens. The score of the true token exceeds them by sqrt(d / n) standard deviations. Positions that
are not orthogonal also return the tokens of their neighbors, with weight K_t.

Source: the winner-take-all integral is that of Frady, Kleyko and Sommer 2018, "A theory of sequence
indexing and working memory in recurrent neural networks" (there for powers of one random matrix);
requirements on an encoding in terms of its incoherence: Thomas, Dasgupta and Rosing 2021, "A
theoretical perspective on hyperdimensional computing".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import gammaln, log_ndtr, ndtr, ndtri
from torch import Tensor

from research.analysis.capacity import KINDS, VOCABULARY, query_positions

__all__ = ["divided_accuracy", "gram_accuracy", "predicted", "random_accuracy"]

# Midpoints of equally probable parts of a standard normal.
_FEW_QUANTILES, _QUANTILES = (ndtri((np.arange(parts) + 0.5) / parts) for parts in (6, 32))


def predicted(kind: str, d: int, n: int, vocabulary: int = VOCABULARY) -> float:
    """Predict the accuracy of a kind of memory, by the formula for its positions."""
    if kind == "random signs":
        return random_accuracy(signs(n), d, vocabulary, kurtosis=-2 * (3 - 2 / n) / d)
    if kind == "Gaussian":
        return random_accuracy(gaussian(n), d, vocabulary)
    if kind == "Gaussian, divided":
        return divided_accuracy(n, vocabulary)
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(KINDS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return gram_accuracy(KINDS[kind].positions(n, d), vocabulary)


class Moments(NamedTuple):
    """Moments of one channel: a = e u for the true token, with E a = 1, and q = u^2 for noise.

    Args:
        true: Var a.
        noise: E q, the variance of the score of a wrong token.
        spread: Var q.
        both: Cov(a, q).
    """

    true: float
    noise: float
    spread: float
    both: float


def signs(n: float) -> Moments:
    """Compute the moments of signs: a = 1 + x and q = (1 + x)^2, x a sum of n - 1 signs."""
    return Moments(n - 1, n, 2 * n * (n - 1), 2 * (n - 1))


def gaussian(n: float) -> Moments:
    """Compute the moments of Gaussian tokens and positions.

    a = e^2 p^2 + e p x and q = (e p^2 + p x)^2, where x is a sum of n - 1 products of two Gaussian
    numbers; E p^2k = 1, 3, 15, 105.
    """
    m = n - 1
    fourth = 3 * m * (m - 1) + 9 * m  # E x^4
    spread = 3 * 105 + 6 * 15 * m + 3 * fourth - (n + 2) ** 2
    return Moments(n + 7, n + 2, spread, 8 * n + 34)


def random_accuracy(moments: Moments, d: int, vocabulary: int, kurtosis: float = 0.0) -> float:
    """Compute E_{A, Q} Phi(A / sqrt Q)^(V - 1), the accuracy for independent positions.

    A = sum_k a_k, the score of the true token, is approximately normal. Given u, the scores of all
    others are independent with the same variance Q = sum_k q_k = |u|^2. Given A, Q is approximated
    by a gamma distribution with the mean and variance of a regression on A. To leading order
    A ~ N(d, d n) and Q = d n.

    Args:
        moments: moments of a channel.
        d, vocabulary: dimension, and number of tokens.
        kurtosis: excess kurtosis of the score of a wrong token given u; for a sum of signs it is
            -2 sum u^4 / (sum u^2)^2. The tail is that of a normal distribution times
            exp(kurtosis t^4 / 24), the first term of Cramer's expansion.
    """
    a = d + _Z * math.sqrt(d * moments.true)
    slope = moments.both / moments.true
    mean = np.maximum(d * moments.noise + slope * (a - d), 0.1 * d)[:, None]
    variance = d * (moments.spread - slope * moments.both)
    q = _gamma(mean, variance, _QUANTILES)
    q = np.maximum(q, a[:, None] ** 2 / d)  # Cauchy-Schwarz
    return float(_W @ _beats(a[:, None] / np.sqrt(q), vocabulary - 1, kurtosis).mean(1))


def divided_accuracy(n: float, vocabulary: int) -> float:
    """Compute E_{y, z} Phi(z + |y| / m)^(V - 1), the accuracy for division by Gaussian positions.

    y and z are standard normal.

    u_k = e_ik + x_k / p_ik with x_k a sum of n - 1 products of Gaussian numbers, and m = E |x_k| =
    2 Gamma(n / 2) / (sqrt(pi) Gamma((n - 1) / 2)), about sqrt(2 n / pi). 1 / p^2 has Levy's law,
    stable with index 1/2, so sum_k x_k^2 / p_ik^2 has that of (sum_k |x_k|)^2 / y^2 = d^2 m^2 /
    y^2. The noise grows as fast as the score d, so no d is large enough: the channel in which p_i
    is nearest to zero dominates all others.
    """
    m = 2 / math.sqrt(math.pi) * math.exp(gammaln(n / 2) - gammaln((n - 1) / 2))
    y = ndtri(0.5 + (np.arange(256) + 0.5) / 512)
    return float(_W @ _beats(_Z[:, None] + y / m, vocabulary - 1).mean(1))


def gram_accuracy(
    p: Float[Tensor, "N D"], vocabulary: int, fourth_moment: float = 1.0, draws: int = 8
) -> float:
    """Compute the mean over positions of E_{f, z} prod_v Phi(...), for given position vectors.

    The common part of the scores of two tokens in the sequence is modeled by one factor f along
    g_i, which cancels in their difference. Given f and z, the noise of the true token, comparisons
    with all others are treated as independent. Positions with the same token act as one position
    whose vector is their sum; the tokens are drawn `draws` times.
    """
    found, rng = [], np.random.default_rng(len(p))
    for _ in range(draws):
        _, token = np.unique(rng.integers(0, vocabulary, len(p)), return_inverse=True)
        rows = torch.zeros(token.max() + 1, p.shape[1]).index_add_(0, torch.from_numpy(token), p)
        positions = query_positions(len(p))
        sums = _Sums(rows.double().numpy(), vocabulary, fourth_moment)
        for position, own in zip(p[positions].double().numpy(), token[positions.numpy()]):
            found.append(sums.accuracy(position, own))
    return float(np.mean(found))


class _Sums:
    """Scores of one sequence; rows (T, D) are the factors of its tokens."""

    def __init__(self, rows: np.ndarray, vocabulary: int, fourth_moment: float) -> None:
        self.rows, self.squares, self.m = rows, rows**2, fourth_moment
        self.absent = vocabulary - len(rows)
        self.power = self.squares.sum(0)

    def accuracy(self, p: np.ndarray, own: int) -> float:
        """Accuracy at a position of vector p whose token is rows[own]."""
        mean, size = self.rows @ p, self.squares @ p**2
        factor = self.rows @ (self.rows[own] * p**2) / math.sqrt(size[own])
        noise = np.sqrt(size.sum() + (self.m - 2) * size - factor**2)
        others = np.arange(len(mean)) != own
        f, z = _F[:, None], _Z
        score = mean[own] + factor[own] * f + noise[own] * z
        beats = self._beats_absent(score, p, own)
        for start in range(0, len(mean), 256):
            part = np.flatnonzero(others[start : start + 256]) + start
            wrong = mean[part, None, None] + factor[part, None, None] * f
            beats *= np.exp(log_ndtr((score - wrong) / noise[part, None, None]).sum(0))
        return float(_WF @ beats @ _W)

    def _beats_absent(self, score: np.ndarray, p: np.ndarray, own: int) -> np.ndarray:
        """Probability that the score exceeds those of all tokens that do not occur.

        Their variance is Q = |u|^2. With tau_k the variance that the other tokens add to channel
        k, and g = rows[own] p: E Q = sum g^2 + tau, Var Q = sum 4 g^2 tau + 2 tau^2, and
        Cov(score, Q) = 2 sum g tau.
        """
        g, channels = self.rows[own] * p, p**2 * self.power
        tau = channels - g**2
        slope = 2 * (g @ tau) / tau.sum()
        mean = np.maximum(channels.sum() + slope * (score - g.sum()), 0.1 * channels.sum())
        variance = 4 * (g**2 @ tau) + 2 * (tau @ tau) - slope * 2 * (g @ tau)
        q = _gamma(mean[..., None], variance, _FEW_QUANTILES)
        kurtosis = (self.m - 3) * 3 * (channels @ channels) / channels.sum() ** 2
        return _beats(score[..., None] / np.sqrt(q), self.absent, kurtosis).mean(-1)


def _beats(margin: np.ndarray, others: int, kurtosis: float = 0.0) -> np.ndarray:
    """Probability that a score, `margin` deviations above the mean, exceeds `others` scores."""
    tail = ndtr(-margin) * np.exp(kurtosis * np.maximum(margin, 0) ** 4 / 24)
    return np.exp(others * np.log1p(-np.minimum(tail, 0.999)))


def _gamma(mean: np.ndarray, variance: float, z: np.ndarray) -> np.ndarray:
    """Quantiles of a gamma distribution at normal quantiles z (Wilson and Hilferty)."""
    ninth = variance / (9 * mean**2)
    return mean * np.maximum(1 - ninth + z * np.sqrt(ninth), 1e-3) ** 3


def _normal(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes and weights of a standard normal distribution."""
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    return z, weight / weight.sum()


_Z, _W = _normal(48)
_F, _WF = _normal(8)
