"""Classes of characters, by which texts are split into tokens.

Source: Unicode Standard Annex 29 (text segmentation).
"""

from __future__ import annotations

import unicodedata

import numpy as np

from hyperagg._numba.cache import njit

__all__ = [
    "ASCII",
    "ASSIGNED",
    "EXTEND",
    "HANGUL",
    "MARK",
    "PAGE_BITS",
    "REGIONAL",
    "SINGLE",
    "SPACE",
    "WORD",
    "class_at",
    "class_of",
    "classes",
    "code_at",
    "in_two_stages",
    "unassigned",
]

# See `hyperagg.text.segmentation`.
SPACE, WORD, MARK, SINGLE, EXTEND, REGIONAL = range(6)

_UNSEPARATED = (
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),
    (0x3021, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),
)
# Blocks of one class, which are not looked up character by character.
_HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x20000, 0x3FFFF))
HANGUL = (0xAC00, 0xD7A3)
ASSIGNED = ((0, 0x33FF), (0xA000, 0xABFF), (0xD7A4, 0x1FFFF), (0xE0000, 0xE01FF))
_LAST = 0x10FFFF
PAGE_BITS = 7


def _classes() -> np.ndarray:
    """(0x110000,) uint8, the class of every code point, by its general category."""
    out = np.full(_LAST + 1, MARK, dtype=np.uint8)
    out[HANGUL[0] : HANGUL[1] + 1] = WORD
    for first, last in ASSIGNED:
        names = "".join(map(unicodedata.category, map(chr, range(first, last + 1)))).encode()
        major, minor = np.frombuffer(names, dtype=np.uint8).reshape(-1, 2).T
        letter, number = major == ord("L"), major == ord("N")
        connector = (major == ord("P")) & (minor == ord("c"))  # such as the underscore
        out[first : last + 1][letter | number | connector] = WORD
        out[first : last + 1][(major == ord("M")) | (minor == ord("f")) & (major == ord("C"))] = (
            EXTEND
        )
        for begin, end in _UNSEPARATED:
            own = slice(max(0, begin - first), max(0, end + 1 - first))
            single = letter[own] | number[own] & (minor[own] == ord("l"))
            out[first : last + 1][own][single] = SINGLE
    for first, last in _HAN:
        out[first : last + 1] = SINGLE
    out[0x1F1E6:0x1F200] = REGIONAL
    out[0x1F3FB:0x1F400] = EXTEND  # skin tones
    for code in (*range(0x3100), *range(0x1FFFE, 0x20000)):
        if chr(code).isspace():
            out[code] = SPACE
    return out


def in_two_stages(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of all code points in two stages.

    Args:
        values: (0x110000,), the value of each code point.

    Returns:
        (P, 128), the distinct pages of 128 values, and (8704,) uint16, the number of each page.
    """
    pages: dict[bytes, int] = {}
    rows = values.reshape(-1, 1 << PAGE_BITS)
    numbers = [pages.setdefault(row.tobytes(), len(pages)) for row in rows]
    distinct = np.frombuffer(b"".join(pages), dtype=values.dtype)
    return distinct.reshape(-1, 1 << PAGE_BITS), np.array(numbers, dtype=np.uint16)


_PAGES, _NUMBERS = in_two_stages(_classes())
ASCII = np.ascontiguousarray(_PAGES[_NUMBERS[0]])


def class_of(character: str) -> int:
    """Return the class of a character."""
    code = ord(character)
    return int(_PAGES[_NUMBERS[code >> PAGE_BITS], code & ((1 << PAGE_BITS) - 1)])


def classes() -> np.ndarray:
    """Return (0x110000,) uint8, the class of every code point."""
    return _PAGES[_NUMBERS].reshape(-1)


def unassigned() -> np.ndarray:
    """Return the code points, outside the blocks of one class, that are not characters in the
    version of Unicode of this Python, ascending; a later version may assign some of them."""
    codes = (code for first, last in ASSIGNED for code in range(first, last + 1))
    return np.array([code for code in codes if unicodedata.category(chr(code)) == "Cn"])


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def code_at(data, i):
    """Return the code point at byte `i`, which is not ASCII, and the byte after it."""
    byte = np.uint32(data[i])
    if byte < 0xE0:
        code, size = byte & 0x1F, 2
    elif byte < 0xF0:
        code, size = byte & 0x0F, 3
    else:
        code, size = byte & 0x07, 4
    for k in range(1, size):
        code = (code << 6) | (np.uint32(data[i + k]) & 0x3F)
    return code, i + size


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def class_at(data, i):
    """Return the class of the character at byte `i`, which is not ASCII, and the byte after it."""
    code, after = code_at(data, i)
    return _PAGES[_NUMBERS[code >> PAGE_BITS], code & ((1 << PAGE_BITS) - 1)], after
