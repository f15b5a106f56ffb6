"""The pipeline: generation, guidance, saved folders."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from hyperagg.diffusion import Denoiser, DenoiserPipeline, load_pipeline
from hyperagg.diffusion.pipeline import make_scheduler


@pytest.fixture
def pipeline():
    denoiser = Denoiser(sample_size=8, patch_size=2, num_classes=3, d_model=16, num_layers=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return DenoiserPipeline(denoiser.eval(), make_scheduler(), {"0": "a", "1": "b", "2": "c"})


def generate(pipeline, class_labels, seed=0, **options):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    options = dict(num_inference_steps=4, output_type="np") | options
    return pipeline(class_labels, generator=generator, **options).images


def test_images_depend_on_seed_class_and_guidance(pipeline):
    images = generate(pipeline, [0, 2])
    assert images.shape == (2, 8, 8, 1) and 0 <= images.min() < images.max() <= 1
    assert np.array_equal(generate(pipeline, [0, 2]), images)
    assert not np.array_equal(generate(pipeline, [0, 2], seed=1), images)
    assert not np.allclose(generate(pipeline, [0, 1])[1], images[1])
    assert not np.allclose(generate(pipeline, [0, 2], guidance_scale=1.0), images)


def test_guidance_has_no_effect_without_a_class(pipeline):
    np.testing.assert_allclose(
        generate(pipeline, [3], guidance_scale=4.0),
        generate(pipeline, [3], guidance_scale=1.0),
        atol=1e-5,
    )


def test_output_types(pipeline):
    array = generate(pipeline, [1])
    tensor = generate(pipeline, [1], output_type="pt")
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
    assert generate(pipeline, [1], output_type="pil")[0].size == (8, 8)


def test_the_callback_is_called_after_every_step(pipeline):
    calls = []
    generate(pipeline, [1], callback=lambda step, x: calls.append((step, x.shape)))
    assert calls == [(step, (1, 1, 8, 8)) for step in range(4)]


def test_arguments_that_do_not_fit_are_refused(pipeline):
    with pytest.raises(ValueError, match=r"class_labels\[1\]=4: expected an integer from 0 to 3"):
        generate(pipeline, [0, 4])
    with pytest.raises(ValueError, match="output_type='jpg': expected one of"):
        generate(pipeline, [0], output_type="jpg")
    with pytest.raises(ValueError, match=r"id2label\['3'\]: expected a class number from '0' to"):
        DenoiserPipeline(pipeline.denoiser, make_scheduler(), {"3": "d"})
    with pytest.raises(ValueError, match="id2label: expected a different name for each class"):
        DenoiserPipeline(pipeline.denoiser, make_scheduler(), {"0": "1"})


def test_a_saved_pipeline_generates_the_same_images(pipeline, tmp_path):
    images = generate(pipeline, [0, 2])
    pipeline.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    for loaded in (load_pipeline(tmp_path), DenoiserPipeline.from_pretrained(tmp_path)):
        assert type(loaded) is DenoiserPipeline
        assert loaded.labels == {"a": 0, "b": 1, "c": 2}
        assert np.array_equal(generate(loaded, [0, 2]), images)
    config = json.loads((tmp_path / "denoiser" / "config.json").read_text())
    assert config["mixer"] == "aggregation" and config["num_classes"] == 3


def test_the_folder_does_not_choose_what_load_pipeline_imports(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["denoiser"] = ["subprocess", "Popen"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert type(load_pipeline(tmp_path).denoiser) is Denoiser


def test_folders_that_cannot_be_loaded(pipeline, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder; expected a folder that"):
        load_pipeline(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"does not contain model_index\.json; expected"):
        load_pipeline(tmp_path)
    pipeline.save_pretrained(tmp_path)
    weights = next((tmp_path / "denoiser").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged \(.*incomplete|do not fill"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("index", ["", "[]", '{"id2label": {"9": "a"}}', '{"id2label": [[]]}'])
def test_a_damaged_index_is_refused(pipeline, tmp_path, index):
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ValueError, match=r"model_index\.json: damaged"):
        load_pipeline(tmp_path)


def test_importing_the_package_does_not_change_diffusers():
    script = (
        "import diffusers\nbefore = set(vars(diffusers))\n"
        "import hyperagg.diffusion\nfrom hyperagg.diffusion import *\n"
        "new = [name for name in set(vars(diffusers)) - before if 'Denoiser' in name]\n"
        "assert not new, new\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_a_process_without_hyperagg_loads_the_folder_by_its_script(pipeline, tmp_path):
    images = generate(pipeline, [0, 2])
    pipeline.save_pretrained(tmp_path / "model")
    script = (
        "import sys, numpy, torch\nfrom diffusers import DiffusionPipeline\n"
        "assert 'hyperagg' not in sys.modules\n"
        "pipeline = DiffusionPipeline.from_pretrained(\n"
        "    sys.argv[1], custom_pipeline=sys.argv[1], trust_remote_code=True)\n"
        "images = pipeline([0, 2], num_inference_steps=4, output_type='np',\n"
        "    generator=torch.Generator().manual_seed(0)).images\n"
        "numpy.save(sys.argv[2], images)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model"), str(tmp_path / "images.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), images, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_train_timesteps": 1},
        {"num_train_timesteps": 1, "prediction_type": "epsilon"},
        {"rescale_betas_zero_snr": True},
        {"beta_schedule": "linear", "prediction_type": "sample"},
        {"beta_schedule": "scaled_linear", "prediction_type": "epsilon"},
    ],
)
def test_other_schedulers_are_read(tmp_path, pipeline, settings):
    save_with(pipeline, tmp_path, settings)
    load_pipeline(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"trained_betas": [1.0] * 1000},
        {"trained_betas": [0.0] * 1000},
        {"rescale_betas_zero_snr": True, "prediction_type": "epsilon"},
    ],
)
def test_steps_without_signal_or_noise_are_refused(tmp_path, pipeline, settings):
    """The images were NaN."""
    save_with(pipeline, tmp_path, settings)
    with pytest.raises(ValueError, match=r"scheduler_config\.json: .*without signal or without"):
        load_pipeline(tmp_path)


def save_with(pipeline, folder, settings):
    pipeline.save_pretrained(folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
