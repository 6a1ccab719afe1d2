"""The command ``harmonium``: arguments, error messages and exit codes.

What the commands do is in :mod:`harmonium.commands`, imported when a command runs, so that
``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

from harmonium._version import __version__

__all__ = ["main"]

USER_ERRORS = (OSError, ValueError, TypeError, ImportError, FloatingPointError, MemoryError)

EPILOG = """\
examples:
  harmonium demo                                   train on small digits, look at the pictures
  harmonium data fetch                             download MNIST, 11 MB
  harmonium train rbm --data mnist --hidden 500    train on it, into harmonium-rbm/
  harmonium sample harmonium-rbm/model.safetensors -n 100 --steps 5000
  harmonium train dbn --data mnist                 a classifier, into harmonium-dbn/
  harmonium evaluate harmonium-dbn/model.safetensors --data mnist

`harmonium COMMAND --help` explains a command's options.

exit codes: 0 done; 1 an error, told in one line; 2 a command line that makes no sense;
130 interrupted by Ctrl-C. HARMONIUM_DEBUG=1 adds Python's traceback to errors.
"""

TRAIN_EPILOG = """\
examples:
  harmonium train rbm --data mnist --hidden 500
  harmonium train rbm --data digits --hidden 144 --epochs 300 --output digits.safetensors
  harmonium train rbm --data rows.npy --algorithm cd --gibbs-steps 10 --validation 500
  harmonium train rbm --data mnist --epochs 20 --likelihood
  harmonium train rbm --data mnist --epochs 50 --checkpoint run.safetensors
  harmonium train rbm --data mnist --epochs 50 --checkpoint run.safetensors --resume run.safetensors

The last line goes on where the one before was broken off, to the same result, bit for bit. Ctrl-C
saves the model as it is.
"""

DBN_EPILOG = """\
examples:
  harmonium train dbn --data mnist
  harmonium train dbn --data digits --hidden 200,200 --output digits.safetensors
  harmonium train dbn --data rows.npz --early-stopping patience --patience 5
  harmonium train dbn --data mnist --checkpoint run.safetensors --resume run.safetensors
  harmonium train dbn --data mnist --generative --hidden 500,1000

Labels come with the data: MNIST's, digits', or the array y of a .npz file beside X. Each layer is
trained as an RBM on the one below, then all of them together to tell the classes; on intensities,
whatever --binarize makes of them for the layers. With --generative the topmost layer has units of
labels instead, and nothing is fine-tuned by backpropagation.

--resume goes on where a run was broken off, in whatever phase. Ctrl-C saves the model as it is.
"""

SAMPLE_EPILOG = """\
examples:
  harmonium sample model.safetensors
  harmonium sample model.safetensors -n 1000 --steps 10000 --output samples.npy
  harmonium sample dbn.safetensors --label 7
  harmonium sample rbm.safetensors --method tempered
  harmonium sample rbm.safetensors --clamp top-half --data mnist

Gibbs chains may stay where they began for long, which the other methods of an RBM do not: replicas
at many temperatures that exchange their states, or annealing from independent units. --clamp holds
a part of the first rows that were not trained on and draws the rest three times; an array then has
the shape (3, n, units).
"""

EVALUATE_EPILOG = """\
examples:
  harmonium evaluate model.safetensors --data mnist
  harmonium evaluate rbm.safetensors --data mnist --chains 2000 --temperatures 50000
  harmonium evaluate model.safetensors --data mnist --confusion confusion.png

What is told depends on the model: of a classifier its errors; of an RBM likelihood,
pseudo-likelihood and reconstruction error; of a DBN without labels reconstruction errors, and a
bound on the likelihood; of an autoencoder reconstruction errors.

Likelihoods are of zeros and ones. They are exact with 25 units or fewer on a side of the (topmost)
RBM. Others take annealed importance sampling, half a minute for 784-500: from independent units to
the machine (AIS), which overestimates a likelihood on average, and for an RBM from the machine
back (reverse AIS), which underestimates it.
"""

RECONSTRUCT_EPILOG = """\
examples:
  harmonium reconstruct model.safetensors --data mnist
  harmonium reconstruct model.safetensors --data rows.npy -n 1000 --output reconstructions.npy
