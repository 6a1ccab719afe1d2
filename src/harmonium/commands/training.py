"""``harmonium train``: a progress bar per phase, the saved model, a closing table, pictures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harmonium import ops
from harmonium.callbacks import Callback, Checkpoint, Metrics, ProgressBar
from harmonium.classifier import DBNClassifier
from harmonium.commands import pictures
from harmonium.commands.data import Data, data_of, dense, states_of
from harmonium.commands.evaluation import error_rate, is_binary, pseudo_likelihood
from harmonium.commands.output import Output, rounded, table
from harmonium.dbn import DBN
from harmonium.model_file import load
from harmonium.rbm import BernoulliRBM

__all__ = ["train_dbn", "train_rbm"]

SHOWN_ROWS = 500_000
SHOWN_TO_TUNE = 1_000_000
"""How many rows a layer and the fine-tuning see where nobody says for how many epochs: ten and
twenty times MNIST's 50 000."""

SCORED_ROWS = 5_000
"""How many give a pseudo-likelihood, spread evenly: on MNIST a standard error below 0.5, in a fifth
of a second, or two where values are neither 0 nor 1."""

PICTURED = 16
PICTURED_STEPS = (0, 1, 10, 100, 1000, 10_000)
STEPS_OF_A_CLASS = 1000


# ---- the RBM ----


def train_rbm(arguments: argparse.Namespace) -> None:
    """Train an RBM."""
    draws = pictures.are_wanted(arguments)
    data = data_of(arguments)
    output = Output.at(arguments.output)
    epochs = _epochs(arguments.epochs, SHOWN_ROWS, 500, data)
    if arguments.likelihood and not is_binary(data.train):
        raise ValueError(
            f"--likelihood: is of zeros and ones, but --data {arguments.data} has values between "
            "them: --binarize threshold makes them of these rows"
        )
    rbm = BernoulliRBM(
        n_components=arguments.hidden,
        learning_rate=_schedule(arguments.learning_rate, epochs, arguments.decay),
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
        metrics="likelihood" if arguments.likelihood else True,
    )
    _Run(
        rbm,
        output,
        lambda: rbm.fit(data.train, X_val=data.held_out, resume=arguments.resume),
        lambda phases: _rbm_table(rbm, data, phases[-1]),
        lambda: _draw_rbm(rbm, data, output),
    ).carry_out(arguments, [_likelihood_of(data, rbm.metrics)], draws)


def _rbm_table(rbm: BernoulliRBM, data: Data, phase: Phase) -> str:
    n_rows, n_visible = data.train.shape
    resumed = f" (resumed after {phase.first_epoch})" if phase.first_epoch else ""
    history = rbm.history_

    def last(name: str, digits: int) -> list[str]:
        names = (name, f"val_{name}")[: len(columns)]
        return [f"{history[n][-1]:.{digits}f}" if history.get(n) else "-" for n in names]

    columns = [data.train] if data.held_out is None else [data.train, data.held_out]
    rows = [
        ("", "training", "held out"),
        ("rows", *(f"{X.shape[0]:,}" for X in columns)),
        ("pseudo-likelihood", *(pseudo_likelihood(rbm, X, SCORED_ROWS) for X in columns)),
    ]
    if data.train.dtype == np.bool_:
        rows.append(("  of independent units", *(_independent(data.train, X) for X in columns)))
    rows.append(("reconstruction error", *last("reconstruction_error", 4)))
    footnote = _RBM_FOOTNOTE
    if rbm.metrics == "likelihood":
        rows.insert(2, ("log-likelihood", *last("log_likelihood", 1)))
        footnote += _LIKELIHOOD_FOOTNOTE
    speed = _speed(n_rows * phase.n_done, phase.seconds)
    about = [
        ("data", data.name),
        ("model", f"{n_visible} visible and {rbm.n_components} hidden units"),
        ("training", f"{rbm.n_iter_} epochs{resumed} in {phase.seconds:.1f} s, {speed}"),
    ]
    width = 1 + len(columns)
    return f"{table(about)}\n\n{table([row[:width] for row in rows])}\n{footnote}"


