"""Comparison of generated images with real ones: by features of a classifier, and by pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

__all__ = ["Nearest", "frechet_distance", "nearest_images"]


def frechet_distance(a: Float[np.ndarray, "M D"], b: Float[np.ndarray, "N D"]) -> float:
    """Compute the Fréchet distance of two sets of features.

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), with means m and covariances S. A small
    number of images increases the distance, so only sets of equal sizes can be compared.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local
        Nash equilibrium".
    """
    mean_a, mean_b = a.mean(0, dtype=np.float64), b.mean(0, dtype=np.float64)
    cov_a, cov_b = (np.cov(each, rowvar=False, dtype=np.float64) for each in (a, b))
    root = _root(cov_a)
    # This symmetric matrix has the eigenvalues of S_a S_b.
    between = np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)
    trace = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(between).sum()
    return float(((mean_a - mean_b) ** 2).sum() + trace)


@dataclass(frozen=True)
class Nearest:
    """The nearest image for each of N images.

    Args:
        rows: (N,) indices of the nearest images.
        distances: (N,) Euclidean distances of pixels from 0 to 1.
    """

    rows: Int[np.ndarray, " N"]
    distances: Float[np.ndarray, " N"]


def nearest_images(
    images: Float[np.ndarray, "N pixels"], among: Float[np.ndarray, "M pixels"]
) -> Nearest:
    """Find the nearest image among others, by Euclidean distance of pixels.

    Cost: O(N M pixels).
    """
    searched = torch.from_numpy(among).float()
    rows, distances = [], []
    for part in torch.from_numpy(images).float().split(256):
        found = torch.cdist(part, searched).min(1)
        rows.append(found.indices)
        distances.append(found.values)
    return Nearest(torch.cat(rows).numpy(), torch.cat(distances).numpy())


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
