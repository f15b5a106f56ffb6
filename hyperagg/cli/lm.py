"""hyperagg lm: train, sample from, evaluate, export and upload language models."""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperagg._common.terminal import echo
from hyperagg.cli._duration import parse_duration
from hyperagg.cli._streams import standard_input
from hyperagg.cli.options import (
    Force,
    ForceFile,
    Format,
    OnError,
    Quiet,
    Resume,
    Text,
    Threads,
    check_output_file,
    check_training_folder,
    keep_checkpoint,
    logger,
    output_folder,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Train, sample from, evaluate, export and upload causal language models.",
)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Name of a data set (see `hyperagg data list`), or a file with one text per row.",
    ),
]
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Folder that `hyperagg lm train` wrote.")
]
PROMPTS_PER_BATCH = 32


@app.command(epilog="Example: hyperagg lm train ag-news --out headlines --max-steps 2000")
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path("lm"),
    layer_types: Annotated[
        str,
        typer.Option(
            help="Mixer of all layers, or one per layer, separated by commas: gated, decay, "
            "complex_decay, prefix_sum, associative, gated_associative, full_attention or identity."
        ),
    ] = "gated",
    layers: Annotated[int, typer.Option(min=1, help="Number of layers.")] = 4,
    d_model: Annotated[int, typer.Option(min=1, help="Dimension of the token vectors.")] = 256,
    associative_heads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Heads of associative and gated_associative layers (default: a 128th of "
            "--d-model, at least 1).",
        ),
    ] = None,
    conv_kernel_size: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of tokens of a convolution before each sum; 0 omits the convolution.",
        ),
    ] = 0,
    tokenizer: Annotated[
        str,
        typer.Option(
            help="Train a tokenizer of this type, bpe or words; or load the tokenizer of this "
            "model folder."
        ),
    ] = "bpe",
    vocab_size: Annotated[
        int, typer.Option(min=2, help="Maximum number of tokens of a trained tokenizer.")
    ] = 8192,
    sequence_length: Annotated[
        int, typer.Option(min=2, help="Number of tokens per packed row.")
    ] = 256,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Number of rows per step, over all processes.")
    ] = 8,
    learning_rate: Annotated[float, typer.Option(help="Maximum learning rate.")] = 4e-3,
    epochs: Annotated[
        float, typer.Option(min=0.001, help="Number of passes over the texts.")
    ] = 1.0,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Number of steps; overrides --epochs.")
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Time for the training, in seconds or such as 30m or 2h. If it does not suffice, "
            "the learning rate falls to zero in its last fifth, and --resume continues the "
            "training. Reading texts and measuring perplexity come in addition.",
        ),
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    activation_checkpointing: Annotated[
        bool,
        typer.Option(
            "--activation-checkpointing",
            help="Recompute activations in the backward pass: less memory, more time.",
        ),
    ] = False,
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 200,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the initial weights and of the order of the rows.")
    ] = 0,
    text: Text = None,
    format: Format = None,
    on_error: OnError = "stop",
    resume: Resume = False,
    force: Force = False,
    threads: Threads = None,
    hide_progress: Quiet = False,  # `quiet` is a function here
) -> None:
    """Train a language model on texts.

    To train in several processes, start the command with torchrun or `accelerate launch`.
    """
    quiet()
    from hyperagg._common.torch_random import seeded
    from hyperagg.data.readers.columns import pluralize
    from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
    from hyperagg.language.packing import pack
    from hyperagg.language.serialization import compute_metrics, load_model, write_metadata
    from hyperagg.language.tokenizer import TOKENIZER_TYPES, encode, load_tokenizer, train_tokenizer
    from hyperagg.language.trainer import (
        TrainingConfig,
        check_checkpoints,
        find_last_checkpoint,
        remove_checkpoints,
        train_model,
    )

    # The options are checked before the texts are read.
    training_config = TrainingConfig(
        batch_size=batch_size,
        learning_rate=learning_rate,
        epochs=epochs,
        max_steps=max_steps,
        bf16=bf16,
        activation_checkpointing=activation_checkpointing,
        save_steps=save_steps,
        seed=seed,
        time_limit=None if time_limit is None else parse_duration("--time-limit", time_limit),
    )
    names = [name.strip() for name in layer_types.split(",")]
    if associative_heads is not None and not {"associative", "gated_associative"} & {*names}:
        raise ValueError(
            f"--associative-heads {associative_heads}: expected associative or gated_associative "
            "among --layer-types"
        )
    config = HyperAggConfig(
        vocab_size=vocab_size,
        hidden_size=d_model,
        num_hidden_layers=layers,
        layer_types=names[0] if len(names) == 1 else names,
        conv_kernel_size=conv_kernel_size,
        num_associative_heads=associative_heads,
        max_position_embeddings=sequence_length if "prefix_sum" in names else None,
    )
    is_main_process = _is_main_process()
    check_checkpoints(out)
    if is_main_process:
        check_training_folder(out, find_last_checkpoint(out), resume, force)
    corpus = _load_corpus(data, text, format, on_error)
    progress = None if is_main_process else False
    if tokenizer in TOKENIZER_TYPES:
        text_tokenizer = train_tokenizer(corpus.train, tokenizer, vocab_size)
    else:
        text_tokenizer = load_tokenizer(Path(tokenizer))
    config.vocab_size = len(text_tokenizer)
    config.bos_token_id = text_tokenizer.bos_token_id
    config.eos_token_id = text_tokenizer.eos_token_id
    config.pad_token_id = text_tokenizer.pad_token_id
    with seeded(seed):
        model = HyperAggForCausalLM(config)
    token_ids = encode(text_tokenizer, corpus.train)["input_ids"]
    dataset = pack(token_ids, text_tokenizer.eos_token_id, sequence_length)
    if is_main_process:
        logger.info(
            f"{corpus.source}: {len(corpus.train):,} texts, {dataset.input_ids.size:,} tokens"
        )
        logger.info(
            f"{model.num_parameters():,} parameters, vocabulary of {len(text_tokenizer):,} tokens"
        )
    last_checkpoint = partial(find_last_checkpoint, out)
    with (
        output_folder(out, lock=is_main_process),
        keep_checkpoint(out, last_checkpoint) if is_main_process else nullcontext(),
    ):
        training = train_model(
            model,
            dataset,
            out,
            training_config,
            tokenizer=text_tokenizer,
            resume=resume,
            progress=progress,
        )
        if not is_main_process:
            return
        validation = None
        if training.kept_steps is None:
            saved, _ = load_model(out)
            validation = compute_metrics(
                saved, text_tokenizer, corpus.validation, progress=progress
            )
            results = {
                "command": shlex.join(["hyperagg", *sys.argv[1:]]),
                "data": corpus.source,
                "config": config.to_diff_dict(),
                "training_config": asdict(training_config),
                "training": asdict(training),
                "validation": validation,
            }
            write_metadata(out, saved, results)
        if training.is_complete:
            remove_checkpoints(out)
    logger.info(
        f"{pluralize(training.steps, 'step')}, {training.tokens_per_second:,.0f} tokens/s -> {out}"
    )
    if not training.is_complete:
        logger.info(
            f"the time limit ended the training after {training.steps:,} of "
            f"{training.max_steps:,} steps ({100 * training.steps / training.max_steps:.0f} %): "
            f"repeat the command with --resume to continue from step {training.resume_step:,}"
        )
        if training.kept_steps is not None:
            logger.warning(
                f"{out} keeps the model of an earlier call, of {training.kept_steps:,} steps: this "
                "one made fewer, or its learning rate did not fall"
            )
        elif not training.cooldown_steps:
            logger.warning("the time was too short for the learning rate to fall to zero")
    if validation:
        _print_metrics(validation, len(corpus.validation))


