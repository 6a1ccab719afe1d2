"""The command ``harmonium``: arguments, error messages and exit codes.

What the commands do is in :mod:`harmonium.commands` and :mod:`harmonium.info`, imported when
a command runs, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harmonium._version import __version__

__all__ = ["main"]

USER_ERRORS = (OSError, ValueError, TypeError, ImportError, FloatingPointError, MemoryError)

SHOWN_ROWS = 500_000
"""How many rows a training sees where nobody says for how many epochs: ten times MNIST's 50 000."""

EPILOG = """\
examples:
  harmonium demo                                   train on small digits, look at the pictures
  harmonium data fetch                             download MNIST, 11 MB
  harmonium train rbm --data mnist --hidden 500    train on it, into harmonium-rbm/
  harmonium sample harmonium-rbm/model.safetensors -n 100 --steps 5000
  harmonium reconstruct harmonium-rbm/model.safetensors --data mnist

`harmonium COMMAND --help` explains a command's options.

exit codes: 0 done; 1 an error, told in one line; 2 a command line that makes no sense;
130 interrupted by Ctrl-C. HARMONIUM_DEBUG=1 adds Python's traceback to errors.
"""

TRAIN_EPILOG = """\
examples:
  harmonium train rbm --data mnist --hidden 500
  harmonium train rbm --data digits --hidden 144 --epochs 300 --output digits.safetensors
  harmonium train rbm --data rows.npy --algorithm cd --gibbs-steps 10 --validation 500
  harmonium train rbm --data mnist --epochs 50 --checkpoint run.safetensors
  harmonium train rbm --data mnist --epochs 50 --checkpoint run.safetensors --resume run.safetensors

The last line goes on where the one before was broken off, to the same result, bit for bit. Ctrl-C
saves the model as it is.
"""

SAMPLE_EPILOG = """\
examples:
  harmonium sample model.safetensors
  harmonium sample model.safetensors -n 1000 --steps 10000 --output samples.npy
"""

RECONSTRUCT_EPILOG = """\
examples:
  harmonium reconstruct model.safetensors --data mnist
  harmonium reconstruct model.safetensors --data rows.npy -n 1000 --output reconstructions.npy
"""

DATA_HELP = """mnist (HARMONIUM_DATA or the cache folder; `harmonium data fetch` downloads it),
digits (scikit-learn's 1,797 digits, enlarged to 16 x 16 pixels), or a path: MNIST's files or their
folder in any usual form; a .npy or .npz file of rows with values in [0, 1] or bytes up to 255"""


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

    demo = _command(commands, "demo", _demo, "train on handwritten digits and draw pictures")
    demo.add_argument(
        "--data",
        choices=("digits", "mnist"),
        default="digits",
        help="digits: scikit-learn's, a few seconds; mnist: under a minute, needs "
        "`harmonium data fetch` (default: %(default)s)",
    )
    demo.add_argument(
        "--output",
        metavar="FOLDER",
        default="harmonium-demo",
        help="where pictures and model go (default: %(default)s)",
    )

    models = _group(commands, "train", "train a model", "MODEL-KIND")
    _add_training_options(
        _command(models, "rbm", _train, "train a restricted Boltzmann machine", epilog=TRAIN_EPILOG)
    )

    sample = _command(
        commands, "sample", _sample, "draw from a trained model", epilog=SAMPLE_EPILOG
    )
    sample.add_argument("model", metavar="MODEL", help="a .safetensors file that train wrote")
    sample.add_argument(
        "-n", type=_count(1), default=64, help="how many, a Gibbs chain for each (default: 64)"
    )
    sample.add_argument(
        "--steps", type=_count(0), default=1000, help="Gibbs steps of each (default: 1000)"
    )
    sample.add_argument("--seed", type=_seed, default=0, help="of the chains (default: 0)")
    sample.add_argument(
        "--probabilities",
        action="store_true",
        help="the probabilities of the last draw instead of its zeros and ones",
    )
    _add_result_options(sample, "samples.png")

    reconstruct = _command(
        commands,
        "reconstruct",
        _reconstruct,
        "pass rows up and down through a trained model",
        epilog=RECONSTRUCT_EPILOG,
    )
    reconstruct.add_argument("model", metavar="MODEL", help="a .safetensors file that train wrote")
    reconstruct.add_argument(
        "-n", type=_count(1), default=16, help="how many rows, the first ones (default: 16)"
    )
    _add_data_options(reconstruct)
    _add_result_options(reconstruct, "reconstructions.png")

    data = _group(commands, "data", "get data", "ACTION")
    fetch = _command(data, "fetch", _fetch, "download MNIST, 11 MB, checked and resumable")
    fetch.add_argument(
        "--folder",
        help="where to (default: HARMONIUM_DATA if set, else ~/.cache/harmonium/mnist)",
    )

    _command(commands, "info", _info, "versions, processor, threads: for bug reports")
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
    parent: Any, name: str, run: Any, help: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    description = f"{help[0].upper()}{help[1:]}."
    parser = _parser_of(parent.add_parser, name, help=help, description=description, epilog=epilog)
    parser.set_defaults(run=run)
    return parser


