"""The fused training step and scoring."""
