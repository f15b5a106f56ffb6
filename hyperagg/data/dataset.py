"""What a loader returns: splits of texts and their labels."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Split:
    """Texts and their labels, in the order of the file that they came from.

    Args:
        texts: one string a document.
        labels: one string a document; as long as `texts`.

    Raises:
        ValueError: the two differ in length.
    """

    texts: list[str] = field(repr=False)
    labels: list[str] = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(
                f"a split needs one label a text; got {len(self.texts):,} texts and "
                f"{len(self.labels):,} labels"
            )

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    Args:
        name: the name it is loaded by.
        train: what to learn from.
        test: what to measure on, never to choose by.
        source: one line for people, saying where these very rows came from.
        validation: what to choose by, where the data set has such a split.
        terms: the terms of use as its source states them.
    """

    name: str
    train: Split
    test: Split
    source: str
    validation: Split | None = None
    terms: str = ""