@app.command(epilog='Example: hyperagg lm generate headlines --prompt "Oil prices" --samples 3')
def generate(
    model: Model,
    prompt: Annotated[
        str,
        typer.Option(help="Beginning of the text; - reads one prompt per line of standard input."),
    ] = "",
    samples: Annotated[int, typer.Option(min=1, help="Number of texts per prompt.")] = 1,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum number of tokens to generate per text.")
    ] = 100,
    temperature: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Divide the logits by this value before sampling; 0 takes the most probable "
            "token.",
        ),
    ] = 0.8,
    top_p: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Nucleus sampling: keep the smallest set of tokens whose total probability "
            "reaches this value.",
        ),
    ] = 0.95,
    beams: Annotated[
        int, typer.Option(min=1, help="Number of beams; more than 1 replaces sampling.")
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the sampling; the same seed gives the same texts.")
    ] = 0,
    threads: Threads = None,
) -> None:
    """Generate texts, one per line."""
    quiet()
    from transformers import set_seed

    from hyperagg.language.serialization import load_model
    from hyperagg.language.tokenizer import encode

    language_model, tokenizer = load_model(model)
    prompts = [line.rstrip("\n") for line in standard_input()] if prompt == "-" else [prompt]
    do_sample = temperature > 0 and beams == 1
    options: dict[str, Any] = dict(do_sample=do_sample, max_new_tokens=max_new_tokens)
    if do_sample:
        options |= dict(temperature=temperature, top_p=top_p, top_k=0)
    set_seed(seed)
    for start in range(0, len(prompts), PROMPTS_PER_BATCH):
        batch = prompts[start : start + PROMPTS_PER_BATCH]
        texts = [tokenizer.eos_token + text for text in batch for _ in range(samples)]
        inputs = encode(tokenizer, texts, padding=True, return_tensors="pt")
        generated = language_model.generate(  # type: ignore[operator]
            inputs["input_ids"], attention_mask=inputs["attention_mask"], num_beams=beams, **options
        )
        for text in tokenizer.batch_decode(generated, skip_special_tokens=True):
            echo(" ".join(text.split()))


