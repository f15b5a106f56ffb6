"""Damage files at random and read them: every row is answered, or the file is refused in one line.

python -m tests.data.readers.mutated_files 10000
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.stream import RowBatch, stream_rows

TEXTS = ["a fine film", "", " ", 'she said "no"', '"', "caf\u00e9", "\u4e2d\u6587", "\U0001f600"]
TEXTS += [
    "a, b; c|d",
    "tab\there",
    "nul\0",
    "sub\x1a",
    "cr\rcr",
    "\u2028",
    "\ufeffbom",
    "{}",
    "[1]",
]
# What files from other systems have in the wrong places.
PIECES = [b'"', b'""', b"\0", b"\r", b"\n", b"\r\n", b"\x1a", b"\xff", b"\xe9", b"\xef\xbb\xbf"]
PIECES += [b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\t", b",", b"{", b"}", b"[", b"]", b"\\"]
PIECES += [b"\n\n", b"__label__", b"null", b"PAR1", b"\x1f\x8b\x08", b"\xc3", b" " * 50]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}
LINE_FORMATS = ("lines", "fasttext", "jsonl", "tsv")


def make_file(random_: random.Random, format: str) -> bytes:
    """The content of a file of up to 12 rows with the columns `id` and `text`."""
    texts = random_.choices(TEXTS, k=random_.randrange(12))
    end = random_.choice(["\n", "\n", "\r\n", "\r"])
    rows = [(str(i), text) for i, text in enumerate(texts)]
    if format == "parquet":
        sink = io.BytesIO()
        table = pa.table({"id": range(len(texts)), "text": pa.array(texts, pa.string())})
        pq.write_table(table, sink, row_group_size=random_.choice([1, 5, None]))
        return sink.getvalue()
    if format == "csv":
        file = io.StringIO(newline="")
        csv.writer(file, lineterminator=end).writerows([("id", "text"), *rows])
        content = file.getvalue()
    elif format == "tsv":
        content = "".join("\t".join(row) + end for row in [("id", "text"), *rows])
    elif format == "array":
        content = json.dumps([{"id": i, "text": text} for i, text in rows], indent=1)
    elif format == "jsonl":
        ascii_ = random_.random() < 0.5
        content = "".join(
            json.dumps({"id": i, "text": text}, ensure_ascii=ascii_) + end for i, text in rows
        )
    else:
        mark = "__label__x " if format == "fasttext" else ""
        content = "".join(mark + text + end for text in texts)
    return content.encode(random_.choice(["utf-8"] * 6 + ["utf-8-sig", "utf-16"]))


def mutate(random_: random.Random, content: bytes) -> bytes:
    """The content with up to three pieces replaced, inserted, doubled or cut off."""
    for _ in range(random_.randrange(4)):
        at = random_.randrange(len(content) + 1)
        stop = at + random_.choice([0, 0, 1, 2, 10])
        kind = random_.randrange(5)
        piece = {
            0: random_.choice(PIECES),
            1: random_.randbytes(random_.randrange(1, 4)),
            2: content[at : at + 20] * 2,
            3: b"",
            4: random_.choice(PIECES),
        }[kind]
        content = content[:at] + piece + content[stop:]
        if random_.random() < 0.05:
            content = content[:at]
    return content


def count_lines(content: bytes) -> int | None:
    """The number of lines of a text by another way; None for UTF-16 and UTF-32."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        return None
    content = content.removeprefix(b"\xef\xbb\xbf").rstrip(b"\x1a")
    end = b"\r" if b"\r" in content and b"\n" not in content else b"\n"
    return len((content.removesuffix(end) + end).split(end)) - 1 if content else 0


def header_lines(content: bytes) -> int:
    """The number of lines up to the header, which is included."""
    text = content.removeprefix(b"\xef\xbb\xbf").rstrip(b"\x1a").decode("utf-8", "replace")
    end = "\r" if "\r" in text and "\n" not in text else "\n"
    lines = text.split(end)
    return next((i + 1 for i, line in enumerate(lines) if line.strip()), len(lines))


def check_file(seed: int, folder: Path) -> str:
    """Read one damaged file in several ways, and return how it ended: "rows" or "refused".

    Raises:
        AssertionError: a row was lost or repeated, or a refusal does not say where and why.
    """
    random_ = random.Random(seed)
    format = random_.choice(["csv", "array", "parquet", *LINE_FORMATS])
    content = make_file(random_, format)
    compression = random_.choice(["", "", "", *COMPRESS])
    if compression and random_.random() < 0.5:
        content = mutate(random_, COMPRESS[compression](content))
    else:
        content = mutate(random_, content)
        plain = content
        content = COMPRESS[compression](content) if compression else content
    path = folder / f"file{compression}"
    path.write_bytes(content)
    name = "jsonl" if format == "array" else format
    keep = () if format in ("lines", "fasttext") else ("id",)
    size = random_.choice([1, 3, 4096])

    def read(**options: object) -> list[RowBatch]:
        return list(stream_rows(path, format=name, keep=keep, batch_rows=size, **options))  # type: ignore[arg-type]

    def rows(batches: list[RowBatch]) -> list[tuple[object, ...]]:
        return [
            (row, text, *cells)
            for batch in batches
            for row, text, *cells in zip(batch.rows, batch.texts, *batch.kept.values(), strict=True)
        ]

    try:
        batches = read()
    except DataError as error:
        message = str(error)
        assert len(message.splitlines()) == 1 and str(path) in message, message
        return "refused"
    whole = rows(batches)
    assert [row for row, *_ in whole] == list(range(len(whole)))
    json.dumps(whole, ensure_ascii=False).encode()  # no unpaired surrogate is left
    notes = {row: note for batch in batches for row, note in batch.notes.items()}
    if format in LINE_FORMATS and "plain" in locals():
        count = count_lines(plain)
        if count is not None:
            expected = max(0, count - (header_lines(plain) if format == "tsv" else 0))
            assert len(whole) == expected, (len(whole), expected)
    start = random_.randrange(len(whole) + 1)
    assert rows(read(start_row=start)) == whole[start:]
    assert rows(read(on_error="skip")) == [row for row in whole if row[0] not in notes]
    try:
        assert rows(read(on_error="stop")) == whole and not notes
    except DataError as error:
        assert notes and notes[min(notes)].place in str(error)
    return "rows"


def main(number: int) -> None:
    """Read that many damaged files, and print how they ended."""
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(number):
            try:
                ends[check_file(seed, Path(folder))] += 1
            except Exception as error:
                print(f"seed {seed}: {type(error).__name__}: {error}")
                ends["failed"] += 1
    print(", ".join(f"{end}: {count:,}" for end, count in ends.most_common()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
