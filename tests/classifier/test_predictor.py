"""A loaded predictor gives the bits of the classifier that was saved."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_all_start_methods, get_context

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

import hyperagg
from hyperagg._numba.threads import max_threads
from hyperagg.classifier.predictor import load_predictor

TEXTS = ["up up high", "down low", "up high", "low down low", "UP, ΣΑΣ!", ""]


def trained(multi_label=False, **config):
    labels = [("u", "x") if multi_label else "u", ("d",) if multi_label else "d"] * 2
    clf = hyperagg.TextClassifier(d_model=8, epochs=3, **config)
    return clf.fit(TEXTS[:4] * 5, labels * 5)


CASES = {
    "one label": lambda: trained(),
    "multi-label": lambda: trained(multi_label=True),
    "int8": lambda: trained().quantize(max_tokens=5),
    "mean": lambda: trained(pooling="mean"),
    "truncated": lambda: trained(max_tokens=2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_saved_classifier_predicts_the_same_bits(case, tmp_path):
    clf = CASES[case]()
    clf.save_pretrained(tmp_path)
    predictor = load_predictor(tmp_path)
    np.testing.assert_array_equal(predictor.logits(TEXTS), clf.logits(TEXTS))
    np.testing.assert_array_equal(predictor.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert predictor.predict(TEXTS) == clf.predict(TEXTS)
    assert predictor.classes_ == clf.classes_


@pytest.mark.parametrize("case", CASES)
def test_a_text_does_not_depend_on_its_batch(case):
    predictor = CASES[case]().predictor
    together = predictor.logits(TEXTS)
    alone = [predictor.logits([text])[0] for text in TEXTS]
    np.testing.assert_array_equal(alone, together)


def test_predicting_imports_no_heavy_library(tmp_path):
    trained().save_pretrained(tmp_path)
    code = """
