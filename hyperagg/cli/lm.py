"""hyperagg lm: train, evaluate and use language models."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperagg.cli.options import Format, Model, Resume, Text, output_folder, say

app = typer.Typer(no_args_is_help=True, help="Language models: train, generate, evaluate.")

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA|FILE",
        help="wikitext-2, a name that `hyperagg data list` shows, or a file with a text a row.",
    ),
]


@app.command(epilog="Example: hyperagg lm train ag-news --out headlines --max-steps 2000")
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path("lm"),
    layer_types: Annotated[
        str,
        typer.Option(
            help="gate, decay, rotation, sum, full_attention or none; one, or one a layer with "
            "commas between."
        ),
    ] = "gated",
    layers: Annotated[int, typer.Option(min=1, help="How many blocks.")] = 4,
    d_model: Annotated[int, typer.Option(min=1, help="Dimension of the vectors.")] = 256,
    conv_kernel_size: Annotated[
        int, typer.Option(min=0, help="Tokens that a convolution before each sum takes; 0: none.")
    ] = 0,
    tokenizer: Annotated[
        str, typer.Option(help="bpe or words to learn one, or the folder of a model.")
    ] = "bpe",
    vocab_size: Annotated[int, typer.Option(min=2, help="Of the tokenizer to learn.")] = 8192,
    sequence_length: Annotated[int, typer.Option(min=2, help="Tokens of a packed row.")] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a step, over all processes.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 4e-3,
    epochs: Annotated[float, typer.Option(min=0.001, help="Passes over the texts.")] = 1.0,
    max_steps: Annotated[int | None, typer.Option(min=1, help="In place of epochs.")] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    activation_checkpointing: Annotated[
        bool, typer.Option("--activation-checkpointing", help="Less memory, more time.")
    ] = False,
    save_steps: Annotated[int, typer.Option(min=1, help="How often to write a state.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and the order of rows.")] = 0,
    text: Text = None,
    format: Format = None,
    resume: Resume = False,
) -> None:
    """Train a language model on texts; with torchrun or accelerate launch in several processes."""
    quiet()
    from transformers import set_seed

    from hyperagg.language.configuration_hyperagg import HyperAggConfig
    from hyperagg.language.modeling_hyperagg import HyperAggForCausalLM
    from hyperagg.language.packing import pack
    from hyperagg.language.serialization import complete, load, measured
    from hyperagg.language.tokenizer import KINDS, load_tokenizer, train_tokenizer
    from hyperagg.language.trainer import Recipe, last_checkpoint, remove_checkpoints, train_model

    corpus = _corpus(data, text, format)
    main = int(os.environ.get("RANK", "0")) == 0
    if tokenizer in KINDS:
        words = train_tokenizer(corpus.train, tokenizer, vocab_size)
    else:
        words = load_tokenizer(Path(tokenizer))
    kinds = layer_types.split(",")
    config = HyperAggConfig(
        vocab_size=len(words),
        hidden_size=d_model,
        num_hidden_layers=layers,
        layer_types=kinds[0] if len(kinds) == 1 else kinds,
        conv_kernel_size=conv_kernel_size,
        max_position_embeddings=sequence_length if "prefix_sum" in kinds else None,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    set_seed(seed)
    model = HyperAggForCausalLM(config)
    token_ids = words(corpus.train, add_special_tokens=False)["input_ids"]
    rows = pack(token_ids, words.eos_token_id, sequence_length)
    recipe = Recipe(
        batch_size=batch_size,
        learning_rate=learning_rate,
        epochs=epochs,
        max_steps=max_steps,
        bf16=bf16,
        activation_checkpointing=activation_checkpointing,
        save_steps=save_steps,
        seed=seed,
    )
    if main:
        say(f"{corpus.source}: {len(corpus.train):,} texts, {rows.token_ids.size:,} tokens")
        say(f"{model.num_parameters():,} parameters, {len(words):,} of them words or parts")
    with output_folder(out):
        if resume and main and last_checkpoint(out) is None:
            say(f"no interrupted training in {out}: starting from the beginning")
        try:
            trained = train_model(model, rows, out, recipe, resume=resume, shown=_watched())
        except KeyboardInterrupt:
            if main and last_checkpoint(out):
                say(f"stopped; the state is in {out}, go on with the same command and --resume")
            raise
        if main:
            words.save_pretrained(out)
            saved, _ = load(out)
            results = {
                "data": corpus.source,
                "config": config.to_diff_dict(),
                "recipe": asdict(recipe),
                "trained": asdict(trained),
                "validation": measured(saved, words, corpus.validation, shown=_watched()),
            }
            complete(out, saved, results)
            remove_checkpoints(out)
            say(f"{trained.steps:,} steps, {trained.tokens_per_second:,.0f} tokens/s -> {out}")
            if results["validation"]:
                _tell(results["validation"], len(corpus.validation))


@app.command(epilog='Example: hyperagg lm generate headlines --prompt "Oil prices" --samples 3')
def generate(
    model: Model,
    prompt: Annotated[
        str, typer.Option(help="What the text begins with; - reads a prompt a line.")
    ] = "",
    samples: Annotated[int, typer.Option(min=1, help="Texts for each prompt.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where to stop at the latest.")] = 100,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 always takes the most probable token.")
    ] = 0.8,
    top_p: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the most probable tokens, so much.")
    ] = 0.95,
    beams: Annotated[int, typer.Option(min=1, help="Beam search, in place of sampling.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same texts.")] = 0,
) -> None:
    """Write texts, one a line."""
    quiet()
    from transformers import set_seed

    from hyperagg.language.serialization import load

    network, words = load(model)
    prompts = [line.rstrip("\n") for line in sys.stdin] if prompt == "-" else [prompt]
    sampled = temperature > 0 and beams == 1
    options: dict[str, Any] = dict(do_sample=sampled, max_new_tokens=max_new_tokens)
    if sampled:
        options |= dict(temperature=temperature, top_p=top_p, top_k=0)
    set_seed(seed)
    start = words.eos_token
    for begin in range(0, len(prompts), 32):
        texts = [start + text for text in prompts[begin : begin + 32] for _ in range(samples)]
        inputs = words(texts, add_special_tokens=False, padding=True, return_tensors="pt")
        written = network.generate(  # type: ignore[operator]
            inputs["input_ids"], attention_mask=inputs["attention_mask"], num_beams=beams, **options
        )
        for text in words.batch_decode(written, skip_special_tokens=True):
            print(" ".join(text.split()))


@app.command(epilog="Example: hyperagg lm evaluate headlines ag-news")
def evaluate(
    model: Model,
    data: Data,
    window: Annotated[
        int | None,
        typer.Option(min=2, help="Predict from windows of so many tokens; else from all before."),
    ] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="How far a window moves.")] = None,
    text: Text = None,
    format: Format = None,
) -> None:
    """Perplexity per token and word, and bits per byte; of a data set on its test split."""
    quiet()
    from hyperagg.language.serialization import load, measured

    network, words = load(model)
    corpus = _corpus(data, text, format)
    texts = corpus.test or corpus.train + corpus.validation
    result = measured(network, words, texts, window=window, stride=stride, shown=_watched())
    assert result is not None
    _tell(result, len(texts))
    print(json.dumps(result))


def _corpus(data: str, text: str | None, format: str | None) -> Any:
    from hyperagg.data import load_corpus, read_corpus
    from hyperagg.data.readers.files import display_name

    if data != "-" and not Path(data).exists() and not Path(data).suffix:
        return load_corpus(data)
    corpus = read_corpus(data, text, format=format)
    if not any(each.strip() for each in corpus.train):
        raise ValueError(f"{display_name(data)}: there is no text in it")
    return corpus


def _tell(result: dict[str, float], texts: int) -> None:
    say(
        f"{texts:,} texts: perplexity {result['perplexity']:.2f} a token, "
        f"{result['perplexity_per_word']:.2f} a word; {result['bits_per_byte']:.3f} bits a byte"
    )


def _watched() -> bool:
    return sys.stderr.isatty() and int(os.environ.get("RANK", "0")) == 0


def quiet() -> None:
    """Of what transformers has to say, what a user of the command line can do something about."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "language models need transformers; pip install 'hyperagg[language]' brings it"
        ) from error
    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
