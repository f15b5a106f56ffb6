"""Speed, by interleaved timing, beside the physical limit and the best alternative."""