"""

DATA_HELP = """mnist (HARMONIUM_DATA or the cache folder; `harmonium data fetch` downloads it),
digits (scikit-learn's 1,797 digits, enlarged to 16 x 16 pixels), or a path: MNIST's files or their
folder in any usual form; a .npy or .npz file of rows with values in [0, 1] or bytes up to 255"""

BINARIZE_HELP = """how intensities become zeros and ones: above one half, drawn with the intensity
as probability, or not at all (default: threshold for mnist and digits, none for arrays)"""


# ---- values of options ----


def _count(minimum: int) -> Any:
    """Return a parser of whole numbers from `minimum` on."""

    def whole_number(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {minimum}, got {text!r}"
            )
        return number

    return whole_number


def _rate(*, zero: bool, below: float = float("inf")) -> Any:
    """Return a parser of numbers above 0 (or from 0 on) and below `below`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not ((zero and value == 0) or 0 < value < below):  # so that NaN is caught
            limit = "" if below == float("inf") else f" and below {below:g}"
            raise argparse.ArgumentTypeError(
                f"expected a number {'of at least' if zero else 'above'} 0{limit}, got {text!r}"
            )
        return value

    return number


def _seed(text: str) -> int:
    value: int = _count(0)(text)
    if value >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number below 2**32, got {text!r}")
    return value


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(_count(1)(part) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers of at least 1 with commas between them, got {text!r}"
        ) from None


def _image_shape(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, such as 28x28, got {text!r}")
    return int(height), int(width)


# ---- the parser ----


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _parser_of(
        argparse.ArgumentParser,
        prog="harmonium",
        description="Fast restricted Boltzmann machines: train them, sample from them.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"harmonium {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    demo = _command(
        commands, "demo", "demo.run_demo", "train on handwritten digits and draw pictures"
    )
    demo.add_argument(
        "--data",
        choices=("digits", "mnist"),
        default="digits",
        help="digits: scikit-learn's, half a minute; mnist: some minutes, needs "
        "`harmonium data fetch` (default: %(default)s)",
    )
    demo.add_argument(
        "--output",
        metavar="FOLDER",
        default="harmonium-demo",
        help="where pictures and models go (default: %(default)s)",
    )

    models = _group(commands, "train", "train a model", "MODEL-KIND")
    _add_rbm_options(
        _command(
            models,
            "rbm",
            "training.train_rbm",
            "train a restricted Boltzmann machine",
            epilog=TRAIN_EPILOG,
        )
    )
    _add_dbn_options(
        _command(
            models,
            "dbn",
            "training.train_dbn",
            "train a deep belief network to tell classes, or to generate them",
            epilog=DBN_EPILOG,
        )
    )

    evaluate = _command(
        commands,
        "evaluate",
        "evaluation.evaluate",
        "tell how good a trained model is",
        epilog=EVALUATE_EPILOG,
    )
    _add_model(evaluate)
    evaluate.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help=DATA_HELP + ". Of mnist and digits their test rows, of arrays all",
    )
    _add_binarize(evaluate, " and for classifiers and autoencoders")
    _add_seed(evaluate, "of stochastic binarisation and of annealed chains")
    _add_threads(evaluate)
    evaluate.add_argument(
        "--likelihood",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="anneal for the likelihood of an RBM with more than 25 units on both sides (default: "
        "yes)",
    )
    annealing = [
        evaluate.add_argument(
            "--chains",
            type=_count(2),
            default=500,
            metavar="N",
            help="annealed chains: more make standard errors smaller (default: %(default)s)",
        ),
        evaluate.add_argument(
            "--temperatures",
            type=_count(2),
            default=10_000,
            metavar="K",
            help="steps of an annealed chain: more bring AIS and reverse AIS together (default: "
            "%(default)s)",
        ),
    ]
    idle: Idle = (lambda given: not given.likelihood, "with --no-likelihood", annealing)
    evaluate.set_defaults(check=partial(_refuse_idle, evaluate, [idle]))
    evaluate.add_argument(
        "--confusion",
        metavar="FILE",
        help="draw which classes are taken for which: a picture (.png)",
    )

    sample = _command(
        commands, "sample", "sampling.sample", "draw from a trained model", epilog=SAMPLE_EPILOG
    )
    _add_model(sample)
    sample.add_argument(
        "-n", type=_count(1), help="how many, a chain for each (default: 64, with --clamp 12 rows)"
    )
    sample.add_argument(
        "--method",
        choices=("gibbs", "tempered", "annealed"),
        default="gibbs",
        help="how an RBM is drawn from (default: %(default)s)",
    )
    sample.add_argument(
        "--steps",
        type=_count(1),
        metavar="N",
        help="Gibbs steps of each, at as many temperatures if annealed (default: 1000, annealed "
        "10000)",
    )
    label = sample.add_argument(
        "--label",
        metavar="CLASS",
        help="rows of this class alone, of a DBN trained with --generative",
    )
    _add_seed(sample, "of the chains and of stochastic binarisation")
    sample.add_argument(
        "--probabilities",
        action="store_true",
        help="the probabilities of the last draw instead of its zeros and ones",
    )
    sample.add_argument(
        "--clamp",
        choices=("top-half", "bottom-half", "left-half", "right-half"),
        help="hold this part of rows of --data, and draw the rest",
    )
    rows = [
        sample.add_argument(
            "--data", metavar="DATA", help=DATA_HELP + ". Of mnist and digits their test rows"
        ),
        _add_binarize(sample, ""),
    ]
    _add_image_shape(sample)
    _add_result(sample, "samples.png")
    sample.set_defaults(check=partial(_check_sample, sample, label, rows))

    reconstruct = _command(
        commands,
        "reconstruct",
        "sampling.reconstruct",
        "pass rows up and down through a trained model",
        epilog=RECONSTRUCT_EPILOG,
    )
    _add_model(reconstruct)
    reconstruct.add_argument(
        "-n", type=_count(1), default=16, help="how many rows, the first ones (default: 16)"
    )
    _add_data_options(
        reconstruct,
        validation=". They are what is reconstructed, if there are any",
        binarize=" and for autoencoders",
    )
    _add_result(reconstruct, "reconstructions.png")

    data = _group(commands, "data", "get data", "ACTION")
    fetch = _command(data, "fetch", "tools.fetch", "download MNIST, 11 MB, checked and resumable")
    fetch.add_argument(
        "--folder",
        help="where to (default: HARMONIUM_DATA if set, else ~/.cache/harmonium/mnist)",
    )

    _command(commands, "info", "tools.info", "versions, processor, threads: for bug reports")
    return parser


def _parser_of(make: Any, *args: Any, **settings: Any) -> argparse.ArgumentParser:
    # An abbreviated option would break in scripts when a longer one like it comes.
    parser: argparse.ArgumentParser = make(
        *args, formatter_class=_HelpFormatter, allow_abbrev=False, **settings
    )
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Examples as they are written, and lines of one width on every terminal."""

    def __init__(self, prog: str, **settings: Any) -> None:
        settings.setdefault("width", 96)
        settings.setdefault("max_help_position", 30)
        super().__init__(prog, **settings)


def _command(
    parent: Any, name: str, run: str, help: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    description = f"{help[0].upper()}{help[1:]}."
    parser = _parser_of(parent.add_parser, name, help=help, description=description, epilog=epilog)
    parser.set_defaults(run=run)
    return parser


def _group(parent: Any, name: str, help: str, metavar: str) -> Any:
    description = f"{help[0].upper()}{help[1:]}."
    parser = _parser_of(parent.add_parser, name, help=help, description=description)
    return parser.add_subparsers(metavar=metavar, required=True)


# ---- options of several commands ----


def _add_model(parser: Any) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .safetensors file that train wrote")


def _add_data_options(parser: Any, *, validation: str = "", binarize: str = "") -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help=DATA_HELP)
    _add_binarize(parser, binarize)
    parser.add_argument(
        "--validation",
        type=_count(0),
        metavar="N",
        help="rows held out, the last ones of mnist and digits, random ones of arrays; 0 for none "
        f"(default: 10000 of mnist, 360 of digits, a tenth of an array){validation}",
    )
    _add_seed(parser, "of every draw")
    _add_image_shape(parser)


def _add_binarize(parser: Any, never: str) -> Any:
    return parser.add_argument(
        "--binarize",
        choices=("threshold", "stochastic", "none"),
        help=BINARIZE_HELP.removesuffix(")") + f"{never})",
    )


def _add_seed(parser: Any, of: str) -> None:
    parser.add_argument("--seed", type=_seed, default=0, help=f"{of} (default: 0)")


def _add_image_shape(parser: Any) -> None:
    parser.add_argument(
        "--image-shape",
        type=_image_shape,
        metavar="HxW",
        help="pixels of a row as a picture (default: a square)",
    )


def _add_result(parser: Any, default: str) -> None:
    parser.add_argument(
        "--output",
        metavar="FILE",
        default=default,
        help="a picture (.png) or an array (.npy, .npz) (default: %(default)s)",
    )


def _add_threads(parser: Any) -> None:
    parser.add_argument(
        "--threads",
        type=_count(1),
        metavar="N",
        help="processor threads; the result is the same (default: OMP_NUM_THREADS, or all cores)",
    )


def _add_rate(parser: Any, option: str, default: float) -> None:
    parser.add_argument(
        option,
        type=_rate(zero=False),
        default=default,
        metavar="RATE",
        help="of the first epoch (default: %(default)s)",
    )


def _add_decay(parser: Any) -> None:
    parser.add_argument(
        "--decay",
        choices=("linear", "none"),
        default="linear",
        help="how the rate falls: in a line that would meet 0 after the last epoch, or not at all "
        "(default: %(default)s)",
    )


def _add_batch_size(parser: Any, default: int) -> None:
    parser.add_argument(
        "--batch-size",
        type=_count(1),
        default=default,
        metavar="N",
        help="rows of a minibatch (default: %(default)s)",
    )


def _add_momentum(parser: Any, default: float) -> None:
    parser.add_argument(
        "--momentum",
        type=_rate(zero=True, below=1.0),
        default=default,
        metavar="M",
        help="share of the last step in the next, below 1 (default: %(default)s)",
    )


def _add_l2(parser: Any, default: float) -> None:
    parser.add_argument(
        "--l2",
        type=_rate(zero=True),
        default=default,
        metavar="L",
        help="decay of weights in proportion to them (default: %(default)s)",
    )


def _add_results(parser: Any, default: str, drawn: str) -> None:
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output",
        metavar="MODEL|FOLDER",
        default=default,
        help="a .safetensors file, with pictures beside it, or a folder for model.safetensors and "
        "pictures (default: %(default)s)",
    )
    results.add_argument(
        "--pictures",
        action=argparse.BooleanOptionalAction,
        default=None,
        help=f"draw {drawn} (default: yes, if matplotlib is installed)",
    )
    results.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="save what --resume needs here, in one step; {epoch} in the name becomes the epoch",
    )
    results.add_argument(
        "--every",
        type=_count(1),
        default=1,
        metavar="N",
        help="epochs from one checkpoint to the next (default: 1)",
    )
    results.add_argument(
        "--resume",
        metavar="FILE",
        help="go on from a checkpoint of a run with the same options, up to --epochs",
    )
    results.add_argument("--quiet", action="store_true", help="print errors alone")


# ---- options of a training ----


def _add_rbm_options(parser: argparse.ArgumentParser) -> None:
    _add_data_options(parser.add_argument_group("data"))

    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--hidden", type=_count(1), default=500, metavar="N", help="hidden units (default: 500)"
    )
    machine.add_argument(
        "--init",
        choices=("data", "normal"),
        default="data",
        help="visible biases begin at the data's log odds or at 0 (default: %(default)s)",
    )

    rule = parser.add_argument_group("learning")
    rule.add_argument(
        "--algorithm",
        choices=("pcd", "cd"),
        default="pcd",
        help="persistent contrastive divergence, or contrastive divergence (default: %(default)s)",
    )
    rule.add_argument(
        "--gibbs-steps",
        type=_count(1),
        default=5,
        metavar="K",
        help="Gibbs steps an update (default: 5)",
    )
    rule.add_argument(
        "--chains", type=_count(1), default=20, metavar="N", help="chains of pcd (default: 20)"
    )
    rule.add_argument(
        "--epochs",
        type=_count(0),
        metavar="N",
        help="passes over the data (default: what shows 500,000 rows, but 5 to 500)",
    )
    _add_batch_size(rule, 20)
    _add_rate(rule, "--learning-rate", 0.05)
    _add_decay(rule)
    _add_momentum(rule, 0.0)
    rule.add_argument(
        "--l1",
        type=_rate(zero=True),
        default=0.0,
        metavar="L",
        help="decay of weights towards 0 at constant speed (default: 0)",
    )
    _add_l2(rule, 0.0001)
    rule.add_argument(
        "--shuffle",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="visit the rows of every epoch in a new order (default: yes)",
    )

    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--precision",
        choices=("auto", "float32"),
        default="auto",
        help="16-bit sums where operands are binary, or float32 everywhere (default: %(default)s)",
    )
    _add_threads(engine)

    measuring = parser.add_argument_group("measuring")
    measuring.add_argument(
        "--likelihood",
        action="store_true",
        help="the log-likelihood after every epoch, some 0.3 s each at 784-500; of zeros and ones",
    )
    _add_results(parser, "harmonium-rbm", "training curves, filters, reconstructions and samples")


def _add_dbn_options(parser: argparse.ArgumentParser) -> None:
    _add_data_options(
        parser.add_argument_group("data"), validation=". The best epoch is the one kept, by them"
    )

    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--hidden",
        type=_sizes,
        default="500,500,2000",
        metavar="N,N,...",
        help="units of the hidden layers, the lowest first (default: %(default)s)",
    )
    machine.add_argument(
        "--generative",
        action="store_true",
        help="units of labels in the topmost layer, to generate rows by class, instead of "
        "fine-tuning",
    )
    _add_decay(machine)

    layers = parser.add_argument_group("pre-training, layer by layer")
    pretrain = layers.add_argument(
        "--pretrain",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="before the fine-tuning, which else begins with random weights (default: yes)",
    )
    layers.add_argument(
        "--pretrain-epochs",
        type=_count(0),
        metavar="N",
        help="of each layer (default: what shows 500,000 rows, but 5 to 100)",
    )
    _add_rate(layers, "--pretrain-learning-rate", 0.05)
    layers.add_argument(
        "--pretrain-batch-size",
        type=_count(1),
        metavar="N",
        help="rows of a minibatch (default: 10, with --generative 100)",
    )
    layers.add_argument(
        "--pretrain-gibbs-steps",
        type=_count(1),
        metavar="K",
        help="Gibbs steps an update, of contrastive divergence, with --generative of persistent "
        "chains (default: 1, with --generative 5)",
    )

    tuning = parser.add_argument_group("fine-tuning, by labels")
    tuning.add_argument(
        "--epochs",
        type=_count(0),
        metavar="N",
        help="passes over the data (default: what shows 1,000,000 rows, but 5 to 100)",
    )
    _add_batch_size(tuning, 100)
    _add_rate(tuning, "--learning-rate", 0.1)
    tuning.add_argument(
        "--solver",
        choices=("sgd", "adam"),
        default="sgd",
        help="stochastic gradient descent, or Adam (default: %(default)s)",
    )
    _add_momentum(tuning, 0.9)
    _add_l2(tuning, 0.0)
    for option, of, default in (
        ("--dropout", "a hidden unit", 0.2),
        ("--input-dropout", "an input", 0.0),
    ):
        tuning.add_argument(
            option,
            type=_rate(zero=True, below=1.0),
            default=default,
            metavar="P",
            help=f"probability that {of} is left out (default: %(default)s)",
        )
    tuning.add_argument(
        "--max-norm",
        type=_rate(zero=False),
        metavar="C",
        help="largest length of the weights into a unit (default: any)",
    )
    tuning.add_argument(
        "--early-stopping",
        choices=("patience", "tutorial", "none"),
        default="none",
        help="end when the validation error no longer improves: after --patience epochs, or by the "
        "deep-learning tutorials' rule, after as many minibatches (default: %(default)s)",
    )
    patience = tuning.add_argument(
        "--patience",
        type=_count(1),
        metavar="N",
        help="of --early-stopping (default: 10 epochs, or the minibatches of 4)",
    )

    generating = parser.add_argument_group("fine-tuning with --generative")
    up_down = generating.add_argument(
        "--up-down-epochs",
        type=_count(0),
        default=0,
        metavar="N",
        help="of the up-down algorithm, after the layers (default: 0)",
    )

    _add_threads(parser.add_argument_group("engine"))
    _add_results(parser, "harmonium-dbn", "training curves, filters, and confusions or samples")
    tuning_options = [pretrain, *tuning._group_actions]
    rules: list[Idle] = [
        (lambda given: given.generative, "with --generative", tuning_options),
        (lambda given: not given.generative, "without --generative", [up_down]),
        (lambda given: not given.pretrain, "with --no-pretrain", layers._group_actions[1:]),
        (lambda given: given.early_stopping == "none", "without --early-stopping", [patience]),
    ]
    parser.set_defaults(check=partial(_refuse_idle, parser, rules))


Idle: TypeAlias = "tuple[Callable[[argparse.Namespace], bool], str, Sequence[argparse.Action]]"


def _refuse_idle(
    parser: argparse.ArgumentParser, rules: Sequence[Idle], arguments: argparse.Namespace
) -> None:
    """End with 2 for options that say nothing in the company of others, rather than ignore them."""
    for applies, words, options in rules:
        if applies(arguments):
            for option in options:
                if getattr(arguments, option.dest) != option.default:
                    parser.error(f"argument {option.option_strings[-1]}: says nothing {words}")


def _check_sample(
    parser: argparse.ArgumentParser,
    label: argparse.Action,
    rows: Sequence[argparse.Action],
    arguments: argparse.Namespace,
) -> None:
    rules: list[Idle] = [
        (lambda given: given.clamp is None, "without --clamp", rows),
        (lambda given: given.clamp is not None, "with --clamp", [label]),
    ]
    _refuse_idle(parser, rules, arguments)
    if arguments.clamp is not None and arguments.data is None:
        parser.error("argument --clamp: needs rows of which it holds a part, --data")


# ---- running one ----


def run(arguments: argparse.Namespace) -> None:
    """Carry out a parsed command line."""
    if hasattr(arguments, "check"):
        arguments.check(arguments)
    module, function = arguments.run.split(".")
    getattr(import_module(f"harmonium.commands.{module}"), function)(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``harmonium``.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit code: 0, 1 for an error that was reported, 130 for Ctrl-C.

    Raises
    ------
    SystemExit
        With 2 for a command line that makes no sense, with 0 after ``--help``.
    """
    try:
        run(build_parser().parse_args(arguments))
        sys.stdout.flush()  # so that a full disk or a closed pipe is met here
    except KeyboardInterrupt as interrupt:
        kept = str(interrupt) or "nothing was written"
        print(f"harmonium: interrupted; {kept}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has what it wanted (`harmonium info | head -1`); Python's own flush at exit
        # must not fail again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except USER_ERRORS as error:
        if os.environ.get("HARMONIUM_DEBUG"):
            raise
        print(f"harmonium: error: {_in_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = str(error) or "not enough memory"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
