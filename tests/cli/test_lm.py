"""hyperagg lm: from texts to a model that writes, killed and resumed, in one process and in two."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperagg.data import load_dataset

HYPERAGG = str(Path(sys.executable).parent / "hyperagg")
TORCHRUN = str(Path(sys.executable).parent / "torchrun")
SMALL = [
    *("--layers", "2", "--d-model", "32", "--layer-types", "gate,full_attention"),
    *("--vocab-size", "400", "--sequence-length", "64", "--batch-size", "8"),
    *("--max-steps", "150", "--save-steps", "10", "--learning-rate", "0.01"),
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*command, **options):
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
        **options,
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "texts.txt"
    rows = [" ".join(text.split()) for text in load_dataset("r8").train.texts[:1200]]
    path.write_text("\n".join(rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def model(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("lm") / "model"
    ran = run(HYPERAGG, "lm", "train", texts, "--out", out, *SMALL)
    assert ran.returncode == 0, ran.stderr
    return out


def results(folder):
    return json.loads((folder / "results.json").read_text("utf-8"))


def test_it_learns_and_leaves_a_model_alone(model):
    told = results(model)
    # A unigram of these tokens has 118.
    assert 10 < told["validation"]["perplexity"] < 80
    left = {path.name for path in model.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "README.md"} <= left
    assert not [name for name in left if name.startswith("checkpoint") or name.endswith(".bin")]


def test_killed_and_resumed_it_is_the_same_model(texts, model, tmp_path):
    command = [HYPERAGG, "lm", "train", str(texts), "--out", str(tmp_path / "m"), *SMALL]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("m/checkpoint-*/trainer_state.json")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "m" / "results.json").exists()
    ran = run(*command, "--resume")
    assert ran.returncode == 0 and "from the beginning" not in ran.stderr, ran.stderr
    whole, resumed = results(model), results(tmp_path / "m")
    # The first is a mean over fewer steps.
    assert resumed["trained"]["loss"][1:] == whole["trained"]["loss"][1:]
    assert resumed["validation"] == whole["validation"]


def test_two_processes_learn_the_same(texts, model, tmp_path):
    ran = run(
        *(TORCHRUN, "--nproc-per-node", "2", "--master-port", "29517", HYPERAGG, "lm", "train"),
        *(texts, "--out", tmp_path, *SMALL),
    )
    assert ran.returncode == 0, ran.stderr
    one, two = results(model), results(tmp_path)
    for (step, loss), (other_step, other) in zip(one["trained"]["loss"], two["trained"]["loss"]):
        assert step == other_step and abs(loss - other) < 1e-3
    assert two["validation"]["perplexity"] == pytest.approx(
        one["validation"]["perplexity"], rel=1e-3
    )


def test_spread_over_two_processes_it_computes_the_same(tmp_path):
    """FSDP: every process holds half of each weight."""
    script = tmp_path / "spread.py"
    script.write_text(
        """
import torch
from torch.distributed.fsdp import fully_shard
from hyperagg.language import HyperAggConfig, HyperAggForCausalLM

def losses(spread):
    torch.manual_seed(0)
    model = HyperAggForCausalLM(HyperAggConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2,
        layer_types=["gated", "full_attention"], conv_kernel_size=3))
    if spread:
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.arange(60).view(2, 30) % 37
    found = []
    for _ in range(5):
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found

