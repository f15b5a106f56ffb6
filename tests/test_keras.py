from __future__ import annotations

import ast
import doctest
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import hyperagg
from hyperagg import layers
from hyperagg.layers.positions import SinusoidalPositions
from hyperagg.ops import Causal, Documents, Full, Mask, Prefix, Window

keras = pytest.importorskip("keras")
if keras.backend.backend() != "torch":
    pytest.skip("compares with the torch layer", allow_module_level=True)

from hyperagg.keras import Aggregation  # noqa: E402

# Keras triggers this when it converts tensors to arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

B, N, D = 3, 11, 6
MASKS = [
    None,
    "causal",
    Full(),
    Causal(),
    Window(1),
    Window(4),
    Window(N),
    Window(N + 5),
    Prefix(0),
    Prefix(4),
    Prefix(N + 1),
    Documents((0, 4, 4, N)),
    Documents((0, 4, 4, N), causal=False),
    "dense",
]


@pytest.fixture(autouse=True)
def keras_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    # On a busy machine, threads that wait for each other dominate these small sums.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def tokens(mask=None, n=N, d=D):
    batch = 1 if isinstance(mask, Documents) else B
    return np.random.default_rng(0).standard_normal((batch, n, d)).astype("float32")


def dense(n=N):
    return np.random.default_rng(1).integers(0, 2, (B, n, n)).astype("float32")


def pair(n=N, **arguments):
    """The torch layer and the Keras layer with equal weights."""
    torch_layer = layers.Aggregation(D, **arguments)
    keras_layer = Aggregation(D, **arguments)
    keras_layer.build((None, n, D))
    weights = []
    if torch_layer.positions is not None:
        weights.append(torch_layer.positions.weight.detach().numpy())
    if torch_layer.projection is not None:
        weights.append(torch_layer.projection.weight.detach().numpy().T)
    keras_layer.set_weights(weights)
    return torch_layer, keras_layer


def close(got, want, **tolerance):
    got, want = (numpy(t) if not isinstance(t, np.ndarray) else t for t in (got, want))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, **{"rtol": 1e-5, "atol": 1e-5, **tolerance})


# --- The same layer as in torch


@pytest.mark.parametrize("normalize", ["none", "sqrt", "mean"])
@pytest.mark.parametrize("positions", [None, "learned", "sinusoidal"])
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_equal_weights_give_equal_outputs(mask, positions, normalize):
    x = tokens(mask)
    for projection in (True, False):
        torch_layer, keras_layer = pair(
            projection=projection, positions=positions, max_length=16, normalize=normalize
        )
        named = dense() if isinstance(mask, str) and mask == "dense" else mask
        as_torch = torch.from_numpy(named) if isinstance(named, np.ndarray) else named
        want = torch_layer(torch.from_numpy(x), as_torch).detach().numpy()
        close(keras_layer(x, mask=named), want)
        close(keras_layer.call(keras.ops.convert_to_tensor(x), mask=as_torch), want)
        if isinstance(mask, Documents):
            continue
        lengths = np.array([N, 0, 4])
        is_text = np.arange(N) < lengths[:, None]
        want = torch_layer(torch.from_numpy(x), as_torch, torch.from_numpy(lengths))
        close(keras_layer(x, mask=is_text, attention_mask=named), want.detach().numpy())


