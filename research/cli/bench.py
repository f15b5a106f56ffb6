"""python -m research bench: measure speed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from research.cli.options import Resume, output_folder, split_integers, split_names

app = typer.Typer(
    no_args_is_help=True,
    help="Measure the speed of ops, classifiers and language models on this machine.",
    epilog="Example: python -m research bench ops",
)

Quick = Annotated[bool, typer.Option("--quick", help="Use tiny inputs, for a trial run.")]


@app.callback()
def group() -> None:
    """Make `bench` a group of commands."""


@app.command(epilog="Example: python -m research bench ops --out runs/bench-ops")
def ops(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-ops"),
    quick: Quick = False,
) -> None:
    """Compare the ops with a memory copy, torch.cumsum, attention and nn.EmbeddingBag."""
    from research.benchmarks.ops import FULL_SIZE, QUICK, bench_ops
    from research.benchmarks.ops_page import write_ops_page

    with output_folder(out, resumable=False):
        results = bench_ops(QUICK if quick else FULL_SIZE)
        write_ops_page(out, results)
    forward = results["causal"]["forward"]
    for name, seconds in forward.items():
        ratio = seconds / forward["aggregate"]
        print(f"{name}: {1000 * seconds:.2f} ms, {ratio:.1f} × the time of aggregate")
    print(f"Wrote README.md, table.md, results.json and figures to {out}")


@app.command(epilog="Example: python -m research bench text --datasets ag-news --threads 1,2")
def text(
    datasets: Annotated[
        str, typer.Option(help="Names listed by `hyperagg data list`, separated by commas.")
    ] = "imdb,ag-news",
    threads: Annotated[
        str, typer.Option(help="Numbers of threads to measure, separated by commas.")
    ] = "1,2",
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-text"),
    quick: Quick = False,
) -> None:
    """Compare the classifier with fastText: training, prediction, time to equal accuracy."""
    from research.benchmarks.text import FULL_TEXT, QUICK_TEXT, bench_text
    from research.benchmarks.text_page import text_table, write_text_page
    from research.data.text_sets import load_texts

    numbers = split_integers("--threads", threads)
    loaded = [load_texts(name) for name in split_names("--datasets", datasets)]
    with output_folder(out, resumable=False):
        results = bench_text(loaded, numbers, QUICK_TEXT if quick else FULL_TEXT)
        write_text_page(out, results)
    print(text_table(results))
    print(f"Wrote README.md, table.md, results.json and ratios.png to {out}")


@app.command(epilog="Example: python -m research bench scaling --datasets r8,ag-news")
def scaling(
    datasets: Annotated[
        str, typer.Option(help="Names listed by `hyperagg data list`, separated by commas.")
    ] = "r8,ag-news",
    threads: Annotated[
        str, typer.Option(help="Numbers of threads to measure, separated by commas.")
    ] = "1,2,4,8,16",
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-scaling"),
    quick: Quick = False,
) -> None:
    """Measure training by number of threads, on idle and on busy cores (Linux)."""
    from hyperagg.data import load_dataset
    from research.benchmarks.scaling import (
        FULL_SCALING,
        QUICK_SCALING,
        bench_scaling,
        write_scaling_page,
    )

    numbers = split_integers("--threads", threads)
    loaded = [load_dataset(name) for name in split_names("--datasets", datasets)]
    with output_folder(out, resumable=False):
        results = bench_scaling(loaded, numbers, QUICK_SCALING if quick else FULL_SCALING)
        write_scaling_page(out, results)
    print(f"Wrote README.md and results.json to {out}")


@app.command(epilog="Example: python -m research bench busy --dataset r8 --rounds 5")
def busy(
    dataset: Annotated[str, typer.Option(help="A name listed by `hyperagg data list`.")] = "r8",
    threads: Annotated[
        str, typer.Option(help="Numbers of threads beside the default, separated by commas.")
    ] = "1,2,4",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved runs of each number.")] = 5,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-busy"),
    quick: Quick = False,
) -> None:
    """Measure training where cores are few, busy or limited by a quota (Linux, as root)."""
    from research.benchmarks.busy import bench_busy, busy_table, write_busy_page

    numbers = [*split_integers("--threads", threads), None]
    with output_folder(out, resumable=False):
        results = bench_busy(dataset, numbers, 1 if quick else rounds, limit=100 if quick else None)
        write_busy_page(out, results)
    print(busy_table(results))
    print(f"Wrote README.md and results.json to {out}")


@app.command(epilog="Example: python -m research bench lm --threads 2 --out runs/bench-lm")
def lm(
    threads: Annotated[
        str | None,
        typer.Option(
            help="Numbers of threads to measure, separated by commas (default: PyTorch's)."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-lm"),
    quick: Quick = False,
) -> None:
    """Compare language models of sums with attention: training by length, decoding by context."""
    from research.benchmarks.language import FULL_LANGUAGE, QUICK_LANGUAGE, bench_language
    from research.benchmarks.language_page import (
        decoding_table,
        training_table,
        write_language_page,
    )

    numbers = None if threads is None else split_integers("--threads", threads)
    with output_folder(out, resumable=False):
        results = bench_language(numbers, QUICK_LANGUAGE if quick else FULL_LANGUAGE)
        write_language_page(out, results)
    print(training_table(results))
    print(decoding_table(results))
    print(f"Wrote README.md, tables, results.json and speed.png to {out}")


@app.command(epilog="Example: python -m research bench predict --documents 1000000")
def predict(
    dataset: Annotated[
        str, typer.Option(help="Name listed by `hyperagg data list`: the source of words.")
    ] = "ag-news",
    documents: Annotated[int, typer.Option(min=8, help="Number of synthetic documents.")] = 400_000,
    words: Annotated[int, typer.Option(min=1, help="Words per document.")] = 200,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-predict"),
    quick: Quick = False,
) -> None:
    """Measure `hyperagg predict`: documents/s, memory, kill and resume, answers to a pipe."""
    from dataclasses import replace

    from hyperagg.data import load_dataset
    from research.benchmarks.predict import FULL_PREDICT, QUICK_PREDICT, bench_predict

    effort = QUICK_PREDICT if quick else replace(FULL_PREDICT, documents=documents, words=words)
    with output_folder(out, resumable=False):
        results = bench_predict(load_dataset(dataset), effort, out)
    for way, run in results["runs"].items():
        print(
            f"{way}: {run['documents_per_second']:,.0f} documents/s, "
            f"{run['peak_memory_bytes']['all'] / 1e6:,.0f} MB at most; ten million documents: "
            f"{run['hours_for_ten_million']:.2f} h (extrapolated)"
        )
    for extension, kills in results["kills"].items():
        print(
            f"{extension}: killed {kills['kills']} times, {kills['within_the_job']} within the "
            f"job, and resumed to equal bytes {kills['equal_outputs']} times"
        )
    for way, latency in results["latency"].items():
        print(
            f"a line through a pipe, {way}: median {latency['median_ms']:.2f} ms, at most "
            f"{latency['max_ms']:.2f} ms"
        )
    print(f"Wrote results.json to {out}")


@app.command(epilog="Example: python -m research bench fasttext-files lid.176.ftz")
def fasttext_files(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Further models of fastText, .bin or .ftz.")
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="Name listed by `hyperagg data list`.")
    ] = "languages-75",
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-fasttext-files"),
    quick: Quick = False,
) -> None:
    """Compare converted fastText models with fastText: labels, probabilities, documents/s."""
    from hyperagg.data import load_dataset
    from research.benchmarks.fasttext_files import FULL_FILES, QUICK_FILES, bench_fasttext_files

    effort = QUICK_FILES if quick else FULL_FILES
    with output_folder(out, resumable=False):
        results = bench_fasttext_files(load_dataset(dataset), files or [], effort, out)
    for name, model in results["models"].items():
        speed = model["documents_per_second"]
        print(
            f"{name}: {model['other_labels']} other labels in {results['texts']:,} texts, "
            f"probabilities within {model['greatest_difference']:.1e}, "
            f"{speed['hyperagg']:,.0f} documents/s, fastText {speed['fasttext']:,.0f}"
        )
    print(f"Wrote results.json and table.md to {out}")


@app.command(epilog="Example: python -m research bench pipelines --documents 10000")
def pipelines(
    dataset: Annotated[
        str, typer.Option(help="Name listed by `hyperagg data list`: the source of documents.")
    ] = "imdb",
    documents: Annotated[int, typer.Option(min=2, help="Number of documents.")] = 10_000,
    ray_documents: Annotated[
        int, typer.Option(min=0, help="Number of documents for Ray Data; 0 leaves it out.")
    ] = 100_000,
    rounds: Annotated[int, typer.Option(min=1, help="Number of runs of each job.")] = 3,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory", help="Measure the memory of eight workers with one model instead."
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-pipelines"),
    quick: Quick = False,
) -> None:
    """Compare pipelines with fastText in the same engine, and measure memory that workers share."""
    from dataclasses import replace

    from hyperagg.data import load_dataset
    from research.benchmarks.pipelines import FULL_PIPELINES, QUICK_PIPELINES, bench_pipelines
    from research.benchmarks.shared_memory import FULL_MEMORY, QUICK_MEMORY, bench_shared_memory

    if memory:
        with output_folder(out, resumable=False):
            results = bench_shared_memory(QUICK_MEMORY if quick else FULL_MEMORY, out)
        for way in ("mapped", "read"):
            size = results[way]
            print(
                f"{way}: {size['Pss'] / 1e6:,.0f} MB in all processes, of which "
                f"{size['Pss_File'] / 1e6:,.0f} MB of files; the model has "
                f"{results['model_bytes'] / 1e6:,.0f} MB"
            )
        print(f"Wrote results.json to {out}")
        return
    full = replace(FULL_PIPELINES, documents=documents, ray_documents=ray_documents, rounds=rounds)
    with output_folder(out, resumable=False):
        results = bench_pipelines(load_dataset(dataset), QUICK_PIPELINES if quick else full, out)
    for name, own in results["engines"].items():
        rate = own["documents_per_second"]
        print(
            f"{name}: {rate['median']:,.0f} documents/s, quartiles "
            f"{rate['first_quartile']:,.0f} to {rate['third_quartile']:,.0f}"
        )
    for name, own in results.get("ray", {}).items():
        if name != "documents":
            print(
                f"{name}, {results['ray']['documents']:,} documents: "
                f"{own['documents_per_second']:,.0f} documents/s after a start of "
                f"{own['start_seconds']:.1f} s"
            )
    print(f"Wrote results.json to {out}")


@app.command(epilog="Example: python -m research bench serve --seconds 5 --connections 100")
def serve(
    dataset: Annotated[
        str, typer.Option(help="Name listed by `hyperagg data list`: the source of texts.")
    ] = "ag-news",
    connections: Annotated[
        str, typer.Option(help="Numbers of connections, separated by commas.")
    ] = "100,1000,10000",
    workers: Annotated[
        str, typer.Option(help="Numbers of processes of a server, separated by commas.")
    ] = "1,2",
    words: Annotated[
        str, typer.Option(help="Lengths of texts in words, separated by commas.")
    ] = "10,1000",
    servers: Annotated[
        str | None,
        typer.Option(
            help="What is measured, separated by commas: hyperagg, fastapi, starlette, fasttext "
            "(default: all that are installed)."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of each measurement.")] = 60.0,
    rounds: Annotated[int, typer.Option(min=1, help="Number of measurements of each server.")] = 1,
    soak: Annotated[
        float,
        typer.Option(min=0, help="Seconds of load at the end, for the growth of memory; 0: none."),
    ] = 600.0,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-serve"),
    resume: Resume = False,
    quick: Quick = False,
) -> None:
    """Measure `hyperagg serve` under load, beside empty routes and fastText in FastAPI.

    By default about 70 minutes: for each server, and again for `hyperagg serve` at half of the
    connections, a minute for every number of connections, words and workers, and the soak.
    """
    from hyperagg.data import load_dataset
    from research.benchmarks.serve import (
        QUICK_SERVE,
        SERVERS,
        ServeEffort,
        bench_serve,
        serve_table,
    )

    names = None if servers is None else split_names("--servers", servers)
    for name in names or ():
        if name not in SERVERS:
            raise ValueError(f"--servers {name}: expected one of {', '.join(SERVERS)}")
    effort = ServeEffort(
        split_integers("--connections", connections),
        split_integers("--workers", workers),
        split_integers("--words", words),
        None if names is None else [SERVERS[name] for name in names],
        seconds,
        rounds,
        soak,
    )
    with output_folder(out):
        results = bench_serve(
            load_dataset(dataset), QUICK_SERVE if quick else effort, out, resume=resume
        )
    print(serve_table(results))
    print(f"Wrote results.json and table.md to {out}")


@app.command(epilog="Example: python -m research bench page --dataset ag-news")
def page(
    dataset: Annotated[str, typer.Option(help="Name listed by `hyperagg data list`.")] = "ag-news",
    model: Annotated[
        Path | None,
        typer.Option(help="A model that `hyperagg train` made of it (default: train one)."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-page"),
    quick: Quick = False,
) -> None:
    """Measure a classifier as one HTML file: size, accuracy, time to the first answer, parity."""
    from hyperagg.data import load_dataset
    from research.benchmarks.page import bench_page

    effort: dict[str, Any] = dict(max_tokens=(100,), texts=20, openings=1) if quick else {}
    with output_folder(out, resumable=False):
        results = bench_page(load_dataset(dataset), out, model=model, **effort)
    print(f"accuracy of the model: {results['accuracy']:.4f}, {results['tokens']:,} tokens")
    for each in results["pages"]:
        seconds, difference = each["seconds_to_first_answer"], each["largest_difference"]
        print(
            f"{each['tokens']:,} tokens: {each['bytes'] / 1e6:.2f} MB, accuracy "
            f"{each['accuracy']:.4f}, first answer after {seconds['median']:.2f} s, "
            f"{each['milliseconds_per_text']:.2f} ms per text, {each['same_tokens']} of "
            f"{each['texts']} texts with equal tokens, logits within {difference['logit']:.1e}"
        )
    print(f"Wrote results.json to {out}")


@app.command(epilog="Example: python -m research bench serve-lm --context 100000")
def serve_lm(
    context: Annotated[int, typer.Option(min=2, help="Tokens of a prompt.")] = 100_000,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/bench-serve-lm"),
    quick: Quick = False,
) -> None:
    """Measure a served language model: time to the first token with and without a kept state."""
    from dataclasses import replace

    from research.benchmarks.serve_language import (
        FULL_SERVE_LANGUAGE,
        QUICK_SERVE_LANGUAGE,
        bench_serve_language,
    )

    effort = QUICK_SERVE_LANGUAGE if quick else replace(FULL_SERVE_LANGUAGE, context=context)
    with output_folder(out, resumable=False):
        results = bench_serve_language(effort, out)
    seconds = results["seconds_to_first_token"]
    print(
        f"first token after {effort.context:,} tokens: {seconds['read']['median']:.3f} s, from the "
        f"kept state {seconds['kept']['median']:.3f} s; {results['state_bytes']:,} bytes of state"
    )
    for number, speed in results["tokens_per_second"].items():
        print(f"{number} texts at a time: {speed:,.0f} tokens/s")
    print(f"Wrote results.json to {out}")
