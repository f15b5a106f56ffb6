"""Files as fastText writes them, made by hand."""

from __future__ import annotations

import struct

import numpy as np

# In file order.
ARGUMENTS = dict(
    **dict(dim=2, ws=5, epoch=5, min_count=1, neg=5, word_ngrams=2, loss=3, model=3),
    **dict(bucket=3, minn=1, maxn=1, update_rate=100),
)
WORDS, LABELS = [b"a", b"</s>", b"\xff"], [b"__label__no", b"__label__yes"]
INPUT = np.arange(12, dtype=np.float32).reshape(6, 2)
OUTPUT = np.array([[1, 0], [0, -1]], np.float32)


def matrix(values):
    return struct.pack("<qq", *values.shape) + values.astype("<f4").tobytes()


def quantized_matrix(values, width=2, norms=None):
    """A product-quantized matrix of at most 256 rows, whose centroids are the rows themselves."""
    rows, dim = values.shape
    groups = [values[:, i : i + width] for i in range(0, dim, width)]
    codes = np.arange(rows, dtype=np.uint8)[:, None].repeat(len(groups), 1)
    centroids = [np.concatenate([g, np.zeros((256 - rows, g.shape[1]))]) for g in groups]
    parts = [
        struct.pack("<?qqi", norms is not None, rows, dim, codes.size) + codes.tobytes(),
        struct.pack("<4i", dim, len(groups), width, groups[-1].shape[1]),
        *(c.astype("<f4").tobytes() for c in centroids),
    ]
    if norms is not None:
        parts += [np.arange(rows, dtype=np.uint8).tobytes(), struct.pack("<4i", 1, 1, 1, 1)]
        parts += [np.concatenate([norms, np.zeros(256 - rows)]).astype("<f4").tobytes()]
    return b"".join(parts)


def build(
    version=12,
    words=WORDS,
    labels=LABELS,
    kept=None,
    inputs=INPUT,
    outputs=OUTPUT,
    flags=b"\0\0",
    counts=(3, 3),
    **arguments,
):
    """The bytes of a .bin or .ftz, as fastText 0.9.2 writes them; matrices may be bytes."""
    entries = b"".join(word + b"\0" + struct.pack("<qb", 7, 0) for word in words)
    for label, count in zip(labels, counts):
        entries += label + b"\0" + struct.pack("<qb", count, 1)
    sizes = len(words) + len(labels), len(words), len(labels)
    pairs = [(bucket, row) for row, bucket in enumerate(kept or [])]
    inputs, outputs = (m if isinstance(m, bytes) else matrix(m) for m in (inputs, outputs))
    return b"".join(
        [
            struct.pack("<ii", 793712314, version),
            struct.pack("<12id", *{**ARGUMENTS, **arguments}.values(), 1e-4),
            struct.pack("<3iqq", *sizes, 99, -1 if kept is None else len(kept)) + entries,
            *(struct.pack("<2i", *pair) for pair in reversed(pairs)),  # fastText has any order
            flags[:1] + inputs,
            flags[1:] + outputs,
        ]
    )


def small_ftz(**arguments):
    """A quantized and pruned model with hierarchical softmax: two of its three buckets."""
    return build(
        **{
            "kept": [2, 0],
            "inputs": quantized_matrix(INPUT[:5]),
            "flags": b"\1\0",
            "loss": 1,
            **arguments,
        }
    )


LOSSES = {"hs": 1, "ns": 2, "softmax": 3, "ova": 4}


def write_model(file, loss, counts=(5, 3, 1)):
    """Write a quantized and pruned model of three labels with random vectors."""
    rng = np.random.default_rng(1)
    words, kept = [b"a", b"</s>", b"b", b"c"], [4, 0, 7]
    content = build(
        **dict(words=words, labels=[b"__label__x", b"__label__y", b"__label__z"], counts=counts),
        **dict(kept=kept, inputs=quantized_matrix(rng.normal(0, 2, (7, 3))), flags=b"\1\0"),
        **dict(outputs=rng.normal(0, 2, (3, 3)), loss=LOSSES[loss], dim=3, bucket=9),
    )
    file.write_bytes(content)
    return file
