"""``harmonium demo``: trainings anyone could have typed, with settings of their own."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["demo_arguments", "run_demo"]

# With a few rows, many chains and small steps give samples of all digits. A machine as small as
# theirs is done sooner than a second thread has woken.
_DIGITS = (
    "rbm --hidden 144 --epochs 200 --batch-size 10 --chains 100 --gibbs-steps 1 "
    "--learning-rate 0.02 --l2 0.0005 --threads 1",
    "dbn --hidden 200,200 --pretrain-epochs 30 --epochs 60 --batch-size 10 --momentum 0.5 "
    "--validation 0 --threads 1",
    "dbn --generative --hidden 200,400 --pretrain-epochs 100 --pretrain-batch-size 10 "
    "--pretrain-gibbs-steps 1 --validation 0 --threads 1",
)
_MNIST = (
    "rbm --hidden 500",
    "dbn --hidden 500,500 --pretrain-epochs 5 --epochs 5",
    "dbn --generative --hidden 500,500 --pretrain-epochs 8",
)
_FOLDERS = ("", "classifier", "generative")


def demo_arguments(data: str, folder: str) -> list[list[str]]:
    """Return the arguments of `harmonium` for each training of the demo.

    Parameters
    ----------
    data : {"digits", "mnist"}
    folder : str
        Where the models and the pictures go.

    Returns
    -------
    list of list of str
    """
    own = {"digits": _DIGITS, "mnist": _MNIST}[data]
    return [
        ["train", *words.split(), "--data", data, "--pictures", "--output", str(Path(folder, at))]
        for words, at in zip(own, _FOLDERS, strict=True)
    ]


def run_demo(arguments: argparse.Namespace) -> None:
    """Train an RBM, a classifier, and a DBN that generates digits by class."""
    from harmonium.cli import build_parser, run

    for number, equivalent in enumerate(demo_arguments(arguments.data, arguments.output)):
        print(f"{chr(10) if number else ''}harmonium {' '.join(equivalent)}\n", flush=True)
        run(build_parser().parse_args(equivalent))
