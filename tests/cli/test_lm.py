"""hyperagg lm: training, also interrupted and in two processes; generation and evaluation."""

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
    *("--layers", "2", "--d-model", "32", "--layer-types", "gated,full_attention"),
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


@pytest.mark.slow
def test_training_learns_and_leaves_only_the_model(model):
    # The perplexity of a unigram model on these tokens is 118.
    assert 10 < results(model)["validation"]["perplexity"] < 80
    files = {path.name for path in model.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "README.md"} <= files
    assert not [name for name in files if name.startswith("checkpoint") or name.endswith(".bin")]
    modes = {path.stat().st_mode for path in model.iterdir() if path.is_file()}
    assert len(modes) == 1  # another user may read all of them or none


@pytest.mark.slow
def test_training_that_is_killed_and_resumed_gives_the_same_model(texts, model, tmp_path):
    command = [HYPERAGG, "lm", "train", str(texts), "--out", str(tmp_path / "m"), *SMALL]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("m/*/checkpoint-*/trainer_state.json")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "m" / "results.json").exists()
    ran = run(*command, "--resume")
    assert ran.returncode == 0 and "from the beginning" not in ran.stderr, ran.stderr
    whole, resumed = results(model), results(tmp_path / "m")
    # The first value is a mean over fewer steps.
    assert resumed["training"]["loss"][1:] == whole["training"]["loss"][1:]
    assert resumed["validation"] == whole["validation"]


def test_a_time_limit_says_how_far_it_got_and_the_training_can_be_resumed(cli, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("Oil prices rose\nGold prices fell\n" * 100, "utf-8")
    small = "--layers 1 --d-model 16 --vocab-size 300 --sequence-length 16 --max-steps 20"
    command = ["lm", "train", texts, "--out", tmp_path / "m", *small.split()]
    limited = cli(*command, "--time-limit", "0.000001")
    assert limited.code == 0
    assert (
        "the time limit ended the training after 2 of 20 steps (10 %): repeat the command with "
        "--resume to continue from step 2\n"
    ) in limited.err
    assert "the time was too short for the learning rate to fall to zero\n" in limited.err
    saved = results(tmp_path / "m")
    assert (saved["training"]["steps"], saved["training"]["max_steps"]) == (2, 20)
    assert " (standard error over 16 blocks), perplexity per word" in limited.err
    assert saved["validation"]["standard_error_unit"] == "blocks"
    refused = cli(*command)
    assert refused.code == 2 and "holds an interrupted training; continue it" in refused.err
    assert cli(*command, "--resume").code == 0
    assert not (tmp_path / "m" / "checkpoints").exists()
    whole = cli(*command[:3], "--out", tmp_path / "whole", *small.split())
    assert whole.code == 0
    weights = (tmp_path / name / "model.safetensors" for name in ("m", "whole"))
    assert len({file.read_bytes() for file in weights}) == 1


@pytest.mark.parametrize(
    ("file", "held", "options"),
    [
        ("config.json", "a model; give another folder", ()),
        ("config.json", "a model; give another folder", ("--resume",)),
        ("checkpoints/checkpoint-2/trainer_state.json", "an interrupted training; continue it", ()),
    ],
)
def test_a_model_is_replaced_only_with_force(cli, texts, tmp_path, file, held, options):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text('{"global_step": 2}', "utf-8")
    if "checkpoints" in file:
        (tmp_path / "checkpoints" / "run.json").write_text("{}", "utf-8")
    refused = cli("lm", "train", texts, "--out", tmp_path, *options)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"--out {tmp_path}: holds {held}" in refused.err


@pytest.mark.slow
def test_training_in_two_processes_gives_the_same_model(texts, model, tmp_path):
    ran = run(
        *(TORCHRUN, "--nproc-per-node", "2", "--standalone", HYPERAGG, "lm", "train"),
        *(texts, "--out", tmp_path, *SMALL),
    )
    assert ran.returncode == 0, ran.stderr
    one, two = results(model), results(tmp_path)
    for (step, loss), (other_step, other) in zip(one["training"]["loss"], two["training"]["loss"]):
        assert step == other_step and abs(loss - other) < 1e-3
    assert two["validation"]["perplexity"] == pytest.approx(
        one["validation"]["perplexity"], rel=1e-3
    )


@pytest.mark.slow
def test_fully_sharded_training_gives_the_same_losses(tmp_path):
    """FSDP: every process holds half of each weight."""
    script = tmp_path / "sharded.py"
    script.write_text(
        """
import torch
from torch.distributed.fsdp import fully_shard
from hyperagg.language import HyperAggConfig, HyperAggForCausalLM

def losses(sharded):
    torch.manual_seed(0)
    model = HyperAggForCausalLM(HyperAggConfig(vocab_size=40, hidden_size=16, num_hidden_layers=3,
        layer_types=["gated", "full_attention", "gated_associative"], conv_kernel_size=3))
    if sharded:
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.arange(60).view(2, 30) % 37
    losses = []
    for _ in range(5):
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses

torch.distributed.init_process_group("gloo")
sharded, single = losses(True), losses(False)
assert max(abs(a - b) for a, b in zip(sharded, single)) < 1e-5, (sharded, single)
assert single[-1] < single[0]
torch.distributed.destroy_process_group()
""",
        "utf-8",
    )
    ran = run(TORCHRUN, "--nproc-per-node", "2", "--standalone", script)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_generate_continues_prompts(model):
    options = ["--max-new-tokens", "12", "--samples", "2"]
    ran = run(HYPERAGG, "lm", "generate", model, "--prompt", "the company said", *options)
    lines = ran.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("the company said") for line in lines)
    assert lines[0] != lines[1]
    again = run(HYPERAGG, "lm", "generate", model, "--prompt", "-", *options, input="the\noil in\n")
    prompts = ["the", "the", "oil in", "oil in"]
    for line, prompt in zip(again.stdout.splitlines(), prompts, strict=True):
        assert line.startswith(prompt)


