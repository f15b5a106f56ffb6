"""The ModApte split: the shared rows, and the rows of an archive that the test writes."""

from __future__ import annotations

import hashlib
import html
import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from hyperagg.data import Dataset, Split, load_dataset
from hyperagg.data.datasets import reuters_modapte
from hyperagg.data.readers.errors import DataError

TRAIN = Split(
    ["OIL & GAS\nOil <rose>.\n  Reuter", "BRIEF ON GRAIN\n", "\nNo title, no body"],
    [("crude", "gas"), ("grain", "wheat"), ("gas",)],
)
TEST = Split(
    ["A\ngrain, f\u00fcr gas", "B\nwheat, oil", "C\n"],
    [("grain", "gas"), ("wheat", "crude"), ("gas",)],
)


def wire(
    title: str, body: str, topics: list[str], part: str = "TRAIN", used: str = "YES", kind: str = ""
) -> str:
    """One wire in the SGML of Reuters-21578."""
    listed = "".join(f"<D>{topic}</D>" for topic in topics)
    content = f"&#2;\n<TITLE>{title}</TITLE>\n<DATELINE>    NEW YORK - </DATELINE><BODY>{body}"
    content += "\n&#3;</BODY>"
    if kind == "BRIEF":
        content = f"&#2;\n******<TITLE>{title}\n</TITLE>Blah blah blah.\n&#3;\n\n"
    if kind == "UNPROC":
        content = f"&#2;\n    {body}\n&#3;\n"
    kind = f' TYPE="{kind}"' if kind else ""
    return (
        f'<REUTERS TOPICS="{used}" LEWISSPLIT="{part}" CGISPLIT="TRAINING-SET" OLDID="1" NEWID="2">'
        f"\n<DATE>26-FEB-1987 15:01:01.79</DATE>\n<TOPICS>{listed}</TOPICS>\n"
        f"<PLACES><D>usa</D></PLACES>\n<UNKNOWN> \n&#5;&#5;C T</UNKNOWN>\n"
        f"<TEXT{kind}>{content}</TEXT>\n</REUTERS>\n"
    )


def archive(*files: str) -> bytes:
    """A .tar.gz with these files and one that is none of them; the last file comes first."""
    held = {f"reut2-{i:03}.sgm": f"<!DOCTYPE lewis>\n{file}" for i, file in enumerate(files)}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz", compresslevel=1) as tar:
        for name, content in reversed([("README.txt", wire("x", "y", ["crude"])), *held.items()]):
            member = tarfile.TarInfo(name)
            data = content.encode("latin-1")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def test_newswires_are_parsed_from_the_archive() -> None:
    found = reuters_modapte.parse_archive(
        archive(
            # A topic that only one split has is dropped, and a repeated topic counts once.
            wire("OIL &amp; GAS ", "Oil &lt;rose>.\n  Reuter", ["crude", "jobs", "gas", "crude"])
            + wire("ONLY JOBS", "out", ["jobs"])
            + wire("NO TOPIC", "out", [])
            + wire("NO JUDGED TOPICS", "out", ["crude"], used="NO")
            + wire("NOT IN THE SPLIT", "out", ["lead"], part="NOT-USED"),
            wire("BRIEF ON GRAIN", "", ["grain", "wheat"], kind="BRIEF")
            + wire("", "No title, no body", ["gas"], kind="UNPROC")
            + wire("A", "grain, f\u00fcr&#127; gas", ["grain", "gas"], part="TEST"),
            wire("B", "wheat, oil", ["wheat", "lead", "crude"], part="TEST")
            + wire("C", "", ["gas"], part="TEST"),
        )
    )
    assert found == (TRAIN, TEST)


def test_the_second_address_is_used_if_the_first_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []

    def fetch(url: str, algorithm: str, digest: str) -> bytes:
        assert len(digest) == 2 * hashlib.new(algorithm).digest_size
        requested.append(url)
        if len(requested) == 1:
            raise DataError("no route")
        return archive(wire("A", "b", ["gas"]), wire("C", "d", ["gas"], part="TEST"))

    monkeypatch.setattr(reuters_modapte, "download", fetch)
    # Rows that differ from those of the split are refused even if the archive is complete.
    with pytest.raises(DataError, match=r"text of reuters21578\.tar\.gz: the sha256 digest"):
        reuters_modapte.fetch()
    assert tuple(requested) == reuters_modapte.ADDRESSES


def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, algorithm: str, digest: str) -> bytes:
        raise DataError(f"{url}: cannot be downloaded (no route\nto it)")

    monkeypatch.setattr(reuters_modapte, "download", fetch)
    monkeypatch.setenv("HYPERAGG_CACHE", str(tmp_path))
    monkeypatch.delenv("HYPERAGG_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        load_dataset("reuters-modapte")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in ("kdd.ics.uci.edu", "huggingface.co", "Set HYPERAGG_DATA", "reuters-modapte/train"):
        assert part in message


@pytest.fixture(scope="module")
def shared() -> Dataset:
    folder = os.environ.get("HYPERAGG_DATA")
    if not folder or not (Path(folder) / "reuters-modapte").is_dir():
        pytest.skip("HYPERAGG_DATA is not set or has no reuters-modapte")
    return load_dataset("reuters-modapte")


def test_shared_rows(shared: Dataset) -> None:
    assert shared.source.startswith("HYPERAGG_DATA=") and "official" not in shared.source
    assert shared.terms == "research only; cite Reuters-21578, Distribution 1.0"
    assert (len(shared.train), len(shared.test)) == reuters_modapte.ENTRY.rows == (7_770, 3_019)
    assert shared.train.multi_label and shared.test.multi_label
    topics = {topic for labels in shared.train.labels for topic in labels}
    assert len(topics) == 90
    assert topics == {topic for labels in shared.test.labels for topic in labels}
    counts = Counter(map(len, shared.train.labels))
    assert (counts[0], counts[1], counts[2], max(counts)) == (0, 6_578, 865, 15)
    assert shared.train.labels[0] == ("cocoa",)
    assert ("grain", "wheat", "corn", "barley", "oat", "sorghum") in shared.train.labels


def test_shared_rows_survive_the_archive(shared: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """All wires written as SGML and read again, up to the digest that the source is held to."""

    def written(split: Split, part: str) -> list[str]:
        wires = []
        for text, topics in zip(split.texts, split.labels):
            title, _, body = html.escape(text, quote=False).partition("\n")
            kind = "" if title else "UNPROC"
            # A brief newswire has no body, and its title can have two lines.
            if text.endswith("\n"):
                title, body, kind = f"{title}\n{body}", "", "BRIEF"
            wires.append(wire(title, body, list(topics), part, kind=kind))
        return ["".join(wires[i : i + 1000]) for i in range(0, len(wires), 1000)]

    content = archive(*written(shared.train, "TRAIN"), *written(shared.test, "TEST"))
    monkeypatch.setattr(reuters_modapte, "download", lambda url, algorithm, digest: content)
    assert reuters_modapte.fetch() == (shared.train, shared.test)
