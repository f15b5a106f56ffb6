"""python -m research study: train models, measure them, and write tables."""

from __future__ import annotations

import typer

from research.cli.study import capacity, diffusion, faults, first_job, language, multimodal, text

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Train models, measure them, and write results.json and tables.",
    epilog="Example: python -m research study reuters --protocol original",
)
app.command(epilog="Example: python -m research study reuters --protocol corrected --seeds 5")(
    text.reuters
)
app.command(epilog="Example: python -m research study accuracy --datasets r8,mr --seeds 5")(
    text.accuracy
)
app.command(
    "learning-curves",
    epilog="Example: python -m research study learning-curves --datasets r8 --draws 3",
)(text.learning_curves)
app.command(epilog="Example: python -m research study unlabelled --datasets r8 --draws 3")(
    text.unlabelled
)
app.command(epilog="Example: python -m research study tuning --datasets r8 --trials 10")(
    text.tuning
)
app.command(epilog="Example: python -m research study deletion --dataset r52 --texts 500")(
    text.deletion
)
app.command(
    "ag-news",
    epilog="Example: python -m research study ag-news --protocol original --texts 6000 --epochs 5",
)(language.ag_news)
app.command(
    "language-models",
    epilog="Example: python -m research study language-models wikitext-2 --size small --seeds 1",
)(language.language_models)
app.command(
    "key-values", epilog="Example: python -m research study key-values --out results/key-values"
)(language.key_values)
app.command(epilog="Example: python -m research study capacity --part retrieval --out capacity")(
    capacity.capacity
)
app.command(epilog="Example: python -m research study multimodal --part digits --seeds 3")(
    multimodal.multimodal
)
app.command(epilog="Example: python -m research study diffusion --steps 500 --samples 100")(
    diffusion.diffusion
)
app.command(epilog="Example: python -m research study faults --moments 20 --out results/faults")(
    faults.faults
)
app.command("first-job", epilog="Example: python -m research study first-job --out first-job")(
    first_job.first_job
)
