"""Bytes to lines: encodings, line ends and the marks that files begin and end with."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.sources import ByteStream

__all__ = ["MAX_ROW_CHARS", "TextBlocks", "decode_blocks", "has_bad_bytes", "repair"]

MAX_ROW_CHARS = 1 << 26  # a longer row is a file without line ends, and would not fit into memory

PARQUET_MAGIC = b"PAR1"

# The first bytes of files that are not text, what they are, and what to do about it.
BINARY_MAGIC = (
    (b"PK\x03\x04", "a ZIP archive or an Excel file: unpack it or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Office file: save it as CSV"),
    (b"%PDF-", "a PDF, not a table: export its text as CSV"),
    (b"\x89PNG", "a PNG image, not text"),
    (b"\xff\xd8\xff", "a JPEG image, not text"),
)

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

ENCODINGS = "UTF-8, or UTF-16 or UTF-32 with a byte order mark"  # what is accepted

_NOT_CONTROLS = b"\t\n\r" + bytes(range(32, 256))
END_OF_FILE = "\x1a"  # DOS programs end a file with it
REPLACEMENT = "\ufffd"
BAD_BYTE = re.compile("[\udc80-\udcff]")
# All surrogates but those that stand for the bytes 0x80 to 0xff.
UNPAIRED = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class TextBlocks:
    """The blocks of a text file, decoded, and the lines in them.

    Invalid bytes become unpaired surrogates, so that `has_bad_bytes` finds the lines that have
    them. The control character 0x1a at the very end of a file is not part of its text.

    Args:
        stream: the bytes.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._blocks = decode_blocks(stream)
        self._head: list[str] = []

    def peek(self, blank: bool = False) -> str:
        """Return the text up to the end of the first line, at least.

        Args:
            blank: whether the line may be blank; otherwise blank lines before it are returned too.
        """
        while True:
            head = "".join(self._head)
            body = head if blank else head.lstrip()
            # A CR at the end may be the first half of a CRLF.
            if "\n" in body or "\r" in body[:-1] or len(head) > MAX_ROW_CHARS:
                return head
            block = next(self._blocks, None)
            if block is None:
                return head
            self._head = [head, block]

    def first_character(self) -> str:
        """Return the first character that is not white space; "" if there is none."""
        while not (body := "".join(self._head).lstrip()):
            block = next(self._blocks, None)
            if block is None:
                return ""
            self._head.append(block)
        return body[0]

    def __iter__(self) -> Iterator[str]:
        head, self._head = "".join(self._head), []
        if head:
            yield head
        yield from self._blocks

    def lines(self, *, keep_cr: bool = False) -> Iterator[list[str]]:
        """Yield the complete lines of each block, without their line ends.

        Lines end with LF or CRLF. If there is a CR and no LF in the first block, lines end with CR.
        A CR elsewhere is a character of the text. A line end at the end of the file does not begin
        another line.

        Args:
            keep_cr: whether only the LF of a CRLF is left out.

        Raises:
            DataError: a line is longer than `MAX_ROW_CHARS`.
        """
        head = self.peek(blank=True)
        end = "\r" if "\r" in head and "\n" not in head else "\n"
        rest: list[str] = []
        size = number = 0
        for block in self:
            lines = block.split(end)
            if len(lines) == 1:
                rest.append(block)
                size += len(block)
                if size > MAX_ROW_CHARS:
                    raise DataError(
                        f"{self.stream.name}: line {number + 1:,} is longer than "
                        f"{MAX_ROW_CHARS:,} characters: expected one row per line"
                    )
                continue
            if rest:
                rest.append(lines[0])
                lines[0] = "".join(rest)
            last = lines.pop()
            rest, size = ([last], len(last)) if last else ([], 0)
            if end == "\n" and not keep_cr:
                yield [line[:-1] if line.endswith("\r") else line for line in lines]
            else:
                yield lines
            number += len(lines)
        if rest:
            last = "".join(rest)
            yield [last if keep_cr else last.removesuffix("\r")]


def decode_blocks(stream: ByteStream) -> Iterator[str]:
    """Yield the text of a stream: UTF-8, or UTF-16 or UTF-32 with a byte order mark.

    Raises:
        DataError: the file is not text.
    """
    first = stream.read()
    while first and len(first) < 4 and _may_be_mark(first):
        more = stream.read()
        if not more:
            break
        first += more
    encoding = "utf-8"
    for mark, name in BYTE_ORDER_MARKS:
        if first.startswith(mark):
            first, encoding = first.removeprefix(mark), name
            break
    else:
        check_is_text(first, stream.name)
    errors = "surrogateescape" if encoding == "utf-8" else "surrogatepass"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    held = ""  # marks that may be at the end of the file
    block = first or stream.read()  # a pipe may have had nothing but the byte order mark
    while block:
        text = held + _decode(decoder, block, stream.name)
        body = text.rstrip(END_OF_FILE)
        held = text[len(body) :]
        if body:
            yield body
        block = stream.read()
    try:
        tail = decoder.decode(b"", final=True)
    except UnicodeDecodeError:  # half a character of UTF-16
        tail = "\ud800"
    if tail.rstrip(END_OF_FILE):
        yield held + tail


def _decode(decoder: codecs.IncrementalDecoder, block: bytes, name: str) -> str:
    try:
        return decoder.decode(block)
    except UnicodeDecodeError as error:  # UTF-32 beyond the last character
        raise DataError(f"{name}: is not UTF-32, which its first bytes promise") from error


def _may_be_mark(first: bytes) -> bool:
    return any(mark.startswith(first) for mark, _ in BYTE_ORDER_MARKS)


def check_is_text(first: bytes, name: str) -> None:
    """Raise DataError if the first bytes of a file do not belong to a text file."""
    if first.startswith(PARQUET_MAGIC):
        raise DataError(
            f"{name}: is a Parquet file: rename it to .parquet or give the format parquet"
        )
    for magic, description in BINARY_MAGIC:
        if first.startswith(magic):
            raise DataError(f"{name}: is {description}")
    sample = first[:4096]
    zeros = sample.count(b"\0")
    if zeros < 4:
        return
    if _looks_like_utf16(sample):
        raise DataError(
            f"{name}: looks like UTF-16 without a byte order mark: expected {ENCODINGS}"
        )
    if zeros * 4 >= len(sample):
        raise DataError(
            f"{name}: is a binary file, or UTF-32 without a byte order mark: expected {ENCODINGS}"
        )


def _looks_like_utf16(sample: bytes) -> bool:
    """Return whether NUL is mostly the upper half of 16-bit units, also of spaces or line ends.

    Half of all bytes are NUL in ASCII only; in other scripts these marks may be all that has it,
    and the lower half of a few letters is NUL. The lines of other files end in both halves. The
    upper half of all alphabets is a control character, and other scripts are not valid UTF-8.
    """
    if 4 * len(sample.translate(None, _NOT_CONTROLS)) < len(sample):
        try:
            codecs.getincrementaldecoder("utf-8")().decode(sample)
        except UnicodeDecodeError:
            pass
        else:
            return False
    return any(
        upper.count(0) > 2 * lower.count(0)
        and {(0, 10), (0, 32)} & set(zip(upper, lower))
        and 10 not in upper
        for upper, lower in ((sample[1::2], sample[::2]), (sample[::2], sample[1::2]))
    )


def has_bad_bytes(text: str) -> bool:
    """Return whether a text has an unpaired surrogate, which UTF-8 cannot encode."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def repair(text: str) -> str:
    """Return a text with U+FFFD for every invalid sequence of bytes and unpaired surrogate."""
    text = UNPAIRED.sub(REPLACEMENT, text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
