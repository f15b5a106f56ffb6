"""The aggregation layer for Keras 3, on every backend.

The layer is written in keras.ops alone, so TensorFlow and JAX users do not need PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np

from hyperagg.ops import Causal, Documents, Full, Mask, Prefix, Window

try:
    import keras
    from keras import ops
except ModuleNotFoundError as error:
    if error.name == "keras":
        raise ImportError(
            "hyperagg.keras needs Keras 3: pip install 'hyperagg[keras]'", name="keras"
        ) from None
    # The default backend of Keras is TensorFlow, which few users of this library have installed.
    raise ImportError(
        f"Keras is installed, but {str(error.name).partition('.')[0]}, which its backend needs, is "
        "not: install it, or set KERAS_BACKEND=torch before Keras is imported",
        name=error.name,
    ) from None

__all__ = ["Aggregation"]

# A tensor of any backend, or a symbolic one.
Tensor = Any

_NORM_EXPONENTS = {"none": 0.0, "sqrt": 0.5, "mean": 1.0}
_POSITIONS = ("learned", "sinusoidal")
_MASKS = {mask.__name__: mask for mask in (Full, Causal, Window, Prefix, Documents)}

# compute_mask does not receive the arguments of the call, so a context variable passes them on. An
# attribute would not do: a layer may be called from more than one thread and in a traced function.
_pooled_call: ContextVar[bool | None] = ContextVar("_pooled_call", default=None)


@keras.saving.register_keras_serializable(package="hyperagg")
class Aggregation(keras.layers.Layer):
    """Sum projected token vectors that are multiplied by position vectors.

    y_i = n_i^-b sum_t w_it (W x_t) * p_t  +  noise

    w_it in {0, 1} is the mask, n_i = sum_t w_it, and b is 0, 1/2 or 1 for normalize "none", "sqrt"
    or "mean". With equal weights the layer gives the outputs of `hyperagg.layers.Aggregation`.
    `get_weights()` returns the position vectors (max_length, D), if there are any, and then the
    kernel (D_in, D), if there is a projection: the transpose of `projection.weight` in PyTorch.

    Args:
        d_model: D, the dimension of the output, and of the input if there is no projection.
        projection: whether to apply a linear map W without bias (default: True). Without positions
            it is applied to a pooled sum, where it is cheaper: W (sum x_t) = sum W x_t.
        noise_stddev: standard deviation of the Gaussian noise that is added to the sum in training
            (default: 0).
        positions: "learned" (initialized around one), "sinusoidal" (trainable) or None (default).
        max_length: the number of position vectors, required with `positions`.
        normalize: divide each sum by one ("none", default), by the square root of the number of its
            tokens ("sqrt") or by that number ("mean").
        count_padding: whether to sum padding like other tokens (default: False), as the benchmarks
            of Ekin (2025) do. Otherwise padding is never summed or counts, its outputs are zero,
            and positions count from the first token of a sequence, so padding on the left, on the
            right or none gives the same sums.
        attention_mask: which tokens each output sums if a call does not say: "causal", a mask of
            `hyperagg.ops`, or None (default) for one sum of all tokens.
        seed: seed of the noise.

    Call arguments:
        x: (B, N, D_in), floating point.
        mask: its rank decides. (B, N) is a padding mask, true for tokens, as Keras passes it after
            `Embedding(mask_zero=True)` or `Masking`. (B, N, N) is a dense mask of weights, as in
            the layer of Ekin (2025). "causal" and the masks of `hyperagg.ops` are accepted too, as
            in `hyperagg.layers.Aggregation`.
        attention_mask: "causal", a mask of `hyperagg.ops` or (B, N, N) weights, next to a padding
            mask; named as in `keras.layers.MultiHeadAttention`.
        use_causal_mask: the same as attention_mask="causal".
        x_mask: (B, N), the padding mask that Keras passes when `attention_mask` is a tensor.
        training: whether to add noise.

    Returns:
        (B, 1, D) without an attention mask; (1, num_documents, D) for pooled documents; otherwise
        (B, N, D). The padding mask is passed on only in the last case.

    Raises:
        ValueError, TypeError: an argument has the wrong shape, type or value; a sequence is longer
            than `max_length`; two arguments give an attention mask.
        ImportError: on import, if Keras or its backend is not installed.

    Numerics: products and sums in float32 or better under every dtype policy; the result has the
        compute type of the policy. Windows are summed afresh in blocks, so nothing cancels.
    Cost: O(n d + d^2) for a pooled output without positions, O(n d^2) with a projection before the
        sum, O(n d) without a projection, O(n^2 d) only for a dense mask. Documents take one
        operation each.
    Source: the `Aggregation` layer of Ekin (2025), with its behavior and defaults.

    Example, a classifier of padded token ids:

    >>> import keras
    >>> from hyperagg.keras import Aggregation
    >>> ids = keras.Input((256,), dtype="int32")
    >>> x = keras.layers.Embedding(10_000, 32, mask_zero=True)(ids)
    >>> x = Aggregation(32, normalize="sqrt")(x)  # padding is not summed
    >>> x = keras.layers.Dense(46)(keras.layers.Flatten()(x))
    >>> x.shape
    (None, 46)
    """

    def __init__(
        self,
        d_model: int,
        projection: bool = True,
        noise_stddev: float = 0.0,
        *,
        positions: Literal["learned", "sinusoidal"] | None = None,
        max_length: int | None = None,
        normalize: Literal["none", "sqrt", "mean"] = "none",
        count_padding: bool = False,
        attention_mask: Mask | Mapping[str, Any] | Literal["causal"] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not _is_integer(d_model) or d_model < 1:
            raise ValueError(f"d_model={d_model!r}: expected an integer >= 1")
        if not isinstance(noise_stddev, int | float | np.number) or not noise_stddev >= 0:
            raise ValueError(f"noise_stddev={noise_stddev!r}: expected a number >= 0")
        if normalize not in _NORM_EXPONENTS:
            raise ValueError(
                f"normalize={normalize!r}: expected one of {', '.join(_NORM_EXPONENTS)}"
            )
        if positions is not None and positions not in _POSITIONS:
            raise ValueError(
                f"positions={positions!r}: expected one of {', '.join(_POSITIONS)} or None"
            )
        if max_length is None and positions is not None:
            raise ValueError(
                f"max_length=None: expected an integer >= 1 with positions={positions!r}"
            )
        if max_length is not None and (not _is_integer(max_length) or max_length < 1):
            raise ValueError(f"max_length={max_length!r}: expected an integer >= 1")
        if _is_tensor(attention_mask):
            raise TypeError(
                "attention_mask: a tensor is an argument of the call; expected 'causal' or a mask "
                "of hyperagg.ops"
            )
        # Plain numbers, so that get_config can be saved as JSON.
        d_model, noise_stddev = int(d_model), float(noise_stddev)
        max_length = None if max_length is None else int(max_length)
        self.d_model = d_model
        self.noise_stddev = noise_stddev
        self.positions = positions
        self.max_length = max_length
        self.normalize = normalize
        self.count_padding = count_padding
        self.attention_mask = Full() if attention_mask is None else _to_mask(attention_mask)
        self.seed = seed
        self.projection = (
            keras.layers.Dense(d_model, use_bias=False, dtype=self.dtype_policy, name="projection")
            if projection
            else None
        )
        self.noise_seed = keras.random.SeedGenerator(seed) if noise_stddev else None
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for inputs (B, N, D_in)."""
        width = input_shape[-1]
        if self.projection is None and width != self.d_model:
            raise ValueError(
                f"x: {width} channels; expected d_model={self.d_model} without a projection"
            )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: width})
        if self.positions is not None:
            # Without a cast under mixed precision, since the products are computed in float32.
            self.position_vectors = self.add_weight(
                name="positions",
                shape=(self.max_length, self.d_model),
                initializer=(
                    keras.initializers.RandomNormal(mean=1.0, stddev=0.02)
                    if self.positions == "learned"
                    else _sinusoids
                ),
                autocast=False,
            )
        if self.projection is not None:
            self.projection.build(input_shape)

    def __call__(self, x: Tensor, mask: Any = None, **kwargs: Any) -> Tensor:
        """Call the layer; the class documents the arguments."""
        # Keras treats `mask` as a padding mask, passes it on to the next layer and saves only plain
        # values with a functional model, so the masks are separated before Keras receives them.
        padding, weights = _separate_masks(
            mask, kwargs.pop("attention_mask", None), kwargs.pop("use_causal_mask", False)
        )
        if padding is not None:
            kwargs["mask"] = padding
        if weights is not None:
            kwargs["attention_mask"] = weights if _is_tensor(weights) else _to_config(weights)
        token = _pooled_call.set(self._pooled(weights))
        try:
            return super().__call__(x, **kwargs)
        finally:
            _pooled_call.reset(token)

    def call(
        self,
        x: Tensor,
        mask: Any = None,
        attention_mask: Any = None,
        use_causal_mask: bool = False,
        x_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """Return (B, 1, D) or (B, N, D); the class documents the arguments."""
        padding, weights = _separate_masks(mask, attention_mask, use_causal_mask)
        padding = x_mask if padding is None else padding
        weights = self.attention_mask if weights is None else weights
        self._check(x, padding, weights)
        is_token = None if padding is None or self.count_padding else ops.cast(padding, "bool")
        if is_token is not None:
            # First of all, so that NaN in the padding reaches neither a sum nor a gradient.
            x = ops.where(is_token[..., None], x, ops.zeros_like(x))
        # Linear maps and sums commute; the element-wise factors p do not commute with W.
        project_sum = self.positions is None and self._pooled(weights)
        if self.projection is not None and not project_sum:
            x = self.projection(x)
        y = ops.cast(self._aggregate(x, weights, is_token), self.compute_dtype)
        if self.projection is not None and project_sum:
            y = self.projection(y)
        if training and self.noise_seed is not None:
            y = y + keras.random.normal(
                ops.shape(y), stddev=self.noise_stddev, dtype=y.dtype, seed=self.noise_seed
            )
        return y

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        """Return the padding mask if every position has an output, None if they are pooled."""
        pooled = _pooled_call.get()
        if pooled is None:
            pooled = self._pooled(None)
        return None if pooled else previous_mask

    def compute_output_shape(
        self,
        input_shape: tuple[int | None, ...],
        mask: Any = None,
        attention_mask: Any = None,
        use_causal_mask: bool = False,
    ) -> tuple[int | None, ...]:
        """Return (B, 1, D) or (B, N, D), depending on the masks of a call."""
        weights = _separate_masks(mask, attention_mask, use_causal_mask)[1]
        weights = self.attention_mask if weights is None else weights
        batch, n = input_shape[:2]
        if isinstance(weights, Documents) and weights.pooled:
            return batch, weights.num_documents, self.d_model
        return batch, 1 if self._pooled(weights) else n, self.d_model

    def compute_output_spec(
        self,
        x: Tensor,
        mask: Any = None,
        attention_mask: Any = None,
        use_causal_mask: bool = False,
        x_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> keras.KerasTensor:
        """Return the shape and type of the result of a call; raise what the call would."""
        padding, weights = _separate_masks(mask, attention_mask, use_causal_mask)
        padding = x_mask if padding is None else padding
        self._check(x, padding, self.attention_mask if weights is None else weights)
        shape = self.compute_output_shape(x.shape, attention_mask=weights)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer as plain values."""
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "projection": self.projection is not None,
            "noise_stddev": self.noise_stddev,
            "positions": self.positions,
            "max_length": self.max_length,
            "normalize": self.normalize,
            "count_padding": self.count_padding,
            "attention_mask": _to_config(self.attention_mask),
            "seed": self.seed,
        }

    def _pooled(self, weights: Mask | Tensor | None) -> bool:
        """Whether these weights, or those of the layer for None, give one output per sequence."""
        weights = self.attention_mask if weights is None else weights
        return isinstance(weights, Mask) and weights.pooled

    def _aggregate(self, x: Tensor, weights: Mask | Tensor, is_token: Tensor | None) -> Tensor:
        x = _widen(x)
        if self.positions is not None:
            x = x * ops.cast(self._positions(ops.shape(x)[1], weights, is_token), x.dtype)
        counts = None
        if not isinstance(weights, Mask):
            weights = ops.cast(weights, x.dtype)
            y = ops.matmul(weights, x)
            if self.normalize != "none":
                if is_token is not None:
                    weights = ops.where(is_token[:, None, :], weights, ops.zeros_like(weights))
                counts = ops.sum(weights, axis=-1, keepdims=True)
        else:
            y = _sum(x, weights)
            if self.normalize != "none":
                n = ops.shape(x)[1]
                one = ops.ones((1, n, 1)) if is_token is None else is_token[..., None]
                counts = _sum(ops.cast(one, x.dtype), weights)
        if counts is not None:
            y = y / ops.maximum(counts, 1) ** _NORM_EXPONENTS[self.normalize]
        if is_token is not None and not (isinstance(weights, Mask) and weights.pooled):
            y = ops.where(is_token[..., None], y, ops.zeros_like(y))
        return y

    def _positions(
        self, n: int | Tensor, weights: Mask | Tensor, is_token: Tensor | None
    ) -> Tensor:
        """(N, D) position vectors, or (B, N, D) where a sequence may have padding on the left."""
        if isinstance(weights, Documents):
            lengths: np.ndarray = np.diff(_boundaries(weights))
            position = np.concatenate([np.arange(length) for length in lengths])
            return ops.take(self.position_vectors, position, axis=0)
        # If N is known only when the model runs, this reshape raises for N > max_length.
        p = ops.reshape(self.position_vectors[:n], (n, self.d_model))
        if is_token is None:
            return p
        first = ops.argmax(ops.cast(is_token, "int32"), axis=1)
        position = ops.arange(n, dtype="int32")[None, :] - ops.cast(first, "int32")[:, None]
        return ops.take(p, ops.maximum(position, 0), axis=0)

    def _check(self, x: Tensor, padding: Tensor | None, weights: Mask | Tensor) -> None:
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
            raise ValueError(f"x: {x.dtype}; expected a floating-point type")
        batch, n = x.shape[:2]
        if padding is not None and not _fits(padding.shape, (batch, n)):
            raise ValueError(f"mask: shape {tuple(padding.shape)}; expected (B, N) = {(batch, n)}")
        if not isinstance(weights, Mask) and not (
            _fits(weights.shape, (batch, n, n)) or _fits(weights.shape, (1, n, n))
        ):
            raise ValueError(
                f"attention_mask: shape {tuple(weights.shape)}; expected (B, N, N) = "
                f"{(batch, n, n)}"
            )
        total = _boundaries(weights)[-1] if isinstance(weights, Documents) else 0
        if isinstance(weights, Documents) and not _fits((1, total), (batch, n)):
            raise ValueError(
                f"x: shape {tuple(x.shape)}; expected (1, {total}, D) with attention_mask={weights}"
            )
        if self.max_length is not None and self.positions and not _at_most(n, self.max_length):
            raise ValueError(f"x: {n} positions; expected at most max_length={self.max_length}")


def _separate_masks(
    mask: Any, attention_mask: Any, use_causal_mask: bool
) -> tuple[Tensor | None, Mask | Tensor | None]:
    """Return the padding mask and the attention mask of a call, None where there is none."""
    padding = None
    weights = []
    if _is_tensor(mask) and len(mask.shape) == 2:
        padding = mask
    elif _is_tensor(mask) and len(mask.shape) != 3:
        raise ValueError(
            f"mask: shape {tuple(mask.shape)}; expected (B, N), a padding mask, or (B, N, N), "
            "weights"
        )
    elif mask is not None:
        weights.append(mask)
    if attention_mask is not None:
        if _is_tensor(attention_mask) and len(attention_mask.shape) != 3:
            raise ValueError(
                f"attention_mask: shape {tuple(attention_mask.shape)}; expected (B, N, N); pass a "
                "padding mask (B, N) as `mask`"
            )
        weights.append(attention_mask)
    if use_causal_mask:
        weights.append("causal")
    if len(weights) > 1:
        raise ValueError(
            "mask, attention_mask, use_causal_mask: expected at most one attention mask, and a "
            "padding mask (B, N) as `mask`"
        )
    if not weights:
        return padding, None
    return padding, weights[0] if _is_tensor(weights[0]) else _to_mask(weights[0])


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _to_mask(value: Any) -> Mask:
    """Return a mask from a mask, its name or its config."""
    if isinstance(value, str):
        if value != "causal":
            raise ValueError(f"attention_mask={value!r}: expected 'causal' or a mask")
        return Causal()
    if isinstance(value, Mask) and type(value).__name__ in _MASKS:
        return value
    if isinstance(value, Mapping) and value.get("name") in _MASKS:
        return _MASKS[value["name"]](**{k: v for k, v in value.items() if k != "name"})
    raise TypeError(
        f"attention_mask={value!r}: expected 'causal', a mask of hyperagg.ops or a tensor"
    )


def _boundaries(mask: Documents) -> tuple[int, ...]:
    if mask.boundaries is None:
        raise ValueError("attention_mask: expected a Documents made outside the compiled function")
    return mask.boundaries


def _to_config(mask: Mask) -> dict[str, Any]:
    if isinstance(mask, Documents):
        return {"name": "Documents", "cu_seqlens": list(_boundaries(mask)), "causal": mask.causal}
    return {"name": type(mask).__name__, **dataclasses.asdict(mask)}


def _fits(shape: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether two shapes may be equal; None is a size that is not known yet."""
    return len(shape) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(shape, wanted)
    )


def _at_most(n: int | None, limit: int) -> bool:
    return n is None or n <= limit


def _widen(x: Tensor) -> Tensor:
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def _sinusoids(shape: tuple[int, int], dtype: Any = None) -> Tensor:
    """(N, D) sin and cos of t / 10000^(2k/D) in channels 2k and 2k + 1."""
    n, d = shape
    channel = np.arange(d)
    # In float64, since a float32 angle of thousands of radians is inaccurate.
    angle = np.arange(n)[:, None] / 10_000.0 ** (2 * (channel // 2) / d)
    return ops.convert_to_tensor(np.where(channel % 2, np.cos(angle), np.sin(angle)), dtype=dtype)


def _sum(x: Tensor, mask: Mask) -> Tensor:
    """Sum (B, N, D) under a mask in O(n d)."""
    match mask:
        case Full():
            return ops.sum(x, axis=1, keepdims=True)
        case Causal():
            return ops.cumsum(x, axis=1)
        case Window(size):
            return _window(x, size)
        case Prefix(size):
            prefix_sum = ops.sum(x[:, :size], axis=1, keepdims=True)
            in_prefix = ops.arange(ops.shape(x)[1], dtype="int32")[None, :, None] < size
            return ops.where(in_prefix, prefix_sum, ops.cumsum(x, axis=1))
        case Documents():
            boundaries = _boundaries(mask)
            parts = [x[:, a:b] for a, b in zip(boundaries, boundaries[1:]) if b > a or mask.pooled]
            if mask.causal:
                return ops.concatenate([ops.cumsum(part, axis=1) for part in parts], axis=1)
            sums = [ops.sum(part, axis=1, keepdims=True) for part in parts]
            return ops.concatenate(sums, axis=1)
    raise TypeError(f"attention_mask={mask!r}: not supported by hyperagg.keras")


def _window(x: Tensor, size: int) -> Tensor:
    """Sum the `size` newest positions, without a difference of sums.

    Positions are split into blocks of `size`. A window is the start of its block up to its position
    and the end of the previous block.
    """
    batch, n, d = ops.shape(x)
    if isinstance(n, int) and size >= n:
        return ops.cumsum(x, axis=1)
    blocks = (n + size - 1) // size
    padded = ops.pad(x, [[0, 0], [0, blocks * size - n], [0, 0]])
    split = ops.reshape(padded, (batch, blocks, size, d))
    starts = ops.cumsum(split, axis=2)
    ends = ops.flip(ops.cumsum(ops.flip(split, axis=2), axis=2), axis=2)
    # Shifted by one block and one position; the last position of a block needs no previous one.
    ends = ops.pad(ends[:, :-1, 1:], [[0, 0], [1, 0], [0, 1], [0, 0]])
    return ops.reshape(starts + ends, (batch, blocks * size, d))[:, :n]