@app.command(epilog="Example: hyperagg lm evaluate headlines ag-news")
def evaluate(
    model: Model,
    data: Data,
    window: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Predict from windows of this many tokens (default: from all preceding tokens).",
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of tokens by which a window moves (default: half of --window)."
        ),
    ] = None,
    convention: Annotated[
        str,
        typer.Option(
            help="end-of-text predicts and counts the token that ends each text; lm-eval neither "
            "predicts nor counts it, as lm-evaluation-harness."
        ),
    ] = "end-of-text",
    text: Text = None,
    format: Format = None,
    on_error: OnError = "stop",
    threads: Threads = None,
) -> None:
    """Measure perplexity, perplexity per word and bits per byte, and print them as JSON.

    The perplexity has a standard error, over the texts or, if there are few, over parts of them. A
    data set is evaluated on its test split.
    """
    quiet()
    from hyperagg.language.serialization import compute_metrics, load_model

    if stride is not None and window is None:
        raise ValueError(f"--stride {stride}: expected together with --window")
    language_model, tokenizer = load_model(model)
    corpus = _load_corpus(data, text, format, on_error)
    texts = corpus.test or corpus.train + corpus.validation
    metrics = compute_metrics(
        language_model, tokenizer, texts, window=window, stride=stride, convention=convention
    )
    assert metrics is not None
    _print_metrics(metrics, len(texts))
    echo(json.dumps(metrics))


@app.command(epilog="Example: hyperagg lm export headlines headlines.onnx")
def export(
    model: Model,
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The file to write.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Store the weights in 8 bits: about a third of the size.")
    ] = False,
    force: ForceFile = False,
    threads: Threads = None,
) -> None:
    """Write an ONNX graph from token ids and a state to logits and the next state."""
    quiet()
    from hyperagg.language.onnx_export import export_onnx
    from hyperagg.language.serialization import load_model

    check_output_file(file, (".onnx",), force)
    language_model, _ = load_model(model)
    export_onnx(language_model, file, int8=int8)
    logger.info(f"{file.stat().st_size:,} bytes -> {file}")


@app.command(epilog="Example: hyperagg lm push headlines me/headlines")
def push(
    model: Model,
    repo_id: Annotated[
        str, typer.Argument(metavar="REPO_ID", help="Repository on the Hugging Face Hub.")
    ],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public",
            help="Visibility of a new repository (default: the owner's setting).",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch to commit to (default: the main branch).")
    ] = None,
) -> None:
    """Upload a model to the Hugging Face Hub with a model card: its perplexity and its command."""
    quiet()
    from hyperagg.language.serialization import push_to_hub

    echo(push_to_hub(model, repo_id, private=private, revision=revision))


def _load_corpus(data: str, text: str | None, format: str | None, on_error: str) -> Any:
    from hyperagg.data import load_corpus, read_corpus
    from hyperagg.data.readers.columns import pluralize
    from hyperagg.data.readers.files import display_name

    if data != "-" and not Path(data).exists() and not Path(data).suffix:
        for option, given in {
            "--text": text,
            "--format": format,
            "--on-error": None if on_error == "stop" else on_error,
        }.items():
            if given is not None:
                raise ValueError(
                    f"{option}: applies to a file; {data} is read as the name of a data set"
                )
        return load_corpus(data)
    corpus = read_corpus(data, text, format=format, on_error=on_error)
    if not any(each.strip() for each in corpus.train):
        raise ValueError(f"{display_name(data)}: expected at least one text that is not empty")
    if corpus.left_out and _is_main_process():
        rows = pluralize(len(corpus.left_out), "row")
        logger.info(f"left out {rows} (first: {corpus.left_out[0]})")
    return corpus


def _print_metrics(metrics: dict[str, Any], num_texts: int) -> None:
    from hyperagg.language.serialization import format_perplexity

    logger.info(
        f"{num_texts:,} texts: perplexity {format_perplexity(metrics)}, perplexity per word "
        f"{metrics['perplexity_per_word']:.2f}, {metrics['bits_per_byte']:.3f} bits per byte"
    )


def _is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def quiet() -> None:
    """Silence messages of transformers that a user of the command line cannot act on."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # The first import names the extra if a package is missing.
    import hyperagg.language  # noqa: F401, I001
    import transformers

    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
