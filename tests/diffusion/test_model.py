"""The denoiser: shapes, equal weights, who sees whom; and the pipeline that saves and loads it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from hyperagg import Denoiser
from hyperagg.diffusion.model import MIXERS, _cut, _paste
from hyperagg.diffusion.pipeline import DenoiserPipeline, load_pipeline
from hyperagg.diffusion.training_run import new_scheduler

diffusers = pytest.importorskip("diffusers")


def small(mixer="aggregation", **options):
    sizes = dict(sample_size=8, patch_size=2, num_classes=3, d_model=16, num_layers=2, num_heads=2)
    return Denoiser(**sizes | options, mixer=mixer)


def awake(model):
    """With all weights away from zero, as after some training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def test_patches_are_pieces_of_the_picture():
    pictures = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    patches = _cut(pictures, 2)
    assert patches.shape == (2, 2, 2, 12)
    assert torch.equal(patches[1, 0, 1].view(3, 2, 2), pictures[1, :, :2, 2:])
    assert torch.equal(_paste(patches, 2), pictures)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_predicts_for_every_pixel(mixer, channels):
    model = small(mixer, in_channels=channels)
    x = torch.randn(2, channels, 8, 8)
    assert torch.equal(model(x, torch.tensor(3), torch.tensor([0, 2])), torch.zeros_like(x))
    awake(model)
    y = model(x, torch.tensor([3, 900]), torch.tensor([0, 2]))
    assert y.shape == x.shape and y.isfinite().all()
    assert torch.equal(
        model(x, torch.tensor([3, 900])), model(x, torch.tensor([3, 900]), torch.tensor([3, 3]))
    )
    for other in (
        model(x, torch.tensor([3, 901]), torch.tensor([0, 2])),
        model(x, torch.tensor([3, 900]), torch.tensor([0, 1])),
    ):
        torch.testing.assert_close(other[0], y[0])
        assert not torch.allclose(other[1], y[1])


@pytest.mark.parametrize(("mixer", "blocks"), [("aggregation", 2), ("attention", 1)])
def test_every_pixel_sees_every_other(mixer, blocks):
    model = awake(small(mixer, num_layers=blocks)).double()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    for place in ((0, 0), (7, 7), (3, 4)):
        y = model(x, torch.tensor(500))[0, 0, place[0], place[1]]
        (grad,) = torch.autograd.grad(y, x)
        assert (grad.abs() > 0).all()


def test_blocks_go_along_rows_and_along_columns():
    rows, columns = awake(small()).blocks
    columns.load_state_dict(rows.state_dict())
    u = torch.randn(1, 4, 4, 16)
    torch.testing.assert_close(rows.mixed(u.transpose(1, 2)).transpose(1, 2), columns.mixed(u))
    moved = u.clone()
    moved[0, 1, 2] += 1
    assert rows.mixed(moved)[0].ne(rows.mixed(u)[0]).any(-1).nonzero()[:, 0].unique().tolist() == [
        1
    ]


@pytest.mark.parametrize("sizes", [dict(d_model=64, num_layers=2), dict(d_model=128, num_layers=6)])
def test_both_mixers_have_as_many_weights(sizes):
    ours, rival = (Denoiser(**sizes, mixer=mixer).num_parameters() for mixer in MIXERS)
    assert ours == pytest.approx(rival, rel=0.01)


def test_what_is_refused():
    with pytest.raises(ValueError, match="patch_size=3: must divide sample_size=8"):
        small(patch_size=3)
    with pytest.raises(ValueError, match="mixer='sum': there are aggregation, attention"):
        small("sum")
    with pytest.raises(ValueError, match="num_heads=3: must divide d_model=16"):
        small("attention", num_heads=3)


@pytest.fixture
def pipeline():
    scheduler = new_scheduler(diffusers.DDIMScheduler)
    return DenoiserPipeline(awake(small()).eval(), scheduler, {"0": "a", "1": "b", "2": "c"})


def draw(pipeline, labels, seed=0, **options):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    options = dict(num_inference_steps=4, output_type="np") | options
    return pipeline(labels, generator=generator, **options).images


def test_drawing(pipeline):
    images = draw(pipeline, [0, 2])
    assert images.shape == (2, 8, 8, 1) and 0 <= images.min() < images.max() <= 1
    assert np.array_equal(draw(pipeline, [0, 2]), images)
    assert not np.array_equal(draw(pipeline, [0, 2], seed=1), images)
    assert not np.allclose(draw(pipeline, [0, 1])[1], images[1])
    assert not np.allclose(draw(pipeline, [0, 2], guidance_scale=1.0), images)
    # Guidance by the prediction for no class has nothing to guide where none is wanted.
    np.testing.assert_allclose(
        draw(pipeline, [3], guidance_scale=4.0), draw(pipeline, [3], guidance_scale=1.0), atol=1e-5
    )
    assert draw(pipeline, [1], output_type="pil")[0].size == (8, 8)
    seen = []
    draw(pipeline, [1], callback=lambda step, x: seen.append((step, x.shape)))
    assert seen == [(step, (1, 1, 8, 8)) for step in range(4)]
    with pytest.raises(ValueError, match=r"class_labels: 4 is not in 0 \.\.\. 3"):
        draw(pipeline, [0, 4])


def test_saved_and_loaded_it_draws_the_same(pipeline, tmp_path):
    images = draw(pipeline, [0, 2])
    pipeline.save_pretrained(tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    for loaded in (
        load_pipeline(tmp_path / "model"),
        diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model"),
    ):
        assert type(loaded) is DenoiserPipeline
        assert loaded.labels == {"a": 0, "b": 1, "c": 2}
        assert np.array_equal(draw(loaded, [0, 2]), images)
    config = json.loads((tmp_path / "model" / "denoiser" / "config.json").read_text())
    assert config["mixer"] == "aggregation" and config["num_classes"] == 3
    with pytest.raises(ValueError, match=r"nowhere: there is no such folder; name one that"):
        load_pipeline(tmp_path / "nowhere")
    weights = next((tmp_path / "model" / "denoiser").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="model: no denoiser can be read from it"):
        load_pipeline(tmp_path / "model")


def test_in_a_fresh_process(pipeline, tmp_path):
    images = draw(pipeline, [0, 2])
    pipeline.save_pretrained(tmp_path / "model")
    # By the code in the folder where hyperagg is not imported; without it once it is.
    script = (
        "import sys, numpy, torch\nfrom diffusers import DiffusionPipeline\n"
        "for i, options in enumerate((\n"
        "    dict(custom_pipeline=sys.argv[1], trust_remote_code=True), {}\n"
        ")):\n"
        "    assert ('hyperagg' in sys.modules) == bool(i)\n"
        "    pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], **options)\n"
        "    drawn = pipeline([0, 2], num_inference_steps=4, output_type='np',\n"
        "        generator=torch.Generator().manual_seed(0)).images\n"
        "    numpy.save(f'{sys.argv[2]}/{i}.npy', drawn)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model"), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    for i in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{i}.npy"), images, atol=1e-6)
