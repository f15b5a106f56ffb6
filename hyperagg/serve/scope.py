"""What the HTTP protocol of `hyperagg serve` says about a request, as keys of its ASGI scope."""

from __future__ import annotations

__all__ = ["BODY_ARRIVED"]

# Set if the body has arrived, so that no time-out has to be started for it.
BODY_ARRIVED = "hyperagg.body_arrived"
