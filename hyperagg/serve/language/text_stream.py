"""Text from tokens, one at a time: whole characters only, and up to a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel, DecodeStream
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

__all__ = ["StopMatcher", "TextStream", "token_bytes"]

# The tokens of a prompt that decide how the next token is decoded: the beginning of a character of
# several bytes, or that there is a preceding word.
_CONTEXT_TOKENS = 8


class TextStream:
    """Decode tokens one at a time, without the special ones.

    A character whose bytes are spread over several tokens is returned with the last of them. The
    pieces join to the decoded text, in which U+FFFD stands for bytes that are not UTF-8.

    Args:
        tokenizer: the tokenizer.
        prompt: the preceding tokens, whose text is not returned.

    Cost: O(1) per token with a byte-level tokenizer.

    Example:
        >>> from hyperagg.language.tokenizer import train_tokenizer
        >>> tokenizer = train_tokenizer(["one two"], "words", 10)
        >>> stream = TextStream(tokenizer)
        >>> [stream.push(token) for token in tokenizer("one two")["input_ids"]]
        ['one', ' two']
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prompt: Sequence[int] = ()) -> None:
        self._tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self._utf8: codecs.IncrementalDecoder | None = None
        if is_byte_level(self._tokenizer):
            self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stream = DecodeStream(skip_special_tokens=True)
        self._pending: list[int] = []
        for token in prompt[-_CONTEXT_TOKENS:]:
            self.push(token)

    def push(self, token: int) -> str:
        """Return the text that a token completes, which may be empty."""
        if self._utf8 is not None:
            if token in self._special:
                return ""
            return self._utf8.decode(token_bytes(self._tokenizer, token))
        text = self._stream.step(self._tokenizer, token)
        if text is None:
            self._pending.append(token)
            return ""
        self._pending = []
        return text

    def finish(self) -> str:
        """Return what is left of an incomplete character."""
        if self._utf8 is not None:
            return self._utf8.decode(b"", final=True)
        return self._tokenizer.decode(self._pending, skip_special_tokens=True)


class StopMatcher:
    """Cut a text that arrives in pieces before the first stop string that becomes complete.

    Where two become complete with the same character, the longer one counts. So the result does
    not depend on how the text was divided.

    Args:
        stops: the stop strings, none of them empty.

    Example:
        >>> matcher = StopMatcher(["END"])
        >>> [matcher.push(piece) for piece in ("one E", "N", "two END three")]
        ['one ', '', 'ENtwo ']
        >>> matcher.is_stopped
        True
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.is_stopped = False
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> str:
        """Return the text that cannot belong to a stop string any more."""
        self._held += text
        found = [
            (start + len(stop), start)
            for stop in self._stops
            if (start := self._held.find(stop)) >= 0
        ]
        if found:
            self.is_stopped = True
            return self._release(min(found)[1], rest="")
        return self._release(len(self._held) - self._num_held())

    def finish(self) -> str:
        """Return the text that was held back and belongs to no stop string."""
        return self._release(len(self._held))

    def _num_held(self) -> int:
        """The length of the longest end of the text that a stop string begins with."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int, rest: str | None = None) -> str:
        text = self._held[:length]
        self._held = self._held[length:] if rest is None else rest
        return text


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Return whether every token stands for a sequence of bytes."""
    return isinstance(tokenizer.decoder, ByteLevel)


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """Return the bytes that a token stands for; those of its name where it is a special token."""
    name = tokenizer.id_to_token(token) or ""
    if is_byte_level(tokenizer):
        try:
            return bytes(_byte_of_character()[character] for character in name)
        except KeyError:  # a token that was added as a text
            pass
    return name.encode("utf-8", "replace")


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    return {character: byte for byte, character in bytes_to_unicode().items()}