@pytest.mark.parametrize("mask", [None, "causal", Window(3), Prefix(4)], ids=str)
def test_equal_gradients(mask):
    torch_layer, keras_layer = pair(positions="learned", max_length=N, normalize="sqrt")
    x = torch.from_numpy(tokens())
    torch_layer(x, mask).square().sum().backward()
    keras_layer(x, mask=mask).square().sum().backward()
    positions, kernel = (v.value.grad for v in keras_layer.trainable_variables)
    torch.testing.assert_close(positions, torch_layer.positions.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(kernel.T, torch_layer.projection.weight.grad, rtol=1e-4, atol=1e-4)


def test_both_layers_have_the_same_sinusoids():
    layer = Aggregation(D, positions="sinusoidal", max_length=500)
    layer.build((None, N, D))
    ours = layer.get_weights()[0]
    close(ours, SinusoidalPositions(D, 500).weight.detach().numpy())


def test_learned_positions_start_around_one():
    layer = Aggregation(64, positions="learned", max_length=100)
    layer.build((None, N, 64))
    positions, kernel = layer.get_weights()
    assert positions.shape == (100, 64) and kernel.shape == (64, 64)
    assert abs(positions.mean() - 1) < 0.002 and abs(positions.std() - 0.02) < 0.002


def test_by_hand():
    x = np.array([[[1.0], [2.0], [4.0], [8.0]]], "float32")
    layer = Aggregation(1, projection=False)

    def sums(**masks):
        return numpy(layer(x, **masks))[0, :, 0].tolist()

    is_token = np.array([[False, True, True, False]])
    assert sums() == [15]
    assert sums(mask=is_token) == [6]
    assert sums(use_causal_mask=True) == [1, 3, 7, 15]
    assert sums(mask=is_token, use_causal_mask=True) == [0, 2, 6, 0]
    assert sums(mask=is_token, attention_mask=Window(2)) == [0, 2, 6, 0]
    assert sums(mask=np.tril(np.ones((1, 4, 4)))) == [1, 3, 7, 15]
    assert sums(mask=is_token, attention_mask=np.tril(np.ones((1, 4, 4)))) == [0, 2, 6, 0]
    assert sums(attention_mask=Documents((0, 1, 4), causal=False)) == [1, 14]


def test_projection_changes_the_dimension():
    x = tokens()
    layer = Aggregation(4)
    close(layer(x), x.sum(1, keepdims=True) @ layer.get_weights()[0])
    close(layer(x, "causal"), (x @ layer.get_weights()[0]).cumsum(1))


def test_windows_do_not_cancel_after_large_values():
    x = np.full((1, 1000, 1), 1e-3, "float32")
    x[:, :100] = 1e6
    y = numpy(Aggregation(1, projection=False)(x, attention_mask=Window(10)))
    np.testing.assert_allclose(y[0, 120:, 0], 1e-2, rtol=1e-5)


@pytest.mark.parametrize("mask", MASKS[2:-3], ids=str)
def test_no_mask_takes_quadratic_memory(mask):
    # A square matrix of so many positions would take 40 GB.
    x = np.ones((1, 100_000, 1), "float32")
    is_token = np.ones((1, 100_000), bool)
    layer = Aggregation(1, positions="learned", max_length=100_000, normalize="mean")
    assert np.isfinite(numpy(layer(x, mask=is_token, attention_mask=mask))).all()


# --- Padding


def padded(x, left, right):
    """x between positions of NaN padding, and its padding mask."""
    with_nan = np.pad(x, [(0, 0), (left, right), (0, 0)], constant_values=np.nan)
    is_token = np.zeros(with_nan.shape[:2], bool)
    is_token[:, left : left + x.shape[1]] = True
    return with_nan, is_token


@pytest.mark.parametrize("left, right", [(5, 0), (0, 5), (2, 3)])
@pytest.mark.parametrize("positions", [None, "learned"])
@pytest.mark.parametrize("mask", [None, "causal", Window(4), "dense"], ids=str)
def test_padding_on_either_side_changes_nothing(mask, positions, left, right):
    layer = Aggregation(D, positions=positions, max_length=N + 5, normalize="sqrt")
    x = tokens()
    with_nan, is_token = padded(x, left, right)
    small, large = mask, mask
    if mask == "dense":
        small = dense()
        large = np.pad(small, [(0, 0), (left, right), (left, right)], constant_values=1)
    want = numpy(layer(x, attention_mask=small))
    got = layer(with_nan, mask=is_token, attention_mask=large)
    close(numpy(got)[:, :1] if mask is None else numpy(got)[:, left : left + N], want)
    keras.ops.sum(keras.ops.square(got)).backward()
    for variable in layer.trainable_variables:
        assert torch.isfinite(variable.value.grad).all()


def test_masked_tokens_in_between_keep_later_positions():
    layer = Aggregation(D, projection=False, positions="learned", max_length=N)
    x = tokens()
    is_token = np.ones((B, N), bool)
    is_token[:, 4:6] = False
    close(layer(x, mask=is_token), layer(np.where(is_token[..., None], x, 0)))


def test_count_padding_sums_padding():
    x = tokens()
    is_token = np.arange(N) >= np.array([0, 3, N])[:, None]
    layer = Aggregation(D, positions="learned", max_length=N, normalize="mean", count_padding=True)
    close(layer(x, mask=is_token), layer(x))
    close(layer(x, mask=is_token, use_causal_mask=True), layer(x, use_causal_mask=True))


def test_sequences_of_padding_give_zeros():
    layer = Aggregation(D, positions="learned", max_length=N, normalize="mean")
    assert not numpy(layer(tokens(), mask=np.zeros((B, N), bool))).any()


def test_embedding_passes_its_padding_mask():
    ids = np.array([[0, 0, 3, 1], [2, 0, 0, 0], [1, 2, 3, 4]])
    embedding = keras.layers.Embedding(5, D, mask_zero=True)
    layer = Aggregation(D, projection=False)
    embedding.build()
    vectors = embedding.get_weights()[0][ids] * (ids > 0)[..., None]
    close(layer(embedding(ids)), vectors.sum(1, keepdims=True))
    sums = vectors.cumsum(1) * (ids > 0)[..., None]
    close(layer(embedding(ids), use_causal_mask=True), sums)
    # With two tensor arguments the padding mask arrives as x_mask.
    lower = np.tril(np.ones((3, 4, 4)))
    close(layer(embedding(ids), mask=lower), sums)
    close(layer(embedding(ids), attention_mask=lower), sums)


def test_padding_mask_is_passed_on_unless_pooled():
    ids = np.array([[0, 3, 1], [2, 0, 0]])
    x = keras.layers.Embedding(5, D, mask_zero=True)(ids)
    layer = Aggregation(D)
    causal_layer = Aggregation(D, attention_mask="causal")

    def passed_on(y):
        return getattr(y, "_keras_mask", None)

    assert passed_on(layer(x)) is None
    assert passed_on(causal_layer(x, attention_mask=Full())) is None
    for y in (
        layer(x, mask="causal"),
        layer(x, use_causal_mask=True),
        layer(x, attention_mask=Window(2)),
        layer(x, mask=np.ones((2, 3, 3))),
        causal_layer(x),
    ):
        assert (numpy(passed_on(y)) == (ids > 0)).all()
    mask = np.ones((2, 3), bool)
    assert layer.compute_mask(x, mask) is None
    assert causal_layer.compute_mask(x, mask) is mask


def test_threads_have_their_own_masks():
    layer = Aggregation(D)
    layer.build((None, N, D))
    x = keras.layers.Masking()(tokens())
    failures = []

    def call(mask, passed):
        for _ in range(50):
            y = layer(x, attention_mask=mask)
            if (getattr(y, "_keras_mask", None) is not None) != passed:
                failures.append(mask)

    threads = [threading.Thread(target=call, args=a) for a in [(None, False), ("causal", True)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- Shapes


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_symbolic_shapes_equal_those_of_the_results(mask):
    x = tokens(mask)
    named = dense() if isinstance(mask, str) and mask == "dense" else mask
    layer = Aggregation(D)
    y = layer(x, mask=named)
    spec = layer.compute_output_spec(keras.KerasTensor(x.shape), mask=named)
    assert tuple(spec.shape) == tuple(y.shape) and spec.dtype == "float32"
    assert layer.compute_output_shape(x.shape, mask=named) == tuple(y.shape)
    free = layer.compute_output_shape((None, None, D), mask=named)
    assert free == (None, y.shape[1] if isinstance(mask, Mask) and mask.pooled else free[1], D)
    assert layer.compute_output_shape(x.shape) == (len(x), 1, D)
    if isinstance(mask, Mask):
        assert Aggregation(D, attention_mask=mask).compute_output_shape(x.shape) == tuple(y.shape)


# --- Noise


def test_noise_is_seeded_and_only_in_training():
    x = tokens()
    one, two = (Aggregation(D, projection=False, noise_stddev=0.5, seed=7) for _ in range(2))
    close(one(x), x.sum(1, keepdims=True))
    first = numpy(one(x, training=True))
    close(two(x, training=True), first)
    assert not np.allclose(one(x, training=True), first)
    wide = np.zeros((64, N, 100), "float32")
    layer = Aggregation(100, projection=False, noise_stddev=0.5)
    noise = numpy(layer(wide, mask="causal", training=True))
    assert abs(noise.std() - 0.5) < 0.01 and abs(noise.mean()) < 0.01


# --- Types


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
@pytest.mark.parametrize("mask", [None, "causal", Window(64), "dense"], ids=str)
def test_mixed_precision_sums_in_float32(policy, mask):
    # In bfloat16 a running sum of ones stops at 256; in float16 at 2,048.
    n = 3000 if mask is None else 1000
    x = np.ones((1, n, 2), "float32")
    layer = Aggregation(
        2, projection=False, positions="learned", max_length=n, normalize="mean", dtype=policy
    )
    layer.build(x.shape)
    layer.set_weights([np.ones((n, 2))])
    assert layer.position_vectors.dtype == ("float64" if policy == "float64" else "float32")
    named = np.tril(np.ones((1, n, n), bool)) if mask == "dense" else mask
    y = layer(x, mask=named)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    spec = layer.compute_output_spec(keras.KerasTensor(x.shape), mask=named)
    assert spec.dtype == layer.compute_dtype
    assert (numpy(keras.ops.cast(y, "float32")) == 1).all()


# --- Saving, models, training


@pytest.mark.parametrize("mask", [m for m in MASKS if m != "dense"], ids=str)
def test_config_round_trip(mask):
    layer = Aggregation(
        D,
        projection=False,
        noise_stddev=0.1,
        positions="learned",
        max_length=N,
        normalize="sqrt",
        count_padding=True,
        attention_mask=mask,
        seed=3,
        name="sums",
        dtype="mixed_bfloat16",
    )
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is Aggregation and again.name == "sums"
    assert again.attention_mask == layer.attention_mask
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("in_call", [True, False], ids=["in call", "in layer"])
@pytest.mark.parametrize("mask", [None, "causal", Window(3), Documents((0, 4, N))], ids=str)
def test_saved_models_give_equal_outputs(mask, in_call, tmp_path):
    ids = keras.Input((N,), dtype="int32")
    x = keras.layers.Embedding(20, D, mask_zero=True)(ids)
    arguments = {"positions": "learned", "max_length": N, "noise_stddev": 0.1, "normalize": "sqrt"}
    if in_call:
        y = Aggregation(D, **arguments)(x, mask)
    else:
        y = Aggregation(D, **arguments, attention_mask=mask)(x)
    y = keras.layers.GlobalAveragePooling1D()(y)
    model = keras.Model(ids, keras.layers.Dense(3)(y))
    data = np.random.default_rng(0).integers(0, 20, (1, N))
    want = model.predict(data, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (again.predict(data, verbose=0) == want).all()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert (clone.predict(data, verbose=0) == want).all()


def test_a_saved_model_takes_a_dense_mask_as_its_input(tmp_path):
    x, weights = keras.Input((N, D)), keras.Input((N, N))
    model = keras.Model([x, weights], Aggregation(D)(x, mask=weights))
    assert model.output_shape == (None, N, D)
    data = [tokens(), dense()]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (again.predict(data, verbose=0) == model.predict(data, verbose=0)).all()


def test_one_model_takes_any_length():
    x = keras.Input((None, D))
    layers = [Aggregation(D, attention_mask=m) for m in (None, "causal", Window(4), Prefix(3))]
    model = keras.Model(x, [layer(x) for layer in layers])
    assert [tuple(y.shape) for y in model.outputs] == [(None, 1, D), *[(None, None, D)] * 3]
    for n in (1, 2, 9):
        for y, layer in zip(model(tokens(n=n)), layers):
            close(y, numpy(layer(tokens(n=n))))


def test_fit_reduces_the_loss():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 30, (256, N))
    labels = (ids == 7).any(1).astype("int32")
    model = keras.Sequential(
        [
            keras.layers.Embedding(30, 16, mask_zero=True),
            Aggregation(16, noise_stddev=0.01, positions="sinusoidal", max_length=N),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss)
    history = model.fit(ids, labels, epochs=8, batch_size=64, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


# --- Invalid arguments


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"d_model": 0}, "d_model=0: expected an integer >= 1"),
        ({"d_model": 4.5}, "d_model=4.5: expected an integer >= 1"),
        ({"d_model": 4, "noise_stddev": -1.0}, "noise_stddev=-1.0: expected a number >= 0"),
        ({"d_model": 4, "noise_stddev": float("nan")}, "noise_stddev=nan: expected a number >= 0"),
        ({"d_model": 4, "positions": "learned"}, "max_length=None: expected an integer >= 1"),
        ({"d_model": 4, "max_length": 0}, "max_length=0: expected an integer >= 1"),
        (
            {"d_model": 4, "positions": "rotary", "max_length": 9},
            "positions='rotary': expected one of learned, sinusoidal or None",
        ),
        ({"d_model": 4, "normalize": "max"}, "normalize='max': expected one of none, sqrt, mean"),
        ({"d_model": 4, "attention_mask": "full"}, "attention_mask='full': expected 'causal'"),
        ({"d_model": 4, "attention_mask": 3}, "attention_mask=3: expected 'causal'"),
        ({"d_model": 4, "attention_mask": Mask()}, "attention_mask=Mask(): expected 'causal'"),
        ({"d_model": 4, "attention_mask": np.ones((1, 2, 2))}, "argument of the call"),
    ],
    ids=str,
)
def test_constructor_errors_name_the_argument(arguments, message):
    with pytest.raises((ValueError, TypeError)) as error:
        Aggregation(**arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "call, message",
    [
        ({"x": np.ones((2, 5))}, "ndim=3"),
        ({"x": np.ones((2, 5, 3))}, "x: 3 channels; expected d_model=4"),
        ({"x": np.ones((2, 5, 4), int)}, "expected a floating-point type"),
        ({"x": np.ones((2, 9, 4))}, "x: 9 positions; expected at most max_length=8"),
        ({"mask": "window"}, "attention_mask='window': expected"),
        ({"mask": [[True] * 5] * 2}, "attention_mask=[["),
        ({"mask": np.ones(5)}, "mask: shape (5,); expected (B, N), a padding mask, or (B, N, N)"),
        ({"mask": np.ones((2, 4), bool)}, "mask: shape (2, 4); expected (B, N) = (2, 5)"),
        ({"mask": np.ones((2, 5, 4))}, "shape (2, 5, 4); expected (B, N, N) = (2, 5, 5)"),
        ({"attention_mask": np.ones((2, 5), bool)}, "padding mask (B, N) as `mask`"),
        ({"mask": "causal", "attention_mask": Window(2)}, "at most one attention mask"),
        ({"mask": np.ones((2, 5, 5)), "use_causal_mask": True}, "at most one attention mask"),
        ({"mask": Documents((0, 5))}, "x: shape (2, 5, 4); expected (1, 5, D)"),
    ],
    ids=str,
)
def test_call_errors_name_the_argument(call, message):
    layer = Aggregation(4, projection=False, positions="learned", max_length=8)
    with pytest.raises((ValueError, TypeError)) as error:
        layer(**{"x": np.ones((2, 5, 4), "float32"), **call})
    assert message in str(error.value)


# --- Without Keras, without torch, on other backends


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_missing_keras_gives_the_install_command():
    done = run("import sys; sys.modules['keras'] = None; import hyperagg.keras")
    *_, last = done.stderr.strip().splitlines()
    assert last == "ImportError: hyperagg.keras needs Keras 3: pip install 'hyperagg[keras]'"
    assert "another exception" not in done.stderr


def test_missing_backend_has_its_own_error():
    done = run(
        "import sys; sys.modules['tensorflow'] = None; import hyperagg.keras",
        KERAS_BACKEND="tensorflow",
    )
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("ImportError: Keras is installed, but tensorflow, which its backend")
    assert "KERAS_BACKEND=torch" in last


def test_only_keras_and_the_masks_are_imported():
    tree = ast.parse((Path(hyperagg.__file__).parent / "keras.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    ours_and_theirs = {name for name in imported if name not in sys.stdlib_module_names}
    assert ours_and_theirs <= {
        "collections.abc",
        "hyperagg.ops",
        "keras",
        "numpy",
    }


OTHER_BACKEND = """
import sys

sys.modules["torch"] = None
import numpy as np
import keras
from hyperagg.keras import Aggregation
from hyperagg.ops import Causal, Full, Prefix, Window

data = np.load(sys.argv[1])
masks = eval(str(data["masks"]))
n = data["x"].shape[1]
x, is_token = keras.Input((None, 6)), keras.Input((None,), dtype="bool")
layer = Aggregation(6, noise_stddev=0.1, positions="learned", max_length=n, normalize="sqrt")
model = keras.Model(
    [x, is_token],
    [layer(x, mask=is_token, attention_mask=m) for m in masks] + [layer(x, mask=masks[-1])],
)
model.set_weights([data["positions"], data["kernel"]])
outputs = model.predict([data["x"], data["is_token"]], verbose=0)
model.compile("sgd", "mse")
assert np.isfinite(model.evaluate([data["x"], data["is_token"]], outputs, verbose=0)[0])
model.fit([data["x"], data["is_token"]], outputs, verbose=0)
model.save(sys.argv[2] + ".keras")
np.savez(sys.argv[2], *outputs)
"""


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_other_backends_give_equal_outputs(backend, tmp_path):
    pytest.importorskip(backend)
    masks = [m for m in MASKS[1:-1] if isinstance(m, Mask) and not isinstance(m, Documents)]
    _, layer = pair(positions="learned", max_length=N, normalize="sqrt")
    is_token = np.arange(N) >= np.array([0, 3, N - 1])[:, None]
    np.savez(
        tmp_path / "in.npz",
        x=tokens(),
        is_token=is_token,
        positions=layer.get_weights()[0],
        kernel=layer.get_weights()[1],
        masks=repr(masks),
    )
    script = tmp_path / "script.py"
    script.write_text(OTHER_BACKEND)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "in.npz", tmp_path / "out.npz"],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    outputs = np.load(tmp_path / "out.npz")
    for i, mask in enumerate(masks):
        close(outputs[f"arr_{i}"], numpy(layer(tokens(), mask=is_token, attention_mask=mask)))
    close(outputs[f"arr_{len(masks)}"], numpy(layer(tokens(), mask=masks[-1])))


# --- Real text


@pytest.mark.slow
@pytest.mark.skipif("HYPERAGG_DATA" not in os.environ, reason="HYPERAGG_DATA is not set")
def test_learns_newswires():
    pq = pytest.importorskip("pyarrow.parquet")
    file = Path(os.environ["HYPERAGG_DATA"]) / "r8" / "train.parquet"
    if not file.exists():
        pytest.skip(f"no {file}")
    table = pq.read_table(file).to_pydict()
    texts = [text.split() for text in table["text"][:2000]]
    names, labels = np.unique(table["label"][:2000], return_inverse=True)
    counts = Counter(word for text in texts[:1500] for word in text)
    # Id 0 is padding, and 1 is every word that is not frequent.
    words = {word: i for i, (word, _) in enumerate(counts.most_common(4998), 2)}
    ids = keras.utils.pad_sequences(
        [[words.get(word, 1) for word in text] for text in texts],
        maxlen=64,
        truncating="post",
    )
    model = keras.Sequential(
        [
            keras.layers.Embedding(5000, 32, mask_zero=True),
            Aggregation(32, positions="learned", max_length=64, normalize="sqrt"),
            keras.layers.Flatten(),
            keras.layers.Dense(len(names)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(ids[:1500], labels[:1500], epochs=2, batch_size=32, verbose=0)
    accuracy = model.evaluate(ids[1500:], labels[1500:], verbose=0)[1]
    # The most frequent class has 52 % of the texts.
    assert accuracy > 0.85


def test_docstring_example_runs():
    result = doctest.testmod(sys.modules["hyperagg.keras"])
    assert result.attempted and not result.failed
