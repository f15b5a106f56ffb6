"""The denoiser: shapes, conditioning, receptive field, parameters, arguments."""

from __future__ import annotations

import pytest
import torch

from hyperagg.diffusion import Denoiser
from hyperagg.diffusion.model import MIXERS, _from_patches, _to_patches


def small(mixer="aggregation", **options):
    sizes = dict(sample_size=8, patch_size=2, num_classes=3, d_model=16, num_layers=2, num_heads=2)
    return Denoiser(**sizes | options, mixer=mixer)


def perturb(model):
    """Move all parameters away from their initial value, as training does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def test_patches_are_tiles_of_the_image():
    images = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    patches = _to_patches(images, 2)
    assert patches.shape == (2, 2, 2, 12)
    assert torch.equal(patches[1, 0, 1].view(3, 2, 2), images[1, :, :2, 2:])
    assert torch.equal(_from_patches(patches, 2), images)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_prediction_depends_on_timestep_and_class(mixer, channels):
    model = small(mixer, in_channels=channels)
    x = torch.randn(2, channels, 8, 8)
    assert torch.equal(model(x, torch.tensor(3), torch.tensor([0, 2])), torch.zeros_like(x))
    perturb(model)
    y = model(x, torch.tensor([3, 900]), torch.tensor([0, 2]))
    assert y.shape == x.shape and y.isfinite().all()
    for other in (
        model(x, torch.tensor([3, 901]), torch.tensor([0, 2])),
        model(x, torch.tensor([3, 900]), torch.tensor([0, 1])),
    ):
        torch.testing.assert_close(other[0], y[0])
        assert not torch.allclose(other[1], y[1])


def test_without_labels_the_class_is_no_class():
    model, x, timesteps = perturb(small()), torch.randn(2, 1, 8, 8), torch.tensor([3, 900])
    assert torch.equal(model(x, timesteps), model(x, timesteps, torch.tensor([3, 3])))


@pytest.mark.parametrize(("mixer", "num_layers"), [("aggregation", 2), ("attention", 1)])
def test_every_pixel_depends_on_every_other(mixer, num_layers):
    model = perturb(small(mixer, num_layers=num_layers)).double()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    for row, column in ((0, 0), (7, 7), (3, 4)):
        (gradient,) = torch.autograd.grad(
            model(x, torch.tensor(500), torch.tensor([1]))[0, 0, row, column], x
        )
        assert (gradient != 0).all()


def test_blocks_alternate_between_rows_and_columns():
    rows, columns = perturb(small()).blocks
    columns.load_state_dict(rows.state_dict())
    u = torch.randn(1, 4, 4, 16)
    torch.testing.assert_close(rows.mix(u.transpose(1, 2)).transpose(1, 2), columns.mix(u))
    changed = u.clone()
    changed[0, 1, 2] += 1
    affected = rows.mix(changed)[0].ne(rows.mix(u)[0]).any(-1).nonzero()[:, 0]
    assert affected.unique().tolist() == [1]


@pytest.mark.parametrize("sizes", [dict(d_model=64, num_layers=2), dict(d_model=128, num_layers=6)])
def test_both_mixers_have_equally_many_parameters(sizes):
    aggregation, attention = (
        Denoiser(**sizes, mixer=mixer).num_parameters() for mixer in ("aggregation", "attention")
    )
    assert aggregation == pytest.approx(attention, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(patch_size=3), "patch_size=3: expected a divisor of sample_size=8"),
        (dict(mixer="sum"), 'expected one of "aggregation", "attention"'),
        (
            dict(mixer="attention", num_heads=3),
            "num_heads=3: expected a divisor of d_model=16",
        ),
        (dict(d_model=0), "d_model=0: expected an integer from 2 to"),
        (dict(num_layers=10**9), "num_layers=1000000000: expected an integer from 1 to"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)
