"""What a regular expression of Oniguruma, the engine of the `tokenizers` library, may cost.

The engine backtracks, and a file may hold an expression that takes exponential time. What is
accepted takes polynomial time of a small degree in the length of a text; the coefficient can still
be large. The engine gives up after ten million steps from one position, with an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from reprlib import repr as shorten
from typing import Any, NamedTuple

from hyperagg._common.saved_files import UnsupportedError

__all__ = ["check_regex", "may_match_nothing"]

_MAX_PATTERN = 2000  # characters of a regular expression
# Of one alternative of a regular expression. The time is a polynomial in the length of the text
# whose degree is the number of unbounded quantifiers, times two to the power of all quantifiers.
_MAX_UNBOUNDED, _MAX_QUANTIFIERS = 3, 8
_MAX_REPEATS = 16  # a larger number counts as unbounded
_INFINITE = float("inf")

# Options such as those of (?i) and (?i:...); some change what a character of the pattern means.
_OPTIONS = re.compile(r"\(\?[a-zA-Z]*-?[a-zA-Z]+[:)]")
_OPTIONS_OF_THE_REST = re.compile(r"\(\?[a-zA-Z]*-?[a-zA-Z]+\)")
# Escapes that match exactly one character, of letters, digits and marks, or of a kind that Python
# shares; after a backslash, any other character that is not a letter or a digit is itself.
_CATEGORY = re.compile(r"\\p\{[LMN][a-z]?\}")
_ONE_CHARACTER = re.compile(r"\\(?:[wWdDsSrnt]|[^a-zA-Z0-9])", re.DOTALL)


class _Atom(NamedTuple):
    """A character, escape, class or parenthesis of a pattern, and how often it may be repeated."""

    text: str
    minimum: float = 1
    maximum: float = 1
    has_quantifier: bool = False


def check_regex(pattern: Any) -> None:
    """Check that a regular expression of Oniguruma takes polynomial time of a small degree.

    There are no references to groups, and an alternative has a small number of quantifiers. A group
    may be repeated if a repetition can begin and end in one way only: the group begins with
    punctuation or a space that nothing else in it matches, at most one quantifier in it leaves a
    choice, and it has neither alternatives nor groups.

    Raises:
        UnsupportedError: it may take longer.
        ValueError: it is not a str.

    Example:
        >>> check_regex(r"'s|'t| ?\\p{L}+|[^\\s\\p{L}]+[\\r\\n]*|\\s+(?!\\S)|\\s+")
        >>> check_regex(r"\\w+(?:-\\w+)*|[^\\w\\s]")
        >>> check_regex(r"(\\w+)*$")
        Traceback (most recent call last):
            ...
        hyperagg._common.saved_files.UnsupportedError: regular expression '(\\\\w+)*$': a group is repeated that does not begin with punctuation which nothing else in it matches; such expressions may take exponential time
    """  # noqa: E501
    if not isinstance(pattern, str):
        raise ValueError(f"regular expression {shorten(pattern)}: expected a str")
    message = f"regular expression {shorten(pattern)}: "
    if len(pattern) > _MAX_PATTERN:
        raise UnsupportedError(f"{message}expected at most {_MAX_PATTERN} characters")
    atoms = list(_atoms(pattern))
    unbounded = quantifiers = 0
    open_groups: list[int] = []
    for i, atom in enumerate(atoms):
        begin = None
        if atom.text == "|" and not open_groups:
            unbounded = quantifiers = 0
        elif atom.text == "(":
            open_groups.append(i)
        elif atom.text == ")" and open_groups:
            begin = open_groups.pop()
        if re.match(r"\\[kg1-9]", atom.text):
            raise UnsupportedError(f"{message}it refers to a group")
        if not atom.has_quantifier:
            continue
        if atom.text == ")" and atom.maximum > 1:
            options = _OPTIONS if open_groups else _OPTIONS_OF_THE_REST
            body = [] if begin is None else atoms[begin + 1 : i]
            if options.search(pattern) or not _is_delimited(body):
                raise UnsupportedError(
                    f"{message}a group is repeated that does not begin with punctuation which "
                    "nothing else in it matches; such expressions may take exponential time"
                )
        quantifiers += 1
        unbounded += atom.maximum > _MAX_REPEATS
        if unbounded > _MAX_UNBOUNDED or quantifiers > _MAX_QUANTIFIERS:
            raise UnsupportedError(f"{message}too many quantifiers in one alternative")


def may_match_nothing(pattern: str) -> bool:
    """Whether a regular expression may match the empty string; True if that is not known.

    Example:
        >>> may_match_nothing(r" {2,}|\\n"), may_match_nothing("a*"), may_match_nothing("a|")
        (False, True, True)
    """
    if _OPTIONS_OF_THE_REST.search(pattern):
        return True
    depth, consumes = 0, False
    for atom in _atoms(pattern):
        depth += (atom.text == "(") - (atom.text == ")")
        if depth == 0 and atom.text == "|":
            if not consumes:
                return True
            consumes = False
        elif depth == 0 and atom.minimum >= 1:
            consumes |= _is_one_character(atom.text)
    return not consumes


def _is_delimited(body: list[_Atom]) -> bool:
    """Whether a text can be divided into matches of the body of a group in one way only.

    Each repetition begins at a delimiter, so the delimiters say where all but the last one end.
    Every other atom matches one character that is not a delimiter, so the length of a repetition
    says how often the only atom with a choice is repeated.
    """
    if [atom.text for atom in body[:2]] == ["?", ":"]:
        body = body[2:]
    if not body or body[0].has_quantifier:
        return False
    first = body[0].text
    members = re.findall(r"\\?(.)", first[1:-1]) if first[0] == "[" else [first.lstrip("\\")]
    if first[0] == "[" and not re.fullmatch(r"\[-?(?:[ ',./:@+]|\\[^\w\s])*-?\]", first):
        return False
    if any(not re.fullmatch(r"[ !-/:-@\[-^`{-~]", member) for member in members):
        return False
    if first in (".", "^", "$", "(", ")", "|", "?", "*", "+"):
        return False
    if sum(atom.minimum != atom.maximum for atom in body) > 1:
        return False
    return not any(
        not _is_one_character(atom.text) or _matches(atom.text, member)
        for atom in body[1:]
        for member in members
    )


def _is_one_character(atom: str) -> bool:
    """Whether an atom is known to match exactly one character, whatever the text."""
    if atom[0] == "[":
        return True
    if atom[0] == "\\":
        return bool(_CATEGORY.fullmatch(atom) or _ONE_CHARACTER.fullmatch(atom))
    return atom not in "^$()|?*+"


def _matches(atom: str, delimiter: str) -> bool:
    """Whether an atom may match a delimiter; True if that is not known.

    No category of letters, marks or numbers contains ASCII punctuation or the space, and neither
    does \\w, apart from the underscore, which is not a delimiter.
    """
    atom = re.sub(
        r"\\(?:[pP]\{[^}]*\}|.)",
        lambda found: r"\w" if _CATEGORY.fullmatch(found[0]) else found[0],
        atom,
        flags=re.DOTALL,
    )
    if atom[0] == "[":
        inside = _ONE_CHARACTER.sub("", atom[1:-1])
        if re.search(r"\\|\[|&&|--|\|\||~~", inside):
            return True  # classes nest, and some escapes are not those of Python
    try:
        return re.fullmatch(atom, delimiter) is not None
    except re.error:
        return True


def _atoms(pattern: str) -> Iterator[_Atom]:
    """Yield the characters, escapes, classes and parentheses of a regular expression."""
    i = 0
    while i < len(pattern):
        begin = i
        if pattern[i] == "\\":
            i += 2
            if pattern[begin + 1 : begin + 2] in "pPxuk" and pattern[i : i + 1] in "{<":
                i = _after(pattern, i, "}>")
        elif pattern[i] == "[":
            i = _after_class(pattern, i)
        elif pattern.startswith(("(?#", "(?~"), i):
            raise UnsupportedError(
                f"regular expression {shorten(pattern)}: a group that is not known"
            )
        else:
            i += 1
        atom = _Atom(pattern[begin:i])
        while i < len(pattern) and atom.text not in "(|" and (found := _quantifier(pattern, i)):
            minimum, maximum, i = found
            atom = _Atom(
                atom.text,
                minimum if not atom.has_quantifier else min(minimum, atom.minimum),
                maximum if not atom.has_quantifier else max(maximum, atom.maximum),
                True,
            )
        yield atom


def _quantifier(pattern: str, i: int) -> tuple[float, float, int] | None:
    """The smallest and greatest number of repeats of the quantifier at i, and where it ends."""
    if pattern[i] in "*+":
        return float(pattern[i] == "+"), _INFINITE, i + 1
    if pattern[i] == "?":
        return 0, 1, i + 1
    if pattern[i] == "{":
        end = pattern.find("}", i)
        numbers = pattern[i + 1 : end].split(",") if end > 0 else []
        if 0 < len(numbers) <= 2 and all(n.isdecimal() or not n for n in numbers) and any(numbers):
            first, last = numbers[0], numbers[-1]
            return float(first or 0), (float(last) if last else _INFINITE), end + 1
    return None


def _after(pattern: str, i: int, ends: str) -> int:
    """The index after the first character of `ends` from i on."""
    while i < len(pattern) and pattern[i] not in ends:
        i += 1
    return i + 1


def _after_class(pattern: str, i: int) -> int:
    """The index after the character class that begins at i; classes nest."""
    depth, start = 0, i
    while i < len(pattern):
        if pattern[i] == "\\":
            i += 1
        elif pattern[i] == "[":
            depth, start = depth + 1, i
            i += pattern.startswith("^", i + 1)
            i += pattern.startswith("]", i + 1)  # a bracket at the beginning is a member
        elif pattern[i] == "]":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    raise UnsupportedError(
        f"regular expression {shorten(pattern)}: {pattern[start:][:20]!r} has no end"
    )