torch.distributed.init_process_group("gloo")
spread, alone = losses(True), losses(False)
assert max(abs(a - b) for a, b in zip(spread, alone)) < 1e-5, (spread, alone)
assert alone[-1] < alone[0]
torch.distributed.destroy_process_group()
""",
        "utf-8",
    )
    ran = run(TORCHRUN, "--nproc-per-node", "2", "--master-port", "29519", script)
    assert ran.returncode == 0, ran.stderr


def test_it_writes(model):
    options = ["--max-new-tokens", "12", "--samples", "2"]
    ran = run(HYPERAGG, "lm", "generate", model, "--prompt", "the company said", *options)
    lines = ran.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("the company said") for line in lines)
    assert lines[0] != lines[1]
    again = run(HYPERAGG, "lm", "generate", model, "--prompt", "-", *options, input="the\noil in\n")
    begun = ["the", "the", "oil in", "oil in"]
    for line, beginning in zip(again.stdout.splitlines(), begun, strict=True):
        assert line.startswith(beginning)


def test_a_pipeline_takes_it(model):
    import transformers

    import hyperagg.language  # noqa: F401

    write = transformers.pipeline("text-generation", str(model))
    (answer,) = write("the company", max_new_tokens=5, do_sample=False)
    assert answer["generated_text"].startswith("the company")


def test_both_ways_to_evaluate(model, texts):
    streamed = json.loads(run(HYPERAGG, "lm", "evaluate", model, texts).stdout)
    windows = json.loads(run(HYPERAGG, "lm", "evaluate", model, texts, "--window", "64").stdout)
    assert streamed["tokens"] == windows["tokens"]
    assert streamed["perplexity"] == pytest.approx(windows["perplexity"], rel=0.1)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("model.safetensors", "no language model can be read"),
        ("config.json", "no language model can be read"),
        ("tokenizer.json", "its tokenizer cannot be read"),
    ],
)
def test_a_truncated_file_is_told_in_one_line(model, damaged, message, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    content = (tmp_path / "m" / damaged).read_bytes()
    (tmp_path / "m" / damaged).write_bytes(content[: len(content) // 3])
    ran = run(HYPERAGG, "lm", "generate", tmp_path / "m")
    assert ran.returncode == 2 and not ran.stdout
    (line,) = ran.stderr.strip().splitlines()
    assert line.startswith("hyperagg: ") and message in line


def test_a_config_of_other_shapes_is_told_in_one_line(model, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"expand": 1}), "utf-8")
    ran = run(HYPERAGG, "lm", "generate", tmp_path / "m")
    assert ran.returncode == 2 and not ran.stdout
    (line,) = ran.stderr.strip().splitlines()
    assert "no language model can be read from it (its weights have other shapes" in line


@pytest.mark.parametrize(
    ("dropped", "added", "message"),
    [
        ("mlp_norm", {}, "2 are missing and 0 too many (model.layers.0.mlp_norm.weight)"),
        (None, {"other.weight": torch.ones(2)}, "0 are missing and 1 too many (other.weight)"),
    ],
)
def test_weights_of_another_model_are_told_in_one_line(model, dropped, added, message, tmp_path):
    """transformers begins anew with what is missing, and leaves out what it does not know."""
    shutil.copytree(model, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    weights = {n: w for n, w in load_file(path).items() if dropped is None or dropped not in n}
    save_file(weights | added, path, metadata={"format": "pt"})
    ran = run(HYPERAGG, "lm", "generate", tmp_path / "m")
    assert ran.returncode == 2 and not ran.stdout
    (line,) = ran.stderr.strip().splitlines()
    assert line.startswith("hyperagg: ") and message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "TEXTS", "--learning-rate", "-1"), "learning_rate=-1.0: give a number above 0"),
        (("train", "wikitex"), "no data set 'wikitex'"),
        (("train", "nowhere.txt"), "nowhere.txt: there is no such file"),
        (("train", "TEXTS", "--tokenizer", "letters"), "letters: there is no tokenizer.json"),
        (("train", "TEXTS", "--layer-types", "gates"), "'gates'; there are sum, decay"),
        (("train", "TEXTS", "--layer-types", "gate,none"), "2 names for num_hidden_layers=4"),
        (("train", "TEXTS", "--sequence-length", "9999999"), "less than one sequence"),
        (("generate", "nowhere"), "nowhere: there is no such folder"),
        (("evaluate", ".", "ag-news"), "there is no config.json"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    arguments, message, texts, tmp_path, monkeypatch, capsys
):
    from hyperagg.cli import main

    monkeypatch.chdir(tmp_path)
    found = [str(texts) if part == "TEXTS" else part for part in arguments]
    monkeypatch.setattr(sys, "argv", ["hyperagg", "lm", *found])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("hyperagg: ") and message in line
    assert not list(tmp_path.glob("lm/*"))
