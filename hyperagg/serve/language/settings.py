"""What the server accepts of requests to language models."""

from __future__ import annotations

from dataclasses import dataclass

from hyperagg._common.validation import check_integer

__all__ = ["LanguageSettings"]


@dataclass(frozen=True, kw_only=True)
class LanguageSettings:
    """The limits of language models.

    Args:
        max_prompt_tokens: the length of a prompt.
        max_tokens: the number of tokens to generate per text.
        max_choices: the number of texts per request: its prompts times `n`.
        max_generations: the number of prompts that are read or continued at a time; further ones
            are answered with status 429.
        state_cache_bytes: the size of the states that are kept for prompts that begin as earlier
            texts did; 0 keeps none.
        state_cache_entries: the number of these states.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Example:
        >>> LanguageSettings(max_tokens=100).max_tokens
        100
    """

    max_prompt_tokens: int = 131_072
    max_tokens: int = 4096
    max_choices: int = 16
    max_generations: int = 64
    state_cache_bytes: int = 256 * 2**20
    state_cache_entries: int = 4096

    def __post_init__(self) -> None:
        for name in ("max_prompt_tokens", "max_tokens", "max_choices", "max_generations"):
            check_integer(name, getattr(self, name), 1)
        for name in ("state_cache_bytes", "state_cache_entries"):
            check_integer(name, getattr(self, name), 0)
