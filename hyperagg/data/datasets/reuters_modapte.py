"""Reuters-21578 with the ModApte split: newswires of 1987 with one or more of 90 topics each.

The topics are those that occur in both train and test; newswires without any of them are dropped. A
text is the title, a line break and the body; the body of a "brief" newswire is a placeholder and is
dropped.
Source: David D. Lewis, "Reuters-21578, Distribution 1.0", whose README defines the split
(https://kdd.ics.uci.edu/databases/reuters21578/).
"""

from __future__ import annotations

import html
import io
import json
import re
import tarfile

from hyperagg.data.dataset import Split
from hyperagg.data.datasets.download import check_digest, download
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.readers.errors import DataError

ADDRESSES = (
    "https://kdd.ics.uci.edu/databases/reuters21578/reuters21578.tar.gz",
    "https://huggingface.co/datasets/ucirvine/reuters21578/resolve/"
    "28838256a1eb63d578641ac9e6c2916006c8b549/data/reuters21578.tar.gz",
)
ARCHIVE_SHA256 = "3bae43c9b14e387f76a61b6d82bf98a4fb5d3ef99ef7e7075ff2ccbcf59f9d30"
# The digest of the rows as `as_bytes` returns them: that of the archive does not cover its parsing.
ROWS_SHA256 = "1987274e1c1962f20b07c866d1c224947a78999e5678d3d6b159a6de2080e995"

WIRE = re.compile(r"<REUTERS (?P<attributes>[^>]*)>(?P<content>.*?)</REUTERS>", re.DOTALL)
ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
TOPIC = re.compile(r"<D>(.*?)</D>")
CONTROL = re.compile(r"&#\d+;")


def fetch() -> tuple[Split, Split]:
    """Download train and test from the archive at UCI.

    Raises:
        DataError: the archive cannot be downloaded, or it or its rows have another digest.
    """
    train, test = parse_archive(download_archive())
    check_digest(as_bytes(train, test), "sha256", ROWS_SHA256, "the text of reuters21578.tar.gz")
    return train, test


def download_archive() -> bytes:
    """Download the archive from the first address that works."""
    failures = []
    for address in ADDRESSES:
        try:
            return download(address, "sha256", ARCHIVE_SHA256)
        except DataError as error:
            failures.append(str(error))
    raise DataError("; ".join(failures))


def parse_archive(archive: bytes) -> tuple[Split, Split]:
    """Parse the SGML files of the archive in the order of their numbers."""
    wires: dict[str, list[tuple[str, list[str]]]] = {"TRAIN": [], "TEST": []}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        for name in sorted(name for name in files.getnames() if name.endswith(".sgm")):
            file = files.extractfile(name)
            assert file is not None
            for wire in WIRE.finditer(file.read().decode("latin-1")):
                attributes = dict(ATTRIBUTE.findall(wire["attributes"]))
                part = attributes["LEWISSPLIT"]
                if attributes["TOPICS"] == "YES" and part in wires:
                    content = wire["content"]
                    topics = TOPIC.findall(element(content, "TOPICS") or "")
                    wires[part].append((text_of(content), topics))
    train, test = ({topic for _, own in wires[part] for topic in own} for part in wires)
    return select(wires["TRAIN"], train & test), select(wires["TEST"], train & test)


def select(wires: list[tuple[str, list[str]]], topics: set[str]) -> Split:
    """Return the newswires that have any of these topics, with only these topics."""
    rows = [(text, [one for one in own if one in topics]) for text, own in wires]
    rows = [(text, own) for text, own in rows if own]
    # One newswire has the same topic twice.
    return Split([text for text, _ in rows], [tuple(dict.fromkeys(own)) for _, own in rows])


def text_of(content: str) -> str:
    """Return title, line break and body; a wire of type "unproc" has neither and is all body."""
    whole = element(content, "TEXT") or ""
    title, body = element(whole, "TITLE"), element(whole, "BODY")
    if title is None and body is None:
        body = whole
    return f"{clean(title or '')}\n{clean(body or '')}"


def element(content: str, name: str) -> str | None:
    """Return the content of the first element with this name; None if there is none."""
    found = re.search(rf"<{name}\b[^>]*>(.*?)</{name}>", content, re.DOTALL)
    return None if found is None else found[1]


def clean(text: str) -> str:
    """Remove control characters and surrounding white space, and unescape entities."""
    return html.unescape(CONTROL.sub("", text)).strip()


def as_bytes(train: Split, test: Split) -> bytes:
    """Return both splits as JSON, for their digest."""
    return json.dumps([[split.texts, split.labels] for split in (train, test)]).encode()


ENTRY = Entry(
    name="reuters-modapte",
    description="Reuters newswires of 1987 with one or more of 90 topics",
    rows=(7_770, 3_019),
    terms="research only; cite Reuters-21578, Distribution 1.0",
    origin="reuters21578.tar.gz at UCI",
    megabytes=8.2,
    fetch=fetch,
)