@pytest.mark.slow
def test_a_pipeline_generates_text(model):
    import transformers

    import hyperagg.language  # noqa: F401

    generator = transformers.pipeline("text-generation", str(model))
    (answer,) = generator("the company", max_new_tokens=5, do_sample=False)
    assert answer["generated_text"].startswith("the company")


@pytest.mark.slow
def test_the_exported_graph_runs(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    ran = run(HYPERAGG, "lm", "export", model, file, "--int8")
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stderr.strip().splitlines()
    assert line.endswith(f"bytes -> {file}")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].name == "input_ids"
    ran = run(HYPERAGG, "lm", "export", model, tmp_path / "model.pt")
    assert ran.returncode == 2 and "expected a name that ends in .onnx" in ran.stderr


def test_prompts_from_a_standard_input_that_is_closed(monkeypatch, capsys):
    from hyperagg.cli import main
    from hyperagg.language import serialization

    monkeypatch.setattr(serialization, "load_model", lambda folder: (None, None))
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "argv", ["hyperagg", "lm", "generate", "model", "--prompt", "-"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "hyperagg: standard input: is closed\n"


def test_an_exported_file_is_replaced_only_with_force(cli, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_text("of another model")
    refused = cli("lm", "export", tmp_path, file)
    assert refused.code == 2
    assert refused.err == f"hyperagg: {file}: exists already; pass --force to replace it\n"
    refused = cli("lm", "export", tmp_path, file, "--force")
    assert refused.code == 2 and "config.json not found" in refused.err
    assert file.read_text() == "of another model"


@pytest.mark.slow
def test_streaming_and_windows_evaluate_the_same_tokens(cli, model, texts):
    ran = cli("lm", "evaluate", model, texts)
    streamed = json.loads(ran.out)
    assert 0 < streamed["perplexity_standard_error"] < 0.1 * streamed["perplexity"]
    assert (streamed["standard_error_unit"], streamed["standard_error_units"]) == (
        "documents",
        1200,
    )
    assert " (standard error over 1,200 documents), perplexity per word " in ran.err
    windows = json.loads(cli("lm", "evaluate", model, texts, "--window", "64").out)
    assert streamed["num_tokens"] == windows["num_tokens"]
    assert streamed["perplexity"] == pytest.approx(windows["perplexity"], rel=0.1)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("model.safetensors", "model.safetensors: damaged"),
        ("config.json", "config.json: damaged"),
        ("tokenizer.json", "tokenizer.json: damaged"),
    ],
)
@pytest.mark.slow
def test_a_truncated_file_is_one_line(cli, model, damaged, message, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    content = (tmp_path / "m" / damaged).read_bytes()
    (tmp_path / "m" / damaged).write_bytes(content[: len(content) // 3])
    ran = cli("lm", "generate", tmp_path / "m")
    assert ran.code == 2 and not ran.out
    (line,) = ran.err.strip().splitlines()
    assert line.startswith("hyperagg: ") and message in line


@pytest.mark.slow
def test_a_config_with_other_shapes_is_one_line(cli, model, tmp_path):
    shutil.copytree(model, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"expand": 1}), "utf-8")
    ran = cli("lm", "generate", tmp_path / "m")
    assert ran.code == 2 and not ran.out
    (line,) = ran.err.strip().splitlines()
    assert "config.json: damaged (the shapes of its weights differ: model.layers.0." in line


@pytest.mark.parametrize(
    ("dropped", "added", "message"),
    [
        (
            "mlp_norm",
            {},
            "2 weights of the model in config.json are missing and 0 are unexpected (model.",
        ),
        (
            None,
            {"other.weight": torch.ones(2)},
            "0 weights of the model in config.json are missing and 1 are unexpected (other.weight)",
        ),
    ],
)
@pytest.mark.slow
def test_weights_of_another_model_are_one_line(model, dropped, added, message, tmp_path):
    """transformers initializes missing weights and ignores unexpected ones."""
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
        (
            ("train", "TEXTS", "--learning-rate", "-1"),
            "learning_rate=-1.0: expected a finite number > 0",
        ),
        (
            ("train", "TEXTS", "--time-limit", "30x"),
            "--time-limit 30x: expected a number of seconds above 0, or a number with the unit",
        ),
        (("train", "wikitex"), "data set 'wikitex'"),
        (("train", "nowhere.txt"), "nowhere.txt"),
        (
            ("train", "wikitext-2", "--on-error", "skip"),
            "--on-error: applies to a file; wikitext-2 is read as the name of a data set",
        ),
        (("train", "TEXTS", "--tokenizer", "letters"), "letters: tokenizer.json not found"),
        (
            ("train", "TEXTS", "--layer-types", "gates"),
            "layer_types='gates': expected one of prefix",
        ),
        (("train", "TEXTS", "--layer-types", "gated,identity"), "2 names for num_hidden_layers=4"),
        (
            ("train", "TEXTS", "--sequence-length", "9999999"),
            "sequence_length=9,999,999: expected at most",
        ),
        (("generate", "nowhere"), "nowhere: folder not found"),
        (("evaluate", ".", "ag-news"), "config.json not found"),
        (
            ("evaluate", ".", "ag-news", "--stride", "4"),
            "--stride 4: expected together with --window",
        ),
    ],
)
def test_an_error_of_the_user_is_one_line(arguments, message, texts, tmp_path, monkeypatch, capsys):
    from hyperagg.cli import main

    monkeypatch.chdir(tmp_path)
    command = [str(texts) if part == "TEXTS" else part for part in arguments]
    monkeypatch.setattr(sys, "argv", ["hyperagg", "lm", *command])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("hyperagg: ") and message in line
    assert not list(tmp_path.glob("lm/*"))