def _group(parent: Any, name: str, help: str, metavar: str) -> Any:
    description = f"{help[0].upper()}{help[1:]}."
    parser = _parser_of(parent.add_parser, name, help=help, description=description)
    return parser.add_subparsers(metavar=metavar, required=True)


def _add_data_options(parser: Any, *, with_validation: bool = False) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--binarize",
        choices=("threshold", "stochastic", "none"),
        help="how intensities become zeros and ones: above one half, drawn with the intensity as "
        "probability, or not at all (default: threshold for mnist and digits, none for arrays)",
    )
    parser.add_argument(
        "--validation",
        type=_count(0),
        metavar="N",
        help="rows held out, the last ones of mnist and digits, random ones of arrays; 0 for none "
        "(default: 10000 of mnist, 360 of digits, a tenth of an array)"
        + ("" if with_validation else ". They are what is reconstructed, if there are any"),
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of every draw (default: 0)")
    _add_image_shape(parser)


def _add_image_shape(parser: Any) -> None:
    parser.add_argument(
        "--image-shape",
        type=_image_shape,
        metavar="HxW",
        help="pixels of a row as a picture (default: a square)",
    )


def _add_result_options(parser: Any, default: str) -> None:
    parser.add_argument(
        "--output",
        metavar="FILE",
        default=default,
        help="a picture (.png) or an array (.npy, .npz) (default: %(default)s)",
    )
    if not any(action.dest == "image_shape" for action in parser._actions):
        _add_image_shape(parser)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    _add_data_options(parser.add_argument_group("data"), with_validation=True)

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
        help=f"passes over the data (default: what shows {SHOWN_ROWS:,} rows, but 5 to 500)",
    )
    rule.add_argument(
        "--batch-size",
        type=_count(1),
        default=20,
        metavar="N",
        help="rows of a minibatch (default: 20)",
    )
    rule.add_argument(
        "--learning-rate",
        type=_rate(zero=False),
        default=0.05,
        metavar="RATE",
        help="of the first epoch (default: 0.05)",
    )
    rule.add_argument(
        "--decay",
        choices=("linear", "none"),
        default="linear",
        help="how the rate falls: in a line that would meet 0 after the last epoch, or not at all "
        "(default: %(default)s)",
    )
    rule.add_argument(
        "--momentum",
        type=_rate(zero=True, below=1.0),
        default=0.0,
        metavar="M",
        help="share of the last step in the next, below 1 (default: 0)",
    )
    rule.add_argument(
        "--l1",
        type=_rate(zero=True),
        default=0.0,
        metavar="L",
        help="decay of weights towards 0 at constant speed (default: 0)",
    )
    rule.add_argument(
        "--l2",
        type=_rate(zero=True),
        default=0.0001,
        metavar="L",
        help="decay of weights in proportion to them (default: 0.0001)",
    )
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
    engine.add_argument(
        "--threads",
        type=_count(1),
        metavar="N",
        help="processor threads; the result is the same (default: OMP_NUM_THREADS, or all cores)",
    )

    results = parser.add_argument_group("results")
    results.add_argument(
        "--output",
        metavar="MODEL|FOLDER",
        default="harmonium-rbm",
        help="a .safetensors file, with pictures beside it, or a folder for model.safetensors and "
        "pictures (default: %(default)s)",
    )
    results.add_argument(
        "--pictures",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="draw training curves, filters, reconstructions and samples "
        "(default: yes, if matplotlib is installed)",
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


# ---- the commands ----


def _demo(arguments: argparse.Namespace) -> None:
    from harmonium.commands import demo_arguments

    equivalent = demo_arguments(arguments.data, arguments.output)
    print(f"harmonium {' '.join(equivalent)}\n", flush=True)
    _train(build_parser().parse_args(equivalent))


def _train(arguments: argparse.Namespace) -> None:
    from harmonium import commands
    from harmonium.rbm import BernoulliRBM

    pictures = arguments.pictures
    if pictures is not False:
        try:
            commands.require_matplotlib()
            pictures = True
        except ImportError as error:
            if pictures:
                raise
            pictures = False
            if not arguments.quiet:
                print(f"no pictures: {error}", file=sys.stderr)
    data = commands.load_data(
        arguments.data,
        binarize=arguments.binarize,
        held_out=arguments.validation,
        seed=arguments.seed,
        image_shape=arguments.image_shape,
    )
    output = commands.Output.at(arguments.output)
    epochs = arguments.epochs
    if epochs is None:
        epochs = min(max(5, round(SHOWN_ROWS / data.train.shape[0])), 500)
    rate = arguments.learning_rate
    if arguments.decay == "linear":

        def schedule(epoch: int) -> float:
            return float(arguments.learning_rate * (1 - epoch / epochs))

        rate = schedule
    rbm = BernoulliRBM(
        n_components=arguments.hidden,
        learning_rate=rate,
        batch_size=arguments.batch_size,
        n_iter=epochs,
        random_state=arguments.seed,
        algorithm=arguments.algorithm,
        n_gibbs_steps=arguments.gibbs_steps,
        n_chains=arguments.chains,
        momentum=arguments.momentum,
        l1=arguments.l1,
        l2=arguments.l2,
        shuffle=arguments.shuffle,
        init=arguments.init,
        precision=arguments.precision,
        n_threads=arguments.threads,
    )
    commands.train(
        rbm,
        data,
        output,
        pictures=pictures,
        quiet=arguments.quiet,
        checkpoint=arguments.checkpoint,
        every=arguments.every,
        resume=arguments.resume,
    )


def _sample(arguments: argparse.Namespace) -> None:
    from harmonium import commands, load

    output = _result_path(arguments.output)
    rbm = load(arguments.model)
    shape = commands.checked_shape(arguments.image_shape, rbm.n_features_in_)
    (states, probabilities), *_ = commands.gibbs_chains(
        rbm, arguments.n, [arguments.steps], arguments.seed
    )
    samples = probabilities if arguments.probabilities else states
    if output.suffix == ".png":
        commands.save_tiles(samples, _required_shape(shape, rbm.n_features_in_), output)
    else:
        commands.save_array(samples, output)
    print(output)


def _reconstruct(arguments: argparse.Namespace) -> None:
    import numpy as np

    from harmonium import commands, load

    output = _result_path(arguments.output)
    rbm = load(arguments.model)
    data = commands.load_data(
        arguments.data,
        binarize=arguments.binarize,
        held_out=arguments.validation,
        seed=arguments.seed,
        image_shape=arguments.image_shape,
    )
    rows = commands.dense(data.to_show[: arguments.n])
    if rows.shape[1] != rbm.n_features_in_:
        raise ValueError(
            f"{arguments.data}: has {rows.shape[1]} units a row, but {arguments.model} was trained "
            f"on {rbm.n_features_in_}"
        )
    reconstructions = rbm.reconstruct(rows)
    if output.suffix == ".png":
        shape = _required_shape(data.image_shape, rows.shape[1])
        commands.save_reconstructions(rows, reconstructions, shape, output)
    else:
        commands.save_array(reconstructions, output)
    error = np.mean(np.square(reconstructions - rows, dtype=np.float64))
    print(f"{len(rows)} rows, mean square error {error:.4f} a unit")
    print(output)


def _result_path(text: str) -> Path:
    """Return a result's path, after what can be known to go wrong with it before the work."""
    from harmonium.commands import require_matplotlib

    path = Path(text).expanduser()
    if path.suffix not in (".png", ".npy", ".npz"):
        raise ValueError(f"--output {text}: expected a name in .png, .npy or .npz")
    if path.suffix == ".png":
        require_matplotlib()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--output {text}: there is no folder {path.parent}")
    return path


def _required_shape(shape: tuple[int, int] | None, n_units: int) -> tuple[int, int]:
    if shape is None:
        raise ValueError(
            f"{n_units} units are no square picture: give --image-shape HEIGHTxWIDTH, "
            "or an --output in .npy for an array"
        )
    return shape


def _fetch(arguments: argparse.Namespace) -> None:
    from harmonium.datasets import fetch_mnist

    print(fetch_mnist(arguments.folder))


def _info(arguments: argparse.Namespace) -> None:
    from harmonium.commands import table
    from harmonium.info import environment

    print(table(environment()))


# ---- running one ----


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
        parsed = build_parser().parse_args(arguments)
        parsed.run(parsed)
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