import sys
from hyperagg.classifier import load_predictor
print(load_predictor(sys.argv[1]).predict("up high"))
heavy = "torch", "sklearn", "pyarrow", "rich", "hyperagg.classifier.training.loop"
print([name for name in heavy if name in sys.modules])
"""
    call = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.stdout == "u\n[]\n", done.stderr


def test_predictions_follow_changes_of_the_parameters():
    clf = trained()
    before = clf.logits(TEXTS)
    clf.model_.bias += 1
    np.testing.assert_allclose(clf.logits(TEXTS), before + 1, rtol=1e-6, atol=1e-6)


def test_a_pickle_does_not_grow_by_predicting():
    clf = trained()
    fresh = len(pickle.dumps(clf))
    want = clf.logits(TEXTS)
    assert len(pickle.dumps(clf)) == fresh
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).logits(TEXTS), want)


def test_any_number_of_threads():
    clf = trained()
    texts = [" ".join(TEXTS[:4][: i % 5]) for i in range(400)]
    want = clf.logits(texts)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda text: clf.logits([text])[0], texts))
    np.testing.assert_array_equal(got, want)


def saved(tmp_path, **config):
    trained(**config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("case", [case for case in CASES if case != "int8"])
def test_a_mapped_model_predicts_the_same_bits(case, tmp_path):
    clf = CASES[case]()
    clf.save_pretrained(tmp_path)
    predictor = load_predictor(tmp_path, mmap=True)
    np.testing.assert_array_equal(predictor.logits(TEXTS), clf.logits(TEXTS))
    assert [predictor.predict(text) for text in TEXTS] == clf.predict(TEXTS)
    if predictor.max_tokens is None:
        assert predictor.stream().append(TEXTS[0]).predict() == clf.predict(TEXTS[0])


def test_mapped_parameters_are_read_only_and_need_no_kernels_of_their_own(tmp_path):
    predictor = load_predictor(saved(tmp_path), mmap=True)
    for array in predictor.model.arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    types = [(a.flags.writeable, a.flags.aligned) for a in predictor.model.kernel_arguments[:4]]
    assert types == [(True, True)] * 4


def test_a_folder_of_the_library_can_be_mapped(tmp_path):
    """Models that were saved before tensors were aligned to 64 bytes."""
    folder = saved(tmp_path)
    want = load_predictor(folder).logits(TEXTS)
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    np.testing.assert_array_equal(load_predictor(folder, mmap=True).logits(TEXTS), want)
    np.testing.assert_array_equal(load_predictor(folder).logits(TEXTS), want)


def test_a_quantized_model_cannot_be_mapped(tmp_path):
    trained().quantize().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"^mmap=True: the embedding of .* quantized"):
        load_predictor(tmp_path, mmap=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mapped_model_with_values_that_are_not_finite_is_refused(tmp_path, value):
    folder = saved(tmp_path)
    arrays = load_file(folder / "model.safetensors")
    arrays["embedding"][-1, -1] = value
    save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match="embedding holds values that are not finite"):
        load_predictor(folder, mmap=True)


def test_saving_over_a_mapped_model_does_not_change_the_predictor(tmp_path):
    folder = saved(tmp_path)
    predictor = load_predictor(folder, mmap=True)
    want = predictor.logits(TEXTS)
    trained(pooling="mean").save_pretrained(folder)
    np.testing.assert_array_equal(predictor.logits(TEXTS), want)
    assert not np.array_equal(load_predictor(folder, mmap=True).logits(TEXTS), want)


@pytest.mark.parametrize("mmap", [False, True])
def test_a_loaded_predictor_is_pickled_as_its_path(tmp_path, monkeypatch, mmap):
    saved(tmp_path)
    monkeypatch.chdir(tmp_path)
    predictor = load_predictor("model", mmap=mmap, threads=3)
    content = pickle.dumps(predictor)
    assert len(content) < 1000 + len(str(tmp_path))
    monkeypatch.chdir("/")
    again = pickle.loads(content)
    assert again.threads == 3 and again.model.embedding.flags.writeable != mmap
    np.testing.assert_array_equal(again.logits(TEXTS), predictor.logits(TEXTS))
    assert pickle.dumps(again) == content


def test_a_pickled_predictor_notices_that_its_model_was_replaced(tmp_path):
    folder = saved(tmp_path)
    content = pickle.dumps(load_predictor(folder))
    load_predictor(folder)  # loading changes nothing
    pickle.loads(content)
    hyperagg.TextClassifier(d_model=8, epochs=3).fit(
        TEXTS[:4] * 5, ["u", "d"] * 10, seed=1
    ).save_pretrained(folder)
    with pytest.raises(ValueError, match="holds another model than when the predictor was"):
        pickle.loads(content)


def swap_two_words(folder):
    file = folder / "tokenizer.json"
    text = file.read_text("utf-8")
    for old, new in ('"up"', '"?"'), ('"down"', '"up"'), ('"?"', '"down"'):
        text = text.replace(old, new)
    file.write_text(text, "utf-8")
    parameters = folder / "model.safetensors"  # which says what vocabulary it belongs to
    save_file(load_file(parameters), parameters)


def change_a_parameter(name):
    def change(folder):
        arrays = load_file(folder / "model.safetensors")
        arrays[name][..., -1] += 1
        save_file(arrays, folder / "model.safetensors")

    return change


CHANGES = {
    "vocabulary": swap_two_words,
    **{name: change_a_parameter(name) for name in ("embedding", "positions", "weight", "bias")},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_pickled_predictor_notices_a_change_of_any_part(tmp_path, change):
    folder = saved(tmp_path)
    predictor = load_predictor(folder)
    content = pickle.dumps(predictor)
    change(folder)
    assert load_predictor(folder).fingerprint != predictor.fingerprint
    with pytest.raises(ValueError, match="holds another model than when the predictor was"):
        pickle.loads(content)


def test_a_copy_of_a_folder_has_the_same_fingerprint_whether_mapped_or_not(tmp_path):
    folder = saved(tmp_path)
    shutil.copytree(folder, tmp_path / "copy")
    fingerprint = load_predictor(folder).fingerprint
    assert fingerprint == load_predictor(tmp_path / "copy", mmap=True).fingerprint
    assert trained().predictor.fingerprint is None


def threads_of(predictor):
    """The number of threads that a call may use."""
    seen = []

    class Recorder(type(predictor.tokenizer)):
        def encode(self, texts):
            seen.append(max_threads())
            return super().encode(texts)

    predictor.tokenizer.__class__ = Recorder
    predictor.logits(TEXTS)
    return seen[0]


def test_a_worker_uses_one_thread_unless_it_is_given_more(tmp_path):
    folder = saved(tmp_path)
    assert threads_of(load_predictor(folder)) == max_threads()
    assert threads_of(load_predictor(folder, threads=5)) == 5
    assert threads_of(pickle.loads(pickle.dumps(load_predictor(folder)))) == 1
    assert threads_of(pickle.loads(pickle.dumps(load_predictor(folder, threads=5)))) == 5
    forked = load_predictor(folder)
    forked._process = -1  # as if this process were another
    assert threads_of(forked) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # no thread holds a lock here
@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & set(get_all_start_methods())))
def test_a_mapped_predictor_works_in_a_pool_of_processes(tmp_path, method):
    predictor = load_predictor(saved(tmp_path), mmap=True)
    want = predictor.predict_proba(TEXTS)
    with get_context(method).Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(predictor.predict_proba, [TEXTS]), want)


def columns(texts):
    pl = pytest.importorskip("polars")
    yield np.array(texts)
    yield np.array(texts, dtype=object)
    yield pa.array(texts)
    yield pa.chunked_array([texts[:2], texts[2:]])
    yield pa.array(texts, pa.large_string())
    yield pa.array(texts, pa.string_view())
    yield pa.array(texts).dictionary_encode()
    yield pd.Series(texts, index=range(5, 5 + len(texts)))
    yield pd.Series(texts, dtype=object)
    yield pl.Series(texts)


def test_columns_of_all_libraries_are_texts():
    predictor = trained().predictor
    want = predictor.logits(TEXTS)
    for column in columns(TEXTS):
        np.testing.assert_array_equal(predictor.logits(column), want, err_msg=str(type(column)))


def test_tables_are_refused():
    pl = pytest.importorskip("polars")
    data = {"text": TEXTS}
    tables = (
        pa.table(data),
        pa.RecordBatch.from_pydict(data),
        pd.DataFrame(data),
        pl.DataFrame(data),
    )
    for table in tables:
        with pytest.raises(TypeError, match="name the column"):
            trained().predictor.predict(table)


def test_repr_says_what_the_predictor_is(tmp_path):
    """It used to be the address in memory."""
    clf = trained(multi_label=True)
    clf.save_pretrained(tmp_path / "model")
    about = f"3 classes, multi_label, {len(clf.tokenizer_)} tokens, dimension 8"
    assert repr(clf.predictor) == f"Predictor({about})"
    assert (
        repr(load_predictor(tmp_path / "model"))
        == f"Predictor({str(tmp_path / 'model')!r}, {about})"
    )


def test_a_mapped_model_builds_what_scores_a_text_once(tmp_path):
    trained().save_pretrained(tmp_path)
    model = load_predictor(tmp_path, mmap=True).model
    assert model.text_scorer() is model.text_scorer() is not None
