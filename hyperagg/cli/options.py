"""Arguments and options that several commands share."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperagg._common.atomic import remove_drafts
from hyperagg._common.folder_lock import locked_folder
from hyperagg._common.progress import without_progress
from hyperagg.cli._threads import limit_process_threads

__all__ = [
    "TUNING_FILE",
    "AnsweredOnError",
    "Delimiter",
    "Files",
    "Force",
    "ForceFile",
    "Format",
    "Json",
    "Label",
    "LabelSeparator",
    "Model",
    "NoHeader",
    "OnError",
    "OtherColumns",
    "Quiet",
    "Quoting",
    "Resume",
    "Seed",
    "Seeds",
    "Text",
    "Threads",
    "check_classes",
    "check_model_folder",
    "check_output_file",
    "check_replaceable",
    "check_training_folder",
    "existing",
    "held",
    "keep_checkpoint",
    "logger",
    "output_folder",
    "save_model",
]

# What `tune` writes beside the model that it has selected.
TUNING_FILE = "tuning.json"
# What a model of any kind consists of, and what it is trained with.
_MODEL_FILES = (
    *("README.md", "config.json", "model.safetensors", "tokenizer.json", "results.json"),
    *("checkpoint.safetensors", "training.safetensors", "model_index.json", TUNING_FILE),
)

# Messages for people; `run_app` shows them on standard error.
logger = logging.getLogger("hyperagg")


def _limit_threads(context: typer.Context, number: int | None) -> int | None:
    if number is not None:
        # The context of a command whose further options are wrong is not closed, unlike the root.
        context.find_root().with_resource(limit_process_threads(number))
    return number


def _hide_progress(context: typer.Context, quiet: bool) -> bool:
    if quiet:
        context.find_root().with_resource(without_progress())
    return quiet


Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Files, folders and patterns of CSV, TSV, JSON lines, Parquet or fastText files, also "
        "compressed (.gz, .zst, .bz2, .xz); - reads standard input.",
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model folder, or a model id of the hub.")
]
Text = Annotated[
    str | None, typer.Option("--text", help="Name of the text column (default: text).")
]
Label = Annotated[
    str | None, typer.Option("--label", help="Name of the label column (default: label).")
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(help="Separator of the labels in a CSV or TSV cell that holds several."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="csv, tsv, jsonl, parquet, fasttext or lines (default: by the name of FILE).",
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        help="Character between the fields of CSV or TSV (default: comma or tab).",
    ),
]
NoHeader = Annotated[
    bool,
    typer.Option("--no-header", help="The columns of CSV or TSV are called 1, 2 and so on."),
]
Quoting = Annotated[
    bool | None,
    typer.Option(
        "--quoting/--no-quoting",
        help="Whether fields can be in quotes (default: in CSV, not in TSV).",
    ),
]


def _check_on_error(context: typer.Context, value: str | None) -> str | None:
    answered = context.info_name in ("predict", "explain")  # also a text without words
    expected = ("empty", "stop", "skip") if answered else ("stop", "skip")
    if value is not None and value not in expected:
        raise ValueError(f"--on-error {value}: expected one of {', '.join(expected)}")
    return value


OnError = Annotated[
    str,
    typer.Option(
        callback=_check_on_error,
        help="What to do about a row that is malformed or lacks a text or a label: stop ends the "
        "command, skip leaves the row out.",
    ),
]
AnsweredOnError = Annotated[
    str | None,
    typer.Option(
        "--on-error",
        callback=_check_on_error,
        help="How to treat a row that is empty or malformed: empty takes it as a text without "
        "words, skip leaves it out, stop ends the command (default: empty for texts alone; stop "
        "where labels or several columns are read, which do not have empty).",
    ),
]


def _refuse_other_columns(context: typer.Context, names: list[str] | None) -> None:
    if names:
        raise ValueError(
            f"--number, --category, --image, --audio: hyperagg {context.info_name} trains on texts "
            "alone; expected --text, or hyperagg train for columns of other kinds"
        )


# Not shown; a command of texts alone explains what to use instead.
OtherColumns = Annotated[
    list[str] | None,
    typer.Option(
        *("--number", "--category", "--image", "--audio"),
        callback=_refuse_other_columns,
        hidden=True,
        help="Options of train that this command does not have.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same weights.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds to train with.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted call.")]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        callback=_hide_progress,
        help="Show no progress: neither a bar in a terminal nor lines in a log.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        callback=_limit_threads,
        help="Number of threads, at most one per usable processor (default: OMP_NUM_THREADS, or "
        "one per processor).",
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace a model or an interrupted training in the folder."),
]
ForceFile = Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")]


def single_file(files: Sequence[str], **table_options: object) -> str:
    """Return the one file that a model of more than texts reads, as a table.

    Raises:
        ValueError: there are several files, or an option is given that such a table does not have.
    """
    for name, value in table_options.items():
        if value not in (None, False):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: applies to a classifier of text alone; leave it out")
    if len(files) > 1:
        raise ValueError(
            f"{files[1]}: a model of more than texts reads one file; expected one FILE"
        )
    return files[0]


def check_classes(name: str, labels: Iterable[Any]) -> None:
    """Make sure that the rows of a file have two classes.

    Args:
        name: the name of the file.
        labels: one label per row, or a tuple of them.
    """
    classes = {one for own in labels for one in (own if isinstance(own, tuple) else (own,))}
    if len(classes) < 2:
        only = f"all labels are {classes.pop()!r}" if classes else "no row has a label"
        raise ValueError(f"{name}: {only}; expected at least two classes")


def check_training_folder(
    out: Path, checkpoint: Path | None, resume: bool, force: bool, finished: str = "config.json"
) -> None:
    """Make sure that a training into a folder replaces nothing that the user wants to keep.

    Args:
        out: the folder.
        checkpoint: where an interrupted training would be; None if there is none.
        resume: continue it.
        force: replace it, or the model.
        finished: the file that only a finished model has.

    Raises:
        ValueError: there is an interrupted training, and it is not resumed; or only a finished
            model; and it is not to be replaced.
    """
    interrupted = checkpoint is not None and checkpoint.exists()
    if force or (resume and interrupted):
        return
    if interrupted:
        raise held(out, "an interrupted training", "continue it with --resume")
    if (out / finished).exists():
        raise held(out, "a model")
    if resume:
        logger.info(f"{out} holds no interrupted training: training from the beginning")


def check_model_folder(out: Path, force: bool) -> None:
    """Make sure that a model saved to a folder replaces nothing that the user wants to keep.

    Raises:
        ValueError: there is a model or an interrupted training, and it is not to be replaced.
    """
    if force:
        return
    for name, content in (
        ("checkpoint.safetensors", "an interrupted training"),
        ("config.json", "a model"),
    ):
        if (out / name).exists():
            raise held(out, content)


def held(out: Path, content: str, advice: str = "give another folder") -> ValueError:
    """Return the error about a folder whose content is not to be replaced."""
    return ValueError(f"--out {out}: holds {content}; {advice}, or replace it with --force")


def check_output_file(file: Path, suffixes: Sequence[str], force: bool) -> None:
    """Make sure that a file may be written.

    Raises:
        ValueError: its name ends in none of `suffixes`, or it exists and is not to be replaced.
    """
    if file.suffix.lower() not in suffixes:
        raise ValueError(f"{file}: expected a name that ends in {' or '.join(suffixes)}")
    check_replaceable(file, force)


def check_replaceable(file: Path, force: bool) -> None:
    """Make sure that writing a file replaces nothing that the user wants to keep.

    Raises:
        ValueError: the file exists, and is not to be replaced.
    """
    if file.exists() and not force:
        raise ValueError(f"{file}: exists already; pass --force to replace it")


@contextmanager
def keep_checkpoint(out: Path, checkpoint: Callable[[], Path | None]) -> Iterator[None]:
    """Say how to go on if the block, a training and the saving of its model, does not end well.

    Args:
        out: the folder of the model.
        checkpoint: returns the checkpoint of the training; None if there is none.
    """
    try:
        yield
    except KeyboardInterrupt:
        if checkpoint() is None:
            logger.info("interrupted before there was a state to keep: repeat the command")
        else:
            logger.info(
                f"interrupted; the state is in {out}: repeat the command with --resume to continue"
            )
        raise
    except OSError as error:
        kept = checkpoint()
        if kept is None or error.filename is None:
            raise
        raise OSError(
            error.errno,
            f"{error.strerror}; the training is kept in {kept}: repeat the command with --resume "
            "to continue",
            error.filename,
        ) from error


def existing(checkpoint: Path) -> Path | None:
    """Return the checkpoint if it exists."""
    return checkpoint if checkpoint.exists() else None


def save_model(save: Callable[[Path], object], out: Path, checkpoint: Path | None = None) -> None:
    """Save a model; if that fails and no checkpoint has the training, save it somewhere else.

    What is left in the folder of a model or an interrupted training that it replaces is removed.

    Args:
        save: writes the model to a folder.
        out: the folder.
        checkpoint: where the checkpoint would be; None if such a training has none.

    Raises:
        OSError: the model could not be saved to `out`; the error says where it is instead.
    """
    from hyperagg._common.checkpoint import remove_checkpoint

    try:
        save(out)
    except OSError as error:
        if checkpoint is not None and checkpoint.exists():
            raise
        beside = None
        try:
            beside = Path(tempfile.mkdtemp(prefix="hyperagg-"))
            save(beside)
        except OSError:
            if beside is not None:
                shutil.rmtree(beside, ignore_errors=True)
            raise error from None
        raise OSError(
            error.errno, f"{error.strerror}; the model is in {beside} instead", error.filename
        ) from error
    (out / TUNING_FILE).unlink(missing_ok=True)
    remove_checkpoint(out / "checkpoint.safetensors")


@contextmanager
def output_folder(folder: Path, *, lock: bool = True) -> Iterator[None]:
    """Makes sure that `folder` exists and is writable, before hours of work and not after them.

    A folder that was created here is removed again if it is empty in the end. No other command can
    use the folder at the same time: its training would replace the checkpoint of this one. Of the
    processes of one command only the main one locks it.

    Raises:
        ValueError: the folder cannot be created or written to, or another command uses it.
    """
    resolved = folder.resolve()
    absent = [path for path in (resolved, *resolved.parents) if not path.exists()]
    try:
        try:
            resolved.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=resolved):
                pass
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(
                f"--out {folder}: it or a folder above it is a file; expected a folder"
            ) from error
        except OSError as error:
            raise ValueError(
                f"--out {folder}: cannot be written to ({error.strerror}); expected a writable "
                "folder"
            ) from error
        for name in _MODEL_FILES:
            if (resolved / name).is_dir():
                raise ValueError(
                    f"--out {folder}: {name} in it is a folder; a model has a file of that name"
                )
        with locked_folder(folder) if lock else nullcontext():
            if lock:
                remove_drafts(resolved)
            yield
    finally:
        for path in absent:
            try:
                path.rmdir()
            except OSError:  # it is not empty, or it was never created
                break
