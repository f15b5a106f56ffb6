"""The aggregation layer for Keras 3, on any of its back ends.

    y_i  =  sum_t  w_it  W x_t * p_t  /  n_i^a      w_it in {0, 1}: does i sum t?  n_i = sum_t w_it

Written in keras.ops alone: TensorFlow and JAX users need not load PyTorch for it.
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
            'hyperagg.keras needs Keras 3: pip install "hyperagg[keras]"', name="keras"
        ) from None
    # Keras starts on TensorFlow unless told otherwise, which few users of this library have.
    raise ImportError(
        f"Keras is installed, but not {error.name}, which its back end needs: "
        "set KERAS_BACKEND=torch before Keras is imported",
        name=error.name,
    ) from None

__all__ = ["Aggregation"]

# Tensors of whichever back end, symbolic ones among them.
Tensor = Any

_POWERS = {"none": 0.0, "sqrt": 0.5, "mean": 1.0}
_POSITIONS = ("learned", "sinusoidal")
_MASKS = {mask.__name__: mask for mask in (Full, Causal, Window, Prefix, Documents)}

# compute_mask is not told how the layer was called. A context variable tells it, and not an
# attribute, since a layer may be called from several threads and inside a traced function.
_pooled_call: ContextVar[bool | None] = ContextVar("_pooled_call", default=None)


@keras.saving.register_keras_serializable(package="hyperagg")
class Aggregation(keras.layers.Layer):
    """Sum of projected token vectors times position vectors.

    y_i = sum_t w_it (W x_t) * p_t / n_i^a  +  noise

    Equal weights give the outputs of `hyperagg.Aggregation`. `get_weights()` holds the positions
    (max_length, D) first, if there are any, and then the kernel (D_in, D), if there is a
    projection; the kernel is the transpose of the torch layer's `projection.weight`.

    Args:
        d_model: D, the dimension of the output, and of the input where there is no projection.
        projection: a bias-free linear map W. Without positions it stands after the sum when that
            is the cheaper side: W (sum x_t) = sum W x_t.
        noise_stddev: deviation of the Gaussian noise added to the sum, in training only.
        positions: "learned" around one, "sinusoidal" (trainable), or None. With positions,
            `max_length` says how many places there are.
        normalize: divide each sum by 1 ("none"), the root of the number of its tokens ("sqrt"),
            or that number ("mean").
        count_padding: sum padding as if it were text, as the source's benchmarks do. Otherwise a
            padding mask is obeyed: what it hides is never summed or counted, its outputs are zero,
            and places are counted from the first token that it shows, so that padding in front,
            padding behind and no padding give the same sums.
        attention_mask: what each place sums where a call does not say: "causal", a mask of
            `hyperagg.ops.masks`, or None for one sum of all tokens.
        seed: of the noise.

    Call arguments:
        x: (B, N, D), floating point.
        mask: read by its rank. (B, N): which tokens are text and which padding, as Keras passes
            it by itself behind `Embedding(mask_zero=True)` or `Masking`. (B, N, N): the weight
            that each place gives each token, as in the source's layer. "causal" and masks of
            `hyperagg.ops.masks` are taken here too, as in the torch layer.
        attention_mask: "causal", a mask of `hyperagg.ops.masks`, or (B, N, N) weights; here so that it
            goes together with a padding mask, in the words of `keras.layers.MultiHeadAttention`.
        use_causal_mask: the same as attention_mask="causal".
        x_mask: (B, N), the padding mask that Keras fills in when `attention_mask` is a tensor.
        training: whether noise is added.

    Returns:
        (B, 1, D) without a mask or with a padding mask alone, and then no mask is passed on;
        (B, N, D) with a mask that says what each place sums, and the padding mask is passed on;
        (1, documents, D) for pooled documents.

    Raises:
        ValueError, TypeError: a shape, a type or a name that does not fit, with what would; more
            places than `max_length`; two masks that both say what each place sums.
        ImportError: on import, where Keras is missing.

    Numerics: products and sums in float32 or better under any dtype policy, the result in the
        policy's compute type. Windows are re-summed in blocks, so that nothing cancels.
    Cost: O(n d + d^2) pooled without positions, O(n d^2) with a projection before the sum, O(n d)
        without projection; O(n^2 d) only for a dense mask. Documents take one operation each.
    Source: the source document's `Aggregation` layer, whose behaviour and defaults these are.

    Example: a classifier of padded token ids
        >>> ids = keras.Input((256,), dtype="int32")
        >>> x = keras.layers.Embedding(10_000, 256, mask_zero=True)(ids)
        >>> x = Aggregation(256, normalize="sqrt")(x)               # the padding is not summed
        >>> x = keras.layers.Dense(46)(keras.layers.Flatten()(x))
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
        if d_model < 1:
            raise ValueError(f"d_model={d_model}: give at least 1")
        if noise_stddev < 0:
            raise ValueError(f"noise_stddev={noise_stddev}: a deviation cannot be negative")
        if normalize not in _POWERS:
            raise ValueError(f"normalize={normalize!r}: there are {', '.join(_POWERS)}")
        if positions is not None and positions not in _POSITIONS:
            raise ValueError(f"positions={positions!r}: there are 'learned', 'sinusoidal' and None")
        if positions is not None and max_length is None:
            raise ValueError(
                f"max_length: positions={positions!r} need to know how many places there are"
            )
        if _is_tensor(attention_mask):
            raise TypeError(
                "attention_mask: a tensor belongs to a call; the layer itself keeps 'causal' or a "
                "mask of hyperagg.ops.masks"
            )
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
        """Make the weights for (B, N, D_in) inputs."""
        width = input_shape[-1]
        if self.projection is None and width != self.d_model:
            raise ValueError(
                f"x: {width} channels; without projection it needs d_model={self.d_model} of them"
            )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: width})
        if self.positions is not None:
            # Kept in float32 under mixed precision too: the products are taken there.
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
        """Call the layer; see the class for the arguments."""
        # Keras takes `mask` for padding, passes it on to the next layer, and saves only plain
        # values with a functional model; so the masks are sorted before it sees them.
        padding, weights = _sort_masks(
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
        """(B, 1, D) or (B, N, D); see the class for the arguments."""
        padding, weights = _sort_masks(mask, attention_mask, use_causal_mask)
        padding = x_mask if padding is None else padding
        weights = self.attention_mask if weights is None else weights
        self._check(x, padding, weights)
        kept = None if padding is None or self.count_padding else ops.cast(padding, "bool")
        if kept is not None:
            # Before anything else, so that what stands in the padding, NaN too, reaches no sum
            # and no gradient.
            x = ops.where(kept[..., None], x, ops.zeros_like(x))
        # Linear maps and sums commute; element-wise factors in between do not.
        after = self.positions is None and self._pooled(weights)
        if self.projection is not None and not after:
            x = self.projection(x)
        y = ops.cast(self._aggregate(x, weights, kept), self.compute_dtype)
        if self.projection is not None and after:
            y = self.projection(y)
        if training and self.noise_seed is not None:
            y = y + keras.random.normal(
                ops.shape(y), stddev=self.noise_stddev, dtype=y.dtype, seed=self.noise_seed
            )
        return y

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        """The padding mask where every place keeps its own sum, None where they are pooled."""
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
        """(B, 1, D) or (B, N, D), by the masks that a call would be given."""
        weights = _sort_masks(mask, attention_mask, use_causal_mask)[1]
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
        """The shape and type of a call's result; raises what the call would."""
        padding, weights = _sort_masks(mask, attention_mask, use_causal_mask)
        padding = x_mask if padding is None else padding
        self._check(x, padding, self.attention_mask if weights is None else weights)
        shape = self.compute_output_shape(x.shape, attention_mask=weights)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer, in plain values."""
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
        """Whether one place is left of all, under these weights or, for None, the layer's own."""
        weights = self.attention_mask if weights is None else weights
        return isinstance(weights, Mask) and weights.pooled

    def _aggregate(self, x: Tensor, weights: Mask | Tensor, kept: Tensor | None) -> Tensor:
        x = _widen(x)
        if self.positions is not None:
            x = x * ops.cast(self._places(ops.shape(x)[1], weights, kept), x.dtype)
        counted = None
        if not isinstance(weights, Mask):
            weights = ops.cast(weights, x.dtype)
            y = ops.matmul(weights, x)
            if self.normalize != "none":
                if kept is not None:
                    weights = ops.where(kept[:, None, :], weights, ops.zeros_like(weights))
                counted = ops.sum(weights, axis=-1, keepdims=True)
        else:
            y = _sum(x, weights)
            if self.normalize != "none":
                n = ops.shape(x)[1]
                one = ops.ones((1, n, 1)) if kept is None else kept[..., None]
                counted = _sum(ops.cast(one, x.dtype), weights)
        if counted is not None:
            y = y / ops.maximum(counted, 1) ** _POWERS[self.normalize]
        if kept is not None and not (isinstance(weights, Mask) and weights.pooled):
            y = ops.where(kept[..., None], y, ops.zeros_like(y))
        return y

    def _places(self, n: int | Tensor, weights: Mask | Tensor, kept: Tensor | None) -> Tensor:
        """(N, D) position vectors, or (B, N, D) where padding may stand in front."""
        if isinstance(weights, Documents):
            lengths: np.ndarray = np.diff(_boundaries(weights))
            place = np.concatenate([np.arange(length) for length in lengths])
            return ops.take(self.position_vectors, place, axis=0)
        # Where N is known only when the model runs, the reshape is what catches N > max_length.
        p = ops.reshape(self.position_vectors[:n], (n, self.d_model))
        if kept is None:
            return p
        first = ops.argmax(ops.cast(kept, "int32"), axis=1)
        place = ops.arange(n, dtype="int32")[None, :] - ops.cast(first, "int32")[:, None]
        return ops.take(p, ops.maximum(place, 0), axis=0)

    def _check(self, x: Tensor, padding: Tensor | None, weights: Mask | Tensor) -> None:
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
            raise ValueError(f"x: type {x.dtype}; give floating point")
        batch, n = x.shape[:2]
        if padding is not None and not _fits(padding.shape, (batch, n)):
            raise ValueError(
                f"mask: shape {tuple(padding.shape)}; padding is (B, N) = {(batch, n)}"
            )
        if not isinstance(weights, Mask) and not (
            _fits(weights.shape, (batch, n, n)) or _fits(weights.shape, (1, n, n))
        ):
            raise ValueError(
                f"attention_mask: shape {tuple(weights.shape)}; give (B, N, N) = {(batch, n, n)}"
            )
        total = _boundaries(weights)[-1] if isinstance(weights, Documents) else 0
        if isinstance(weights, Documents) and not _fits((1, total), (batch, n)):
            raise ValueError(
                f"attention_mask: documents of {total} tokens in all need x of "
                f"shape (1, {total}, D); x is {tuple(x.shape)}"
            )
        if self.max_length is not None and self.positions and not _at_most(n, self.max_length):
            raise ValueError(
                f"x: {n} places, but there are positions for {self.max_length} only; "
                "raise max_length"
            )


def _sort_masks(
    mask: Any, attention_mask: Any, use_causal_mask: bool
) -> tuple[Tensor | None, Mask | Tensor | None]:
    """(padding, weights): what `mask` and its companions say about tokens and about places."""
    padding = None
    weights = []
    if _is_tensor(mask) and len(mask.shape) == 2:
        padding = mask
    elif _is_tensor(mask) and len(mask.shape) != 3:
        raise ValueError(
            f"mask: shape {tuple(mask.shape)}; give (B, N) for padding or (B, N, N) for weights"
        )
    elif mask is not None:
        weights.append(mask)
    if attention_mask is not None:
        if _is_tensor(attention_mask) and len(attention_mask.shape) != 3:
            raise ValueError(
                f"attention_mask: shape {tuple(attention_mask.shape)}; give (B, N, N), and a "
                "padding mask (B, N) as `mask`"
            )
        weights.append(attention_mask)
    if use_causal_mask:
        weights.append("causal")
    if len(weights) > 1:
        raise ValueError(
            "mask, attention_mask, use_causal_mask: more than one says what each place sums; "
            "give one of them, next to a padding mask (B, N) at most"
        )
    if not weights:
        return padding, None
    return padding, weights[0] if _is_tensor(weights[0]) else _to_mask(weights[0])


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _to_mask(value: Any) -> Mask:
    """A mask from itself, its name or its config."""
    if isinstance(value, str):
        if value != "causal":
            raise ValueError(f"mask={value!r}: the only mask with a name is 'causal'")
        return Causal()
    if isinstance(value, Mask) and type(value).__name__ in _MASKS:
        return value
    if isinstance(value, Mapping) and value.get("name") in _MASKS:
        return _MASKS[value["name"]](**{k: v for k, v in value.items() if k != "name"})
    raise TypeError(f"mask: {value!r}; give 'causal', a mask of hyperagg.ops.masks, or a tensor")


def _boundaries(mask: Documents) -> tuple[int, ...]:
    if mask.boundaries is None:
        raise ValueError("attention_mask: make the Documents outside of the compiled function")
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
    """(places, D): sin and cos of t / 10000^(2k/D) in channels 2k and 2k + 1."""
    places, d = shape
    channel = np.arange(d)
    # In float64, since a float32 angle of thousands of radians has few digits left.
    angle = np.arange(places)[:, None] / 10_000.0 ** (2 * (channel // 2) / d)
    return ops.convert_to_tensor(np.where(channel % 2, np.cos(angle), np.sin(angle)), dtype=dtype)


def _sum(x: Tensor, mask: Mask) -> Tensor:
    """(B, places, D) sums of (B, N, D) under a mask, in one pass."""
    match mask:
        case Full():
            return ops.sum(x, axis=1, keepdims=True)
        case Causal():
            return ops.cumsum(x, axis=1)
        case Window(size):
            return _window(x, size)
        case Prefix(size):
            head = ops.sum(x[:, :size], axis=1, keepdims=True)
            in_head = ops.arange(ops.shape(x)[1], dtype="int32")[None, :, None] < size
            return ops.where(in_head, head, ops.cumsum(x, axis=1))
        case Documents():
            boundaries = _boundaries(mask)
            parts = [x[:, a:b] for a, b in zip(boundaries, boundaries[1:]) if b > a or mask.pooled]
            if mask.causal:
                return ops.concatenate([ops.cumsum(part, axis=1) for part in parts], axis=1)
            sums = [ops.sum(part, axis=1, keepdims=True) for part in parts]
            return ops.concatenate(sums, axis=1)
    raise TypeError(f"mask: {mask!r} has no form for Keras")


def _window(x: Tensor, size: int) -> Tensor:
    """Sums over the `size` newest places, without a difference of two sums anywhere.

    The places are cut into blocks of `size`. A window is the start of its own block up to its
    place, and the end of the block before from the place that follows.
    """
    batch, n, d = ops.shape(x)
    if isinstance(n, int) and size >= n:
        return ops.cumsum(x, axis=1)
    blocks = (n + size - 1) // size
    padded = ops.pad(x, [[0, 0], [0, blocks * size - n], [0, 0]])
    cut = ops.reshape(padded, (batch, blocks, size, d))
    starts = ops.cumsum(cut, axis=2)
    ends = ops.flip(ops.cumsum(ops.flip(cut, axis=2), axis=2), axis=2)
    # Moved by one block and one place; the last place of a block needs nothing from before.
    ends = ops.pad(ends[:, :-1, 1:], [[0, 0], [1, 0], [0, 1], [0, 0]])
    return ops.reshape(starts + ends, (batch, blocks * size, d))[:, :n]