_RBM_FOOTNOTE = (
    "\npseudo-likelihood: nats a row, larger is better, plus or minus its standard error;\n"
    "reconstruction error: mean square a unit, of up to 1,000 rows"
)
_LIKELIHOOD_FOOTNOTE = (
    ";\nlog-likelihood: of the same rows, by short annealing (`harmonium evaluate` takes its time)"
)


def _independent(train: Any, X: Any) -> str:
    """Return the log-likelihood a row has when every unit is on as often as in `train`.

    It is this model's pseudo-likelihood too, and what an RBM must beat.
    """
    margin = 0.5 / train.shape[0]  # units that are always on or off get the odds of half a case
    p = np.clip(_mean(train), margin, 1 - margin)
    mean = _mean(X)
    return f"{np.sum(mean * np.log(p) + (1 - mean) * np.log(1 - p)):.1f}"


def _mean(X: Any) -> np.ndarray:
    return np.asarray(X.mean(axis=0, dtype=np.float64)).ravel()


def _draw_rbm(rbm: BernoulliRBM, data: Data, output: Output) -> list[Path]:
    from harmonium.plotting import plot_samples

    drawn = pictures.save_history(rbm.history_, output.picture("training.png"))
    if data.image_shape is None:
        return drawn
    drawn.append(pictures.save_filters(rbm, data.image_shape, output.picture("filters.png")))
    rows = dense(data.to_show[:PICTURED])
    path = output.picture("reconstructions.png")
    drawn.append(pictures.save_reconstructions(rows, rbm.reconstruct(rows), data.image_shape, path))
    chains = [p for _, p in gibbs_chains(rbm, PICTURED, PICTURED_STEPS, seed=0)]
    ax = plot_samples(np.stack(chains), data.image_shape, steps=PICTURED_STEPS)
    drawn.append(pictures.save_figure(ax.figure, output.picture("samples.png")))
    return drawn


