"""Trainings that are killed, terminated or run out of disk space, and are resumed afterwards.

Each case begins with a folder that holds an older model. The command that replaces it is stopped at
some moment, and repeated with --resume. What counts: the resumed model has the bits of one that was
not stopped; in between, the folder holds the older model or the new one; and the stopped command
ended as it should, without a traceback.

The commands run in processes that are forked from one that has imported and compiled everything,
so that the moments lie in the training and not in the imports. A moment is a fraction of the CPU
time that the undisturbed command takes, which hardly depends on what else the machine does. A
command that has ended before is run again.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, write_results
from hyperagg._common.runs import Runs

__all__ = ["FAULTS", "PRODUCTS", "Product", "faults_table", "run_faults", "study_faults"]

_SECONDS_BETWEEN_CHECKPOINTS = 0.05
_MAX_FILE_BYTES = 1000  # with a full disk
_MAX_TRIES = 5  # of a moment, until it lies before the end of the command
_POLL_SECONDS = 0.001
_TIME_LIMIT = 600.0  # seconds of one command, which may compile on a busy machine


@dataclass(frozen=True)
class Product:
    """A training command.

    Args:
        name: what is trained.
        make_data: writes the data to a folder and returns its path.
        arguments: the command line, where DATA stands for that path.
        modules: what the command imports, which takes longer than the training.
        checkpoint: pattern of the files of a complete checkpoint in the folder of the model.
        weights: the file of the weights there.
        prepare: shortens the time between checkpoints in this process.
    """

    name: str
    make_data: Callable[[Path], Path]
    arguments: tuple[str, ...]
    modules: tuple[str, ...]
    checkpoint: str = "checkpoint.safetensors"
    weights: str = "model.safetensors"
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Case:
    """What a fault led to.

    Attributes:
        moment: fraction of the CPU time of an undisturbed training after which it happened.
        code: exit code of the stopped command; negative: the signal that killed it.
        ended_well: whether the exit code is one of those that this fault may have, and the command
            printed at most one line about it and no traceback.
        model_whole: whether the folder then held the older model or the new one.
        had_checkpoint: whether it held a checkpoint.
        same_bits: whether the resumed command gave the weights of an undisturbed training.
        message: the last line of standard error.
    """

    moment: float
    code: int
    ended_well: bool
    model_whole: bool
    had_checkpoint: bool
    same_bits: bool
    message: str


def _texts(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    path = folder / "texts.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label,number\n")
        for i in range(1500):
            words = rng.integers(0, 400, 12) + 400 * (i % 3) // 2
            file.write(f"{' '.join(f'w{word}' for word in words)},c{i % 3},{rng.normal():.3f}\n")
    return path


def _images(folder: Path) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(24):
        path = folder / "images" / f"c{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    return folder / "images"


def _prepare_classifier() -> None:
    from hyperagg.classifier.training import loop

    loop.SECONDS_BETWEEN_CHECKPOINTS = _SECONDS_BETWEEN_CHECKPOINTS


def _prepare_multimodal() -> None:
    from hyperagg._common import torch_trainer

    torch_trainer.CHECKPOINT_SECONDS = _SECONDS_BETWEEN_CHECKPOINTS


PRODUCTS = {
    product.name: product
    for product in (
        Product(
            "classifier",
            _texts,
            ("train", "DATA", "--d-model", "32", "--epochs", "300"),
            ("hyperagg.classifier.estimator",),
            prepare=_prepare_classifier,
        ),
        Product(
            "multimodal",
            _texts,
            (
                *("train", "DATA", "--text", "text", "--number", "number"),
                *("--d-model", "32", "--epochs", "4"),
            ),
            ("hyperagg.multimodal.base_estimator",),
            prepare=_prepare_multimodal,
        ),
        Product(
            "language",
            _texts,
            (
                *("lm", "train", "DATA", "--tokenizer", "words", "--vocab-size", "500"),
                *("--d-model", "32", "--layers", "2", "--sequence-length", "32"),
                *("--max-steps", "60", "--save-steps", "8"),
            ),
            ("hyperagg.language.trainer", "hyperagg.language.serialization"),
            checkpoint="checkpoints/checkpoint-*/trainer_state.json",
        ),
        Product(
            "diffusion",
            _images,
            (
                *("diffusion", "train", "DATA", "--d-model", "16", "--layers", "2"),
                *("--steps", "60", "--batch-size", "8", "--save-steps", "8"),
            ),
            ("hyperagg.diffusion.trainer",),
            checkpoint="checkpoint.safetensors",
            weights="denoiser/diffusion_pytorch_model.safetensors",
        ),
    )
}


def _interrupt(process: int) -> None:
    os.kill(process, signal.SIGINT)


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def _terminate(process: int) -> None:
    os.kill(process, signal.SIGTERM)


def _hang_up(process: int) -> None:
    os.kill(process, signal.SIGHUP)


def _fill_disk(process: int) -> None:
    """From now on every write beyond the first bytes of a file fails, as on a full disk."""
    with suppress(OSError):  # the process has ended
        _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, hard))


# What happens to the process, and the exit codes that it may have then; 0: it ended before.
FAULTS: dict[str, tuple[Callable[[int], None], tuple[int, ...]]] = {
    "kill": (_kill, (-signal.SIGKILL, 0)),
    "terminate": (_terminate, (143, 0)),
    "interrupt": (_interrupt, (130, 0)),
    "hang up": (_hang_up, (129, 0)),
    "disk full": (_fill_disk, (2, 0)),
}


def study_faults(
    out: Path,
    work: Path,
    *,
    moments: int = 20,
    products: tuple[str, ...] = tuple(PRODUCTS),
    faults: tuple[str, ...] = tuple(FAULTS),
    resume: bool = False,
) -> str:
    """Measure all faults of all products, write results.json and table.md, and return the table.

    Args:
        out: output folder.
        work: folder for data and models.
        moments: number of moments per product and fault, evenly spaced over the training.
        products: names out of PRODUCTS.
        faults: names out of FAULTS.
        resume: whether to continue after the last fault of an interrupted call; those of earlier
            calls are in the results as well.

    Raises:
        ValueError: `out` holds measurements with another number of moments.
    """
    runs = Runs(out / "runs.json", f"{moments} moments of CPU time", resume)
    for name, fault in itertools.product(products, faults):
        key = f"{name} {fault}"
        if key not in runs.done:
            cases = run_faults(PRODUCTS[name], work / name, moments, (fault,))[fault]
            runs.add(key, {"cases": [asdict(case) for case in cases]})
    # Also those of earlier calls.
    found: dict[str, dict[str, Any]] = {}
    for name, fault in itertools.product(PRODUCTS, FAULTS):
        if (key := f"{name} {fault}") in runs.done:
            found.setdefault(name, {})[fault] = runs.done[key]["cases"]
    results = {"moments": moments, "environment": runs.environment(), "products": found}
    write_results(out, results)
    table = faults_table(results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(table, "utf-8")
    return table


def run_faults(
    product: Product, folder: Path, moments: int, faults: tuple[str, ...] = tuple(FAULTS)
) -> dict[str, list[Case]]:
    """Return the cases of each fault; the folder is for data and models."""
    folder.mkdir(parents=True, exist_ok=True)
    data = product.make_data(folder)
    arguments = [str(data) if part == "DATA" else part for part in product.arguments]
    old, new = folder / "old", folder / "new"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not survive a fork
    for module in ("hyperagg.cli", *product.modules):
        import_module(module)
    product.prepare()
    _train([*arguments, "--out", str(old), "--seed", "1", "--force"])  # compiles
    seconds = _train([*arguments, "--out", str(new), "--force"])
    models = {_model_of(path) for path in (old, new)}
    expected = (new / product.weights).read_bytes()

    def run_case(fault: str, moment: float) -> Case:
        nonlocal seconds
        out = folder / "model"
        act, codes = FAULTS[fault]
        command = [*arguments, "--out", str(out), "--force"]
        for _ in range(_MAX_TRIES):
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(old, out)
            code, err, used = _run(command, act, moment * seconds)
            if code != 0:
                break
            seconds = used
        whole = _model_of(out) in models
        held = any(out.glob(product.checkpoint))
        again, again_err, _ = _run([*command, "--resume"])
        same = again == 0 and (out / product.weights).read_bytes() == expected
        lines = [line for line in err.splitlines() if line.startswith("hyperagg: ")]
        well = code in codes and len(lines) <= 1 and "Traceback" not in err
        last = (err if same else again_err).strip().splitlines()[-1:] or [""]
        # The folder is a temporary one, and another one in each run.
        message = last[0].replace(f"{folder}{os.sep}", "")
        return Case(moment, code, well, whole, held, same, message)

    return {
        fault: [run_case(fault, (i + 0.5) / moments) for i in range(moments)] for fault in faults
    }


def faults_table(results: Mapping[str, Any]) -> str:
    """Return a Markdown table: of the cases, in how many all was as it should be."""
    columns = ("product", "fault", "cases", "stopped", "ended well", "model whole", "checkpoint",
               "same bits")  # fmt: skip
    rows = [
        (
            product,
            fault,
            str(len(cases)),
            str(sum(case["code"] != 0 for case in cases)),
            *(
                str(sum(case[name] for case in cases))
                for name in ("ended_well", "model_whole", "had_checkpoint", "same_bits")
            ),
        )
        for product, faults in results["products"].items()
        for fault, cases in faults.items()
    ]
    return markdown_table(columns, rows)


def _train(command: list[str]) -> float:
    """Run a command that has to succeed, and return its CPU time."""
    code, err, seconds = _run(command)
    if code != 0:
        raise RuntimeError(f"hyperagg {' '.join(command)}: ended with {code}\n{err}")
    return seconds


def _run(
    command: list[str], act: Callable[[int], None] | None = None, after: float = 0.0
) -> tuple[int, str, float]:
    """Run a command in a forked process; return its exit code, what it printed and its CPU time.

    After so many seconds of CPU time, `act` is called with the number of the process.
    """
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        os._exit(_run_here(command, writer))
    os.close(writer)
    has_ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(process, act, after, has_ended))
    watch.start()
    with os.fdopen(reader, "rb") as pipe:
        printed = pipe.read().decode("utf-8", "replace")
    # Before the number of the process may belong to another one.
    has_ended.set()
    watch.join()
    _, status, usage = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), printed, usage.ru_utime + usage.ru_stime


def _watch(
    process: int, act: Callable[[int], None] | None, after: float, has_ended: threading.Event
) -> None:
    """Call `act` when a process has used its time, and kill the process if it does not end."""
    deadline = time.monotonic() + _TIME_LIMIT
    clock = (~process << 3) | 2  # as clock_getcpuclockid of Linux has it
    with suppress(OSError):  # the process has ended
        while not has_ended.wait(_POLL_SECONDS):
            if act is not None and time.clock_gettime(clock) >= after:
                act(process)
                act = None
            if time.monotonic() > deadline:
                _kill(process)
                return


def _run_here(command: list[str], writer: int) -> int:
    """Run a command in this process; return its exit code."""
    from hyperagg.cli import main

    sys.argv = ["hyperagg", *command, "--quiet"]  # lines of progress are not about the fault
    # What the command that runs the study has set up is not part of the one that is studied.
    logging.getLogger("hyperagg").handlers.clear()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        os.fdopen(writer, "w", encoding="utf-8", buffering=1) as pipe,
        redirect_stderr(pipe),
        redirect_stdout(io.StringIO()),
    ):
        try:
            main()
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc(file=pipe)
            return 1
    return 0


def _model_of(folder: Path) -> bytes:
    """The weights of a folder, each with the path of its file; a card may differ in its title."""
    return b"".join(
        str(path.relative_to(folder)).encode() + path.read_bytes() for path in _weight_files(folder)
    )


def _weight_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.safetensors")):
        relative = path.relative_to(folder)
        is_checkpoint = "checkpoint" in str(relative)
        if not is_checkpoint and not any(part.startswith(".") for part in relative.parts):
            yield path
