"""Files of fastText: its own models are read, and damaged ones are refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperagg
from hyperagg.classifier.interop.fasttext import read_fasttext, read_vectors
from hyperagg.classifier.kernels.tree import check_tree
from tests.classifier.interop.fasttext_files import (
    INPUT,
    LABELS,
    OUTPUT,
    build,
    quantized_matrix,
    small_ftz,
)


@pytest.fixture
def read(tmp_path):
    def read(content):
        file = tmp_path / "model.bin"
        file.write_bytes(content)
        return read_fasttext(file)

    return read


def test_by_hand(read):
    model = read(build())
    assert model.labels == ["no", "yes"]
    assert (model.dim, model.loss) == (2, "softmax")
    assert model.input.dtype == model.output.dtype == np.float32
    assert np.array_equal(model.input, INPUT) and np.array_equal(model.output, OUTPUT)
    assert model.input.flags.writeable and model.output.flags.writeable
    # 32-bit FNV-1a of "a" and "</s>", as signed numbers; "a" is its own character n-gram as well.
    a, end = 0xE40C292C - 2**32, 0xD79C9359 - 2**32
    pair = (a * 116049371 + end) % 2**64 % 3
    ids = model.tokenizer.encode(["a"]).token_ids
    assert ids.tolist() == [0, 3 + (a + 2**32) % 3, 1, 3 + pair]
    assert model.tokenizer.vocabulary[:4] == ["a", "</s>", "\ufffd", "[bucket 0]"]


def test_variants_of_the_format(read):
    assert read(build(loss=4)).loss == "ova"
    # Version 11 had no character n-grams in supervised models, whatever its arguments say.
    old = read(build(version=11))
    assert old.tokenizer.maxn == 0 and len(old.tokenizer.encode(["a"]).token_ids) == 3
    other = read(build(labels=[b"#nein", "#größer".encode()]))
    assert other.labels == ["#nein", "#größer"]
    assert (
        other.tokenizer.encode(["a #nein"]).token_ids[:3].tolist()
        == read(build()).tokenizer.encode(["a"]).token_ids[:3].tolist()
    )
    one = read(build(labels=LABELS[:1], outputs=OUTPUT[:1]))
    assert one.labels == ["no"] and one.output.shape == (1, 2)
    plain = read(build(bucket=0, maxn=0, word_ngrams=1, inputs=INPUT[:3]))
    assert plain.tokenizer.encode(["a"]).token_ids.tolist() == [0, 1]
    assert read(build() + b"what follows").labels == ["no", "yes"]


NAN = np.where(INPUT == 5, np.nan, INPUT)
BAD = {
    "empty": (b"", "not a fastText model"),
    "text": (b"2 3\na 1 2 3\n", "not a fastText model"),
    "older": (build(version=10), "version 10; expected 11 or 12"),
    "newer": (build(version=13), "version 13"),
    "word vectors": (build(model=2), r"word vectors \(skipgram\).*supervised model, or the \.vec"),
    "more word vectors": (build(model=1), "cbow"),
    "pruned, but not quantized": (
        build(kept=[2, 0], inputs=INPUT[:5]),
        "damaged .*pruned, but its input matrix is not quantized",
    ),
    "a bucket that does not exist": (small_ftz(kept=[2, 3]), "damaged .*kept_buckets: .* 0 to 2"),
    "a bucket twice": (small_ftz(kept=[2, 2]), "damaged .*kept_buckets: 2 occurs twice"),
    "rows that are not numbered": (
        small_ftz().replace(struct.pack("<4i", 0, 1, 2, 0), struct.pack("<4i", 0, 1, 2, 1)),
        "damaged .*pruned n-grams are not numbered",
    ),
    "a code too few": (
        small_ftz().replace(struct.pack("<qqi", 5, 2, 5), struct.pack("<qqi", 5, 2, 4)),
        "damaged",
    ),
    "a negative number of codes": (
        small_ftz().replace(struct.pack("<qqi", 5, 2, 5), struct.pack("<qqi", 5, 2, -5)),
        "damaged",
    ),
    "groups that do not match": (
        small_ftz().replace(struct.pack("<4i", 2, 1, 2, 2), struct.pack("<4i", 2, 2, 2, 2)),
        "damaged .*input matrix has 2 groups of 2 columns and 2 in the last, but 2 columns",
    ),
    "a centroid that is not finite": (
        small_ftz(inputs=quantized_matrix(np.where(INPUT[:5] == 5, np.nan, INPUT[:5]))),
        "damaged .*input matrix .* not finite",
    ),
    "norms that overflow": (
        small_ftz(inputs=quantized_matrix(np.full((5, 2), 1e30), norms=np.full(5, 1e30))),
        "damaged .*input matrix .* not finite",
    ),
    "a small file with a large matrix": (
        small_ftz(
            kept=list(range(60_000)),
            bucket=60_000,
            dim=1024,
            inputs=struct.pack("<?qqi", False, 60_003, 1024, 60_003)
            + bytes(60_003)
            + struct.pack("<4i", 1024, 1, 1024, 1024)
            + bytes(4 * 256 * 1024),
        ),
        "the input matrix takes 0.2 GB as float32, more than 128 times the file",
    ),
    "counts that are not counts": (small_ftz(counts=(3, -1)), "damaged .*counts of the labels"),
    "counts beyond those of fastText": (small_ftz(counts=(10**15, 1)), "damaged .*counts"),
    "unknown loss": (build(loss=9), "damaged"),
    "unknown kind of model": (build(model=0), "damaged"),
    "no dimension": (build(dim=0), "damaged"),
    "no labels": (build(labels=[]), "damaged .*3 words and 0 labels"),
    "an unknown flag": (build(flags=b"\2\0"), "damaged .*neither 0 nor 1"),
    "another unknown flag": (build(flags=b"\0\2"), "damaged .*neither 0 nor 1"),
    "a bucket too many": (build(bucket=4), "damaged .*input matrix is 6 x 2.* require 7 x 2"),
    "no bucket": (build(bucket=0), "damaged .*bucket=0"),
    "a negative bucket": (build(bucket=-1), "damaged .*bucket=-1"),
    "another dimension": (build(dim=3), "damaged .*6 x 3"),
    "a word twice": (build(words=[b"a", b"</s>", b"a"]), "damaged .*'a' occurs twice"),
    "a label that is a word": (build(labels=[b"a", b"b"]), "damaged .*'a'"),
    "a label that is not UTF-8": (build(labels=[b"\xff", b"b"]), "damaged .*label 0 is not UTF-8"),
    "a row too few": (
        build(outputs=OUTPUT[:1]),
        "damaged .*output matrix is 1 x 2.* require 2 x 2",
    ),
    "a row with NaN": (build(inputs=NAN), "damaged .*input matrix .* not finite"),
    "an infinite row": (
        build(outputs=np.where(OUTPUT == 1, -np.inf, OUTPUT)),
        "damaged .*output matrix .* not finite",
    ),
    "wrong sizes": (
        build(bucket=2**31 - 9, inputs=INPUT[:0]).replace(
            struct.pack("<qq", 0, 2), struct.pack("<qq", 2**31 - 6, 2)
        ),
        "truncated in the input matrix",
    ),
    "a wrong size of the dictionary": (
        build().replace(struct.pack("<3i", 5, 3, 2), struct.pack("<3i", 2**30 + 2, 2**30, 2)),
        "truncated in the dictionary",
    ),
    "a wrong number of words": (
        build().replace(struct.pack("<3i", 5, 3, 2), struct.pack("<3i", 5, 2, 3)),
        "damaged .*entry 2 of the dictionary",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_other_files_are_refused(read, case):
    content, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        read(content)
    assert "model.bin: " in str(error.value) and "\n" not in str(error.value)


def test_files_that_cannot_be_opened(tmp_path):
    for reader in (read_fasttext, read_vectors):
        with pytest.raises(ValueError, match=r"none\.bin: cannot be read \(No such file"):
            reader(tmp_path / "none.bin")
        with pytest.raises(ValueError, match=f"{tmp_path.name}: cannot be read"):
            reader(str(tmp_path))


@pytest.mark.parametrize("whole", [build(), small_ftz()], ids=["bin", "ftz"])
def test_every_truncation_is_refused(read, whole):
    parts = ["signature", "arguments", "dictionary", "input matrix", "output matrix"]
    seen = set()
    for size in range(4, len(whole)):
        if 300 < size < len(whole) - 40 and size % 41:
            continue  # most of a quantized file are centroids
        with pytest.raises(ValueError, match=r"model\.bin: truncated") as error:
            read(whole[:size])
        seen |= {
            part for part in parts if f"in the {part}, after {size:,} bytes" in str(error.value)
        }
    assert seen == set(parts)


FILES = {
    "bin": build(),
    "ftz": small_ftz(),
    "ftz with norms": small_ftz(
        inputs=quantized_matrix(INPUT[:5], 1, np.ones(5)), outputs=quantized_matrix(OUTPUT),
        flags=b"\1\1", loss=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
@given(st.data())
def test_damage_raises_at_most_a_value_error(tmp_path_factory, kind, data):
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 2))):
        # Most of a quantized file are centroids, so half of the damage goes to the first bytes.
        last = data.draw(st.sampled_from([len(build()), len(content)])) - 1
        position = data.draw(st.integers(0, last))
        content[position] ^= data.draw(st.integers(1, 255))
    file = tmp_path_factory.mktemp("damaged") / "model.bin"
    file.write_bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])
    try:
        model = read_fasttext(file)
    except ValueError as error:
        assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
        return
    ids = model.tokenizer.encode(["a", "", "word a </s> __label__no"]).token_ids
    assert model.input.shape == (len(model.tokenizer), model.dim)
    assert model.output.shape == (len(model.labels), model.dim)
    assert len(ids) == 0 or 0 <= ids.min() <= ids.max() < len(model.input)
    assert np.isfinite(model.input).all() and np.isfinite(model.output).all()
    assert (model.tree is not None) == (model.loss == "hs" and len(model.labels) > 1)
    if model.tree is not None:
        check_tree(model.tree)


@pytest.mark.parametrize("norms", [None, np.array([1, 0.5, 2, 1, 3])])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_quantized_matrices_by_hand(read, width, norms):
    rng = np.random.default_rng(0)
    inputs, outputs = rng.normal(size=(5, 5)), rng.normal(size=(2, 5))
    model = read(
        small_ftz(
            dim=5, flags=b"\1\1", inputs=quantized_matrix(inputs, width, norms),
            outputs=quantized_matrix(outputs, 2),
        )
    )  # fmt: skip
    scales = 1 if norms is None else norms[:, None]
    assert model.input.dtype == model.output.dtype == np.float32
    assert np.allclose(model.input, inputs * scales, rtol=1e-6)
    assert np.allclose(model.output, outputs, rtol=1e-6)
    assert model.tree.tolist() == [[1, 0]]


def test_ngrams_of_a_pruned_model_by_hand(read):
    # Without pruning the rows of "a" are the word, the n-gram "a", "</s>" and the pair of words.
    word, ngram, end, pair = read(build()).tokenizer.encode(["a"]).token_ids.tolist()
    for kept in ([2, 0], [1], [], [0, 2, 1]):
        rows = [3 + kept.index(id - 3) if id - 3 in kept else None for id in (ngram, pair)]
        inputs = quantized_matrix(INPUT[: 3 + len(kept)])
        tokenizer = read(small_ftz(kept=kept, inputs=inputs)).tokenizer
        ids = tokenizer.encode(["a"]).token_ids.tolist()
        assert ids == [id for id in (word, rows[0], end, rows[1]) if id is not None]
        assert len(tokenizer) == len(tokenizer.vocabulary) == 3 + len(kept)
        assert tokenizer.vocabulary[3:] == [f"[bucket {bucket}]" for bucket in kept]
        assert len(tokenizer.align("a").owners) == len(ids)


def test_vectors_by_hand(tmp_path):
    file = tmp_path / "words.vec"
    rows = "the 0.1 -2e-3 3 \n\u00a0 1 2 3\n. . . 4 5 6\r\n\nthe 7 8 9"
    for header in ("", "4 3\n"):
        file.write_text(header + rows, encoding="utf-8", newline="")
        words, vectors = read_vectors(str(file))
        assert words == ["the", "\u00a0", ". . .", "the"]
        assert vectors.dtype == np.float32 and vectors.flags.writeable
        expected = np.array([[0.1, -2e-3, 3], [1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)
        assert np.array_equal(vectors, expected)


BAD_TABLES = {
    "nothing": (b"", ": no vectors"),
    "a header alone": (b"0 3\n", ": no vectors"),
    "cut short": (b"3 2\na 1 2\nb 3 4\n", "announces 3 words, but the file has 2"),
    "a number too few": (
        b"a 1 2\nb 1\n",
        r", line 2: 'b' with 1 fields after it; expected a word and 2",
    ),
    "a number too many": (b"a 1 2\nb 1 2 3\n", ", line 2: 'b' with 3 fields after"),
    "another dimension": (b"1 3\na 1 2\n", ", line 2: 'a' with 2 fields after it; .* 3 numbers"),
    "a word for a number": (b"2 2\na 1 2\nb 1 x\n", r", line 3: 'x' is not a number"),
    "a sentence": (b"no table\n", ", line 1: 'table' is not a number"),
    "tabs": (b"a\t1\t2\n", ", line 1: .* with 0 fields after it; .* separated by spaces"),
    "no word": (b"a 1 2\n 1 2\n", ", line 2: '' with 2 fields after"),
    "no number": (b"a 1 nan\n", ", line 1: a number is not finite"),
    "too large a number": (b"a 1 2\n\nb 1 -1e39\n", ", line 3: a number is not finite"),
    "no dimension": (b"1 0\na\n", ", line 2: 'a' with 0 fields after"),
    "a model": (build(), ": a fastText model; expected the .vec"),
    "no text": (b"\x1f\x8b\x08\0\xff\xfe", ", line 1: "),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_other_tables_are_refused(tmp_path, case):
    content, message = BAD_TABLES[case]
    file = tmp_path / "words.vec"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_vectors(file)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


@given(st.binary(max_size=40) | st.text("a1 .-e\n\r", max_size=30).map(str.encode))
def test_any_table_is_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("tables") / "words.vec"
    file.write_bytes(content)
    try:
        words, vectors = read_vectors(file)
    except ValueError as error:
        assert str(error).startswith(str(file)) and "\n" not in str(error)
        return
    assert len(words) == len(vectors) > 0 and np.isfinite(vectors).all()


@pytest.fixture(scope="module")
def fasttext():
    return pytest.importorskip("fasttext", reason="pip install 'hyperagg[baselines]'")


@pytest.fixture(scope="module")
def r8():
    return hyperagg.load_dataset("r8")


def train(fasttext, rows, folder, prefix="__label__", **arguments):
    """Train fastText on labeled rows and save the model as model.bin."""
    lines = [f"{prefix}{label} {' '.join(text.split())}\n" for text, label in rows]
    # fastText learns badly from rows sorted by class.
    lines = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))]
    (folder / "rows.txt").write_text("".join(lines), encoding="utf-8")
    arguments = dict(dim=10, lr=0.5, seed=0, thread=1, verbose=0) | arguments
    model = fasttext.train_supervised(str(folder / "rows.txt"), label=prefix, **arguments)
    model.save_model(str(folder / "model.bin"))
    return model


def predict_proba(model, texts, labels, prefix="__label__"):
    """(B, C) the probabilities by fastText, text by text: with NumPy 2 its arrays for many texts
    repeat the first number."""
    columns = {prefix + label: c for c, label in enumerate(labels)}
    out = np.full((len(texts), len(labels)), np.nan)
    for row, text in zip(out, texts):
        for value, name in model.f.predict(text + "\n", -1, 0.0, "strict"):
            row[columns[name]] = value
    return out


def logits(model, texts):
    rows = model.tokenizer.encode(texts)
    sums = np.add.reduceat(model.input[rows.token_ids], rows.cu_seqlens[:-1], axis=0)
    return sums / rows.lengths[:, None] @ model.output.T


def test_the_probabilities_are_those_of_fasttext(fasttext, r8, tmp_path):
    rows = list(zip(r8.train.texts, r8.train.labels))
    ngrams = dict(wordNgrams=2, minn=2, maxn=4, bucket=20_000, lr=1.0)
    reference = train(fasttext, rows, tmp_path, epoch=10, **ngrams)
    model = read_fasttext(tmp_path / "model.bin")
    assert sorted(model.labels) == sorted(set(r8.train.labels))
    assert np.array_equal(model.input, np.array(reference.f.getInputMatrix()))
    texts = [" ".join(text.split()) for text in r8.test.texts]
    expected = predict_proba(reference, texts, model.labels)
    found = logits(model, texts)
    found = np.exp(found - found.max(1, keepdims=True))
    found /= found.sum(1, keepdims=True)
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    # fastText adds 1e-5 to a probability before it takes the logarithm, and returns that.
    assert np.abs(found + 1e-5 - expected).max() < 1e-5
    accuracy = np.mean([model.labels[c] == y for c, y in zip(found.argmax(1), r8.test.labels)])
    assert accuracy > 0.9


def test_other_settings_have_the_probabilities_of_fasttext(fasttext, r8, tmp_path):
    rows = list(zip(r8.train.texts, r8.train.labels))[::10]
    texts = [" ".join(text.split()) for text in r8.test.texts[::10]]
    reference = train(fasttext, rows, tmp_path, prefix="#", epoch=5, loss="ova", minCount=3)
    model = read_fasttext(tmp_path / "model.bin")
    assert model.loss == "ova" and all(label.startswith("#") for label in model.labels)
    assert len(model.tokenizer) == len(model.tokenizer.words)
    # fastText reads the sigmoid from a table with steps of 1/32.
    expected = predict_proba(reference, texts, model.labels, prefix="")
    found = 1 / (1 + np.exp(-logits(model, texts)))
    assert np.abs(found - expected).max() < 0.01


def shortened(text, size=60):
    return " ".join(text.split()[:size])


def expected_labels(model, texts):
    found = [model.f.predict(text + "\n", 1, 0.0, "strict")[0][1] for text in texts]
    return [label.removeprefix("__label__") for label in found]


# The loss, the arguments of quantize if any, and whether there are as many labels as a quantized
# output matrix needs.
MODELS = {
    "hs": ("hs", None, False),
    "ns": ("ns", None, False),
    "ova": ("ova", None, False),
    "quantized": ("softmax", {}, False),
    "quantized with norms": ("ns", {"qnorm": True}, False),
    "pruned": ("hs", {"cutoff": 2000, "qnorm": True, "retrain": True, "epoch": 1}, False),
    "pruned to words": ("ova", {"cutoff": 300, "dsub": 3}, False),
    "quantized output": ("hs", {"cutoff": 3000, "qout": True, "qnorm": True}, True),
}


@pytest.mark.parametrize("kind", MODELS)
def test_converted_models_answer_as_fasttext(fasttext, r8, tmp_path, kind):
    loss, quantization, many_labels = MODELS[kind]
    rows = [(shortened(text), y) for text, y in zip(r8.train.texts, r8.train.labels)][::3]
    if many_labels:
        rows = [(text, f"{text[:9].split()[0].strip('.,')}-{i % 200}")
                for i, (text, _) in enumerate(rows)]  # fmt: skip
    ngrams = dict(wordNgrams=2, minn=2, maxn=3, bucket=3_000)
    ngrams = {} if kind == "pruned to words" else ngrams
    theirs = train(fasttext, rows, tmp_path, epoch=4, loss=loss, **ngrams)
    file = tmp_path / "model.bin"
    if quantization is not None:
        file = tmp_path / "model.ftz"
        theirs.quantize(input=str(tmp_path / "rows.txt"), thread=1, **quantization)
        theirs.save_model(str(file))
    ours = hyperagg.TextClassifier.from_fasttext(file)
    assert ours.multi_label_ == (loss == "ova")
    texts = [shortened(text) for text in r8.test.texts[::4]] + ["", "zzz", "__label__x"]
    found = ours.predict_proba(texts)
    [best] = zip(*ours.predict(texts, top_k=1))
    assert [label for label, _ in best] == expected_labels(theirs, texts)
    expected = predict_proba(theirs, texts, ours.classes_)
    # fastText omits labels of hierarchical softmax with a probability below 1e-5.
    known = ~np.isnan(expected)
    assert known.any(1).all() and (loss == "hs" or known.all())
    if loss == "hs":
        assert np.abs(np.exp(ours.logits(texts)) - expected)[known].max() < 1e-5
        assert np.abs(found - expected)[known].max() < 1e-3
    else:
        # A logit may be on the other side of a step of fastText's sigmoid; few are.
        differences = np.abs(found + 1e-5 - expected)
        assert differences.max() < 0.01 and (differences > 2e-5).mean() < 1e-3


def test_word_vectors_are_refused(fasttext, r8, tmp_path):
    rows = list(zip(r8.train.texts, r8.train.labels))[:300]
    train(fasttext, rows, tmp_path, epoch=1)
    arguments = dict(dim=5, epoch=1, minn=0, maxn=0, thread=1, verbose=0)
    model = fasttext.train_unsupervised(str(tmp_path / "rows.txt"), **arguments)
    model.save_model(str(tmp_path / "vectors.bin"))
    with pytest.raises(ValueError, match="word vectors"):
        read_fasttext(tmp_path / "vectors.bin")
