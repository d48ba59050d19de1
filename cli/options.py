"""The options that `compile` and `opt` share: what to run, on which data, under which checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from optc.models.errors import InputError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_SHARED: tuple[Decorator, ...] = (
    click.option(
        "-p", "--pipeline", metavar="PIPELINE", help="Passes, such as standard,prune{sparsity=0.5}."
    ),
    click.option("--recipe", metavar="FILE", help="A file that holds the pipeline; # begins a comment."),
    click.option(
        "--shape", "shapes", multiple=True, metavar="N=D,…", help="Bind an input's free dimensions."
    ),
    click.option(
        "--calib", metavar="X.npz", help="Samples for calibration, by input name, batch first; or a folder."
    ),
    click.option(
        "--eval",
        "evaluation",
        metavar="Y.npz",
        help="Labelled samples, likewise: accuracy before and after each lossy pass.",
    ),
    click.option("--metric", metavar="top1|top5|mse|cosine|f1", help="What the labels are for (top1)."),
    click.option("-i", "--inputs", metavar="IN.npz", help="Inputs to verify on, else generated ones."),
    click.option("--verify", is_flag=True, help="Check every pass against its contract in ONNX Runtime."),
    click.option("--guard", is_flag=True, help="Take back every pass whose result does not run faster."),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Of everything that is drawn.",
    ),
)


def shared_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a verb."""
    for option in reversed(_SHARED):
        function = option(function)
    return function


def pipeline_text(pipeline: str | None, recipe: str | None) -> str | None:
    """The pipeline that `-p` or `--recipe` gives; None for the standard one (`InputError`)."""
    if recipe is None:
        return pipeline
    if pipeline is not None:
        raise click.UsageError("give -p or --recipe, not both")
    try:
        lines = Path(recipe).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{recipe}: cannot be read ({error.strerror}); give a file with a pipeline"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{recipe}: not a text file; give a file with a pipeline") from error
    return " ".join(line.partition("#")[0] for line in lines)