def gibbs_chains(
    rbm: BernoulliRBM, n: int, steps: Sequence[int], seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run Gibbs chains and stop at given steps.

    Parameters
    ----------
    rbm : BernoulliRBM
        Fitted.
    n : int
        Number of chains.
    steps : sequence of int
        Gibbs steps at which to stop, rising from 0.
    seed : int
        The same chains for the same seed.

    Yields
    ------
    states : ndarray of bool of shape (n, n_visible)
    probabilities : ndarray of float32 of shape (n, n_visible)
        That those states were drawn from. At step 0, every unit's own bias decides.
    """
    W = np.ascontiguousarray(rbm.components_.T, np.float32)
    b = np.ascontiguousarray(rbm.intercept_visible_, np.float32)
    c = np.ascontiguousarray(rbm.intercept_hidden_, np.float32)
    options: dict[str, Any] = {"precision": rbm.precision, "n_threads": rbm.n_threads}
    p = np.tile(ops.sigmoid(b), (n, 1))
    v = ops.sample_bernoulli(p, seed)
    done = 0
    for step in steps:
        if step > done:
            v, h = ops.gibbs(v, W, b, c, step - done, seed, step=done, **options)
            p = ops.propdown(h, W, b, **options)
            done = step
        yield v, p


# ---- the DBN ----


def train_dbn(arguments: argparse.Namespace) -> None:
    """Train a DBN: fine-tuned to tell classes, or to generate rows of them."""
    draws = pictures.are_wanted(arguments)
    output = Output.at(arguments.output)
    if arguments.generative:
        _train_generative(arguments, output, draws)
    else:
        _train_classifier(arguments, output, draws)


def _train_classifier(arguments: argparse.Namespace, output: Output, draws: bool) -> None:
    data = data_of(arguments, binarize="none", labelled=True)
    way = arguments.data, arguments.binarize, arguments.seed
    epochs = _epochs(arguments.epochs, SHOWN_TO_TUNE, 100, data)
    stopping = None if arguments.early_stopping == "none" else arguments.early_stopping
    if stopping and data.held_out is None:
        raise ValueError(
            f"--early-stopping {stopping}: watches rows held out, of which --validation leaves none"
        )
    model = DBNClassifier(
        arguments.hidden,
        rbm=_layer(arguments, data),
        learning_rate=_schedule(arguments.learning_rate, epochs, arguments.decay),
        momentum=arguments.momentum,
        solver=arguments.solver,
        batch_size=arguments.batch_size,
        max_iter=epochs,
        l2=arguments.l2,
        dropout=arguments.dropout,
        input_dropout=arguments.input_dropout,
        max_norm=arguments.max_norm,
        early_stopping=stopping,
        patience=arguments.patience,
        random_state=arguments.seed,
        n_threads=arguments.threads,
    )

    def fit() -> None:
        resume = arguments.resume
        is_tuned = resume is not None and hasattr(load(resume), "coefs_")
        if resume is not None and not is_tuned and not arguments.pretrain:
            raise ValueError(f"--resume {resume}: is of a pre-training, which --no-pretrain omits")
        if arguments.pretrain and not is_tuned:
            held_out = None if data.held_out is None else states_of(data.held_out, *way)
            model.pretrain(states_of(data.train, *way), X_val=held_out, resume=resume)
            resume = None
        model.fit(
            data.train,
            data.y_train,
            X_val=data.held_out,
            y_val=data.y_held_out,
            pretrain=False,
            resume=resume,
        )

    _Run(
        model,
        output,
        fit,
        lambda phases: _dbn_table(model, data, phases, "fine-tuning"),
        lambda: _draw_classifier(model, data, output),
    ).carry_out(arguments, [_likelihood_of(data), "loss", "val_error"], draws)


def _train_generative(arguments: argparse.Namespace, output: Output, draws: bool) -> None:
    data = data_of(arguments, labelled=True)
    model = DBN(
        arguments.hidden,
        rbm=_layer(arguments, data),
        label_units=True,
        random_state=arguments.seed,
        n_threads=arguments.threads,
    )

    def fit() -> None:
        resume, n = arguments.resume, arguments.up_down_epochs
        if resume is None or not hasattr(load(resume), "up_down_history_"):
            model.fit(data.train, data.y_train, X_val=data.held_out, resume=resume)
            resume = None
        if resume is not None or n:
            model.fit_up_down(
                data.train,
                data.y_train,
                X_val=data.held_out,
                y_val=data.y_held_out,
                n_iter=n,
                resume=resume,
            )

    _Run(
        model,
        output,
        fit,
        lambda phases: _dbn_table(model, data, phases, "up-down"),
        lambda: _draw_generative(model, data, output),
    ).carry_out(arguments, [_likelihood_of(data), "loss", "val_error"], draws)


def _layer(arguments: argparse.Namespace, data: Data) -> BernoulliRBM:
    """Return how each layer is trained: as a classifier's features, or to be sampled from."""
    epochs = _epochs(arguments.pretrain_epochs, SHOWN_ROWS, 100, data)
    rate = _schedule(arguments.pretrain_learning_rate, epochs, arguments.decay)
    # Labels are few among the topmost units: they need chains that mix, and calm gradients.
    batch_size, gibbs_steps = (100, 5) if arguments.generative else (10, 1)
    common: dict[str, Any] = {
        "learning_rate": rate,
        "batch_size": arguments.pretrain_batch_size or batch_size,
        "n_gibbs_steps": arguments.pretrain_gibbs_steps or gibbs_steps,
        "n_iter": epochs,
        "shuffle": True,
    }
    if arguments.generative:
        return BernoulliRBM(algorithm="pcd", n_chains=100, l2=0.0002, init="data", **common)
    return BernoulliRBM(algorithm="cd", momentum=0.5, **common)


def _dbn_table(model: Any, data: Data, phases: Sequence[Phase], last: str) -> str:
    sizes = [rbm.n_components for rbm in getattr(model, "rbms_", ())] or model.hidden_layer_sizes
    n_rows = data.train.shape[0]
    about = [
        ("data", data.name),
        (
            "model",
            f"{data.train.shape[1]} units, {' - '.join(f'{n:,}' for n in sizes)} hidden ones, "
            f"{len(model.classes_)} classes",
        ),
    ]
    layers = [phase for phase in phases if phase.title.startswith("layer ")]
    if layers:
        about.append(("pre-training", _phases_told(layers, n_rows)))
    others = [phase for phase in phases if phase not in layers]
    if others:
        best = _best_epoch(getattr(model, "history_", {}))
        told = _phases_told(others, n_rows)
        about.append((last, told + (f"; the best was {best}" if best else "")))
    columns = [
        (name, X, y)
        for name, X, y in (
            ("training", data.train, data.y_train),
            ("validation", data.held_out, data.y_held_out),
            ("test", data.test, data.y_test),
        )
        if X is not None
    ]
    wrong = [int(np.sum(model.predict(X) != y)) for _, X, y in columns]
    rows = [
        ("", *(name for name, _, _ in columns)),
        ("rows", *(f"{X.shape[0]:,}" for _, X, _ in columns)),
        ("errors", *(f"{n:,}" for n in wrong)),
        ("error", *(f"{n / len(y):.2%}" for n, (_, _, y) in zip(wrong, columns, strict=True))),
    ]
    text = f"{table(about)}\n\n{table(rows)}"
    if data.test is not None:
        text += f"\n\ntest error {error_rate(wrong[-1], len(data.y_test))}"
    return text


def _phases_told(phases: Sequence[Phase], n_rows: int) -> str:
    n_epochs = sum(phase.n_done for phase in phases)
    seconds = sum(phase.seconds for phase in phases)
    first = phases[0].first_epoch
    resumed = f" (resumed after {first})" if first else ""
    layers = f"{len(phases)} layers, " if len(phases) > 1 else ""
    speed = _speed(n_rows * n_epochs, seconds)
    n_told = n_epochs if layers else phases[0].last_epoch
    return f"{layers}{n_told} epochs{resumed} in {seconds:.1f} s, {speed}"


def _best_epoch(history: dict[str, list[float]]) -> int | None:
    errors = history.get("val_error")
    return int(history["epoch"][int(np.argmin(errors))]) if errors else None


def _draw_classifier(model: DBNClassifier, data: Data, output: Output) -> list[Path]:
    drawn = pictures.save_history(model.history_, output.picture("training.png"))
    if data.image_shape is not None:
        first = model.coefs_[0].T
        drawn.append(pictures.save_filters(first, data.image_shape, output.picture("filters.png")))
    X, y = data.test, data.y_test
    if X is None:
        X, y = data.held_out, data.y_held_out
    if X is not None:
        path = output.picture("confusion.png")
        drawn.append(pictures.save_confusion(y, model.predict(X), model.classes_, path))
    return drawn


def _draw_generative(model: DBN, data: Data, output: Output) -> list[Path]:
    from harmonium.plotting import plot_classes

    history = getattr(model, "up_down_history_", model.rbms_[-1].history_)
    drawn = pictures.save_history(history, output.picture("training.png"))
    if data.image_shape is None:
        return drawn
    path = output.picture("filters.png")
    drawn.append(pictures.save_filters(model.rbms_[0], data.image_shape, path))
    classes = model.classes_
    labels = np.repeat(classes, PICTURED)
    p = model.sample(
        len(labels), STEPS_OF_A_CLASS, return_probabilities=True, label=labels, random_state=0
    )
    ax = plot_classes(p.reshape(len(classes), PICTURED, -1), classes, data.image_shape)
    drawn.append(pictures.save_figure(ax.figure, output.picture("samples.png")))
    return drawn


# ---- what all trainings share ----


@dataclass
class Phase:
    """A part of a training with a progress bar of its own: a layer, the fine-tuning."""

    title: str
    first_epoch: int
    last_epoch: int
    seconds: float = 0.0

    @property
    def n_done(self) -> int:
        return self.last_epoch - self.first_epoch


class _Clock(Callback):
    """The phases of a training, how many epochs each made and how long they took."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    def on_fit_begin(self, estimator: Any, first_epoch: int) -> None:
        self.phases.append(Phase(self.title, first_epoch, first_epoch))
        self._began = time.perf_counter()

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> None:
        self.phases[-1].last_epoch = epoch

    def on_fit_end(self, estimator: Any) -> None:
        self.phases[-1].seconds = time.perf_counter() - self._began


@dataclass
class _Run:
    """A training: how it is made, told and drawn."""

    model: Any
    output: Output
    fit: Callable[[], Any]
    closing_table: Callable[[Sequence[Phase]], str]
    draw: Callable[[], list[Path]]

    def carry_out(self, arguments: argparse.Namespace, metrics: Sequence[str], draws: bool) -> None:
        """Fit with progress bars, save, print the closing table, draw the pictures.

        Raises
        ------
        KeyboardInterrupt, FloatingPointError
            Ctrl-C, or training diverged. The model as it is then was saved; the message says where.
        OSError, ValueError, TypeError
            As the model's `fit`.
        """
        quiet, path = arguments.quiet, arguments.checkpoint
        clock = _Clock()
        callbacks: list[Callback] = [] if path is None else [Checkpoint(path, arguments.every)]
        callbacks.append(clock)
        if not quiet:
            callbacks.append(ProgressBar(metrics))
        self.model.set_params(callbacks=callbacks)
        try:
            self.fit()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._keep(clock.phases)) from None
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; {self._keep(clock.phases)}") from None
        kept = self._keep(clock.phases)
        try:
            if not quiet:
                print(self.closing_table(clock.phases))
                print(f"\nmodel     {self.output.model}")
            drawn = self.draw() if draws else []
        except KeyboardInterrupt:
            raise KeyboardInterrupt(kept) from None
        if drawn and not quiet:
            lines = (f"{'' if i else 'pictures':10}{path}" for i, path in enumerate(drawn))
            print("\n".join(lines))

    def _keep(self, phases: Sequence[Phase]) -> str:
        """Save the model if there is one, and say so."""
        if not phases:
            return "nothing was trained yet, so nothing was saved"
        self.model.save(self.output.model)
        phase = phases[-1]
        where = f" at {phase.title.split(' (')[0]}" if phase.title.startswith("layer ") else ""
        return (
            f"the model{where} after {phase.last_epoch} whole epochs and what followed is in "
            f"{self.output.model}"
        )


def _likelihood_of(data: Data, metrics: bool | str = True) -> str:
    name = "log_likelihood" if metrics == "likelihood" else "pseudo_likelihood"
    return name if data.held_out is None else f"val_{name}"


def _epochs(asked: int | None, shown: int, most: int, data: Data) -> int:
    """Return how many epochs were asked for, else what shows so many rows, but 5 to `most`."""
    if asked is not None:
        return asked
    n_rows: int = data.train.shape[0]
    return min(max(5, round(shown / n_rows)), most)


def _schedule(rate: float, epochs: int, decay: str) -> Any:
    if decay == "none":
        return rate
    return lambda epoch: rate * (1 - epoch / epochs)


def _speed(n_rows: int, seconds: float) -> str:
    return f"{rounded(n_rows / seconds)} samples/s" if n_rows else "nothing new"
