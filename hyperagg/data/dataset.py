"""The data set that a loader returns: splits of texts and their labels."""

from __future__ import annotations

from dataclasses import dataclass, field

Labels = list[str] | list[tuple[str, ...]]


@dataclass(frozen=True)
class Split:
    """Hold texts and their labels in the order of their source.

    Args:
        texts: one string per document.
        labels: one string per document, or for a multi-label split one tuple per document of any
            number of distinct strings, including none.

    Raises:
        ValueError: the lengths differ, some labels are strings and others tuples, or a document has
            a label twice.

    Example:
        >>> Split(["a fine film", "a dull film"], [("good",), ()]).multi_label
        True
    """

    texts: list[str] = field(repr=False)
    labels: Labels = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(
                f"labels: expected one per text, got {len(self.labels):,} labels for "
                f"{len(self.texts):,} texts"
            )
        kind: type = tuple if self.multi_label else str
        for index, label in enumerate(self.labels):
            if not isinstance(label, kind):
                raise ValueError(
                    "labels: expected either a string or a tuple for every text; "
                    f"labels[{index}] is a {type(label).__name__} and labels[0] is a "
                    f"{type(self.labels[0]).__name__}"
                )
            if kind is tuple and len(set(label)) < len(label):
                raise ValueError(f"labels[{index}]={label!r}: expected distinct labels")

    @property
    def multi_label(self) -> bool:
        """Whether a document can have any number of labels; False for a split without documents."""
        return bool(self.labels) and not isinstance(self.labels[0], str)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Dataset:
    """Hold the splits of a data set.

    Args:
        name: the name by which it is loaded.
        train: the split to train on.
        test: the split to evaluate on, not to be used for choosing a model.
        source: one line that says where these rows came from.
        validation: the split for choosing a model; None if the data set does not have one.
        terms: the terms of use as stated by the source.
    """

    name: str
    train: Split
    test: Split
    source: str
    validation: Split | None = None
    terms: str = ""
