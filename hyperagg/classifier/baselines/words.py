"""Words of a text in any script, as the external baselines read them."""

from __future__ import annotations

import unicodedata

__all__ = ["separate_words"]


class _Separator(dict[int, str]):
    """Maps letters, marks, numbers, joiners and "_" to themselves, and surrounds others by spaces.

    `\\w` of the re module has no combining marks, which would tear Thai and Indic words apart.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        # Cf: joiners and soft hyphens, which stay in the word.
        if character == "_" or category == "Cf" or category[0] in "LMN":
            value = character
        else:
            value = " " if character.isspace() else f" {character} "
        self[code] = value
        return value


_SEPARATOR = _Separator()


def separate_words(text: str) -> str:
    """Return the lower-case words and punctuation marks of a text, separated by single spaces.

    >>> separate_words("Don't stop!")
    "don ' t stop !"
    """
    return " ".join(text.lower().translate(_SEPARATOR).split())
