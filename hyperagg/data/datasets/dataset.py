"""What a loader returns: splits of texts and their labels."""

from __future__ import annotations

from dataclasses import dataclass, field

Labels = list[str] | list[tuple[str, ...]]


@dataclass(frozen=True)
class Split:
    """Texts and their labels, in the order of the file that they came from.

    Args:
        texts: one string a document.
        labels: as many; one string a document, or where `multi_label` a tuple of any number of
            different strings, none included.

    Raises:
        ValueError: the two differ in length, labels are of both kinds, or a document has a label
            twice.
    """

    texts: list[str] = field(repr=False)
    labels: Labels = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(
                f"a split needs one label a text; got {len(self.texts):,} texts and "
                f"{len(self.labels):,} labels"
            )
        kind: type = tuple if self.multi_label else str
        for index, label in enumerate(self.labels):
            if not isinstance(label, kind):
                raise ValueError(
                    f"a split needs a string for each text or a tuple for each; labels[{index}] is "
                    f"a {type(label).__name__} and labels[0] a {type(self.labels[0]).__name__}"
                )
            if kind is tuple and len(set(label)) < len(label):
                raise ValueError(f"labels[{index}] has a label twice: {label!r}")

    @property
    def multi_label(self) -> bool:
        """Whether a document may have any number of labels; False for a split without documents."""
        return bool(self.labels) and not isinstance(self.labels[0], str)

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
