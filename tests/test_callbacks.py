"""Callbacks: what they are told and when, what their answers do, what their errors leave."""

import io
import re

import numpy as np
import pytest

from harmonium import BernoulliRBM, load
from harmonium.callbacks import Callback, Checkpoint, EarlyStopping, MetricsWriter, ProgressBar

X = np.random.default_rng(0).random((60, 9)) < 0.4
METRICS = {"reconstruction_error", "pseudo_likelihood"}


def fit(callbacks, n_iter=5, X_val=None, **parameters):
    rbm = BernoulliRBM(4, n_iter=n_iter, random_state=0, callbacks=callbacks, **parameters)
    return rbm.fit(X, X_val=X_val)


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def on_fit_begin(self, estimator, first_epoch):
        self.events.append(("begin", first_epoch, estimator.n_iter_))

    def on_progress(self, estimator, epoch, fraction):
        self.events.append(("progress", epoch, fraction))

    def on_epoch_end(self, estimator, epoch, metrics):
        self.events.append(("epoch", epoch, dict(metrics)))

    def on_fit_end(self, estimator):
        self.events.append(("end", estimator.n_iter_))


# ------------------------------------------------------------------------- functions and lists


def test_a_function_is_called_after_every_epoch_with_the_estimator_up_to_date():
    calls = []

    def callback(estimator, epoch, metrics):
        assert estimator.n_iter_ == epoch == len(estimator.history_["epoch"])
        assert estimator.transform(X).shape == (60, 4)
        calls.append((epoch, dict(metrics), estimator.components_.copy()))

    rbm = fit(callback, n_iter=3)
    assert [epoch for epoch, *_ in calls] == [1, 2, 3]
    for epoch, metrics, W in calls:
        assert metrics == {name: rbm.history_[name][epoch - 1] for name in METRICS}
        np.testing.assert_array_equal(W, fit(None, n_iter=epoch).components_)


def test_what_a_callback_kept_is_not_written_to_any_more():
    kept = []
    fit(lambda estimator, epoch, metrics: kept.append(estimator.components_))
    assert not np.array_equal(kept[0], kept[-1])


@pytest.mark.parametrize("answer, epochs", [(True, 2), (np.True_, 2), (False, 5), (None, 5)])
def test_a_true_answer_ends_the_training(answer, epochs):
    rbm = fit(lambda estimator, epoch, metrics: answer if epoch == 2 else None)
    assert rbm.n_iter_ == epochs
    np.testing.assert_array_equal(rbm.components_, fit(None, n_iter=epochs).components_)


@pytest.mark.parametrize("container", [list, tuple])
def test_all_of_a_list_see_every_event_even_when_one_stops(container):
    first, last = Recorder(), Recorder()
    fit(container([first, lambda estimator, epoch, metrics: True, last]))
    assert first.events == last.events
    kinds = [event[0] for event in last.events if event[0] != "progress"]
    assert kinds == ["begin", "epoch", "end"]


def test_callbacks_and_metrics_change_no_result():
    plain = fit(None, metrics=False)
    np.testing.assert_array_equal(fit(Recorder(), X_val=X).components_, plain.components_)


def test_order_of_events_and_progress():
    recorder = Recorder()
    fit(recorder, n_iter=2)
    kinds = [event[0] for event in recorder.events]
    assert recorder.events[0] == ("begin", 0, 0)
    assert recorder.events[-1] == ("end", 2)
    assert re.fullmatch("begin (progress )+epoch (progress )+epoch end", " ".join(kinds))
    for epoch in (1, 2):
        fractions = [e[2] for e in recorder.events if e[0] == "progress" and e[1] == epoch]
        assert fractions == sorted(set(fractions))  # rising
        assert fractions[0] > 0
        assert fractions[-1] == 1.0


def test_progress_comes_often_enough_for_a_bar():
    """A chunk has at most twice as many minibatches as the one before, however fast the machine:
    600 are at least ten chunks, 1 + 2 + ... + 2⁹."""
    recorder = Recorder()
    BernoulliRBM(4, n_iter=1, random_state=0, callbacks=recorder).fit(np.tile(X, (100, 1)))
    fractions = [event[2] for event in recorder.events if event[0] == "progress"]
    assert len(fractions) >= 10
    assert fractions[0] == 10 / 6000


def test_held_out_metrics_reach_callbacks():
    recorder = Recorder()
    fit(recorder, n_iter=1, X_val=X[:20])
    (metrics,) = (event[2] for event in recorder.events if event[0] == "epoch")
    assert set(metrics) == METRICS | {f"val_{name}" for name in METRICS} | {"free_energy_gap"}
    assert all(type(value) is float for value in metrics.values())


def test_without_metrics_callbacks_get_none():
    recorder = Recorder()
    fit(recorder, n_iter=1, X_val=X[:20], metrics=False)
    assert ("epoch", 1, {}) in recorder.events


@pytest.mark.parametrize("event", ["on_fit_begin", "on_progress", "on_epoch_end"])
def test_an_error_in_a_callback_reaches_the_caller_and_ends_the_others(event):
    class Failing(Callback):
        pass

    def fail(self, *args):
        raise RuntimeError("full disk")

    setattr(Failing, event, fail)
    recorder = Recorder()
    rbm = BernoulliRBM(4, n_iter=3, random_state=0, callbacks=[recorder, Failing()])
    with pytest.raises(RuntimeError, match="full disk"):
        rbm.fit(X)
    assert recorder.events[-1][0] == "end"
    assert rbm.transform(X).shape == (60, 4)
    assert rbm.set_params(callbacks=None).fit(X).n_iter_ == 3


# --------------------------------------------------------------------------------- EarlyStopping


def stop_at(values, monitor="score", **options):
    """The epoch in which EarlyStopping ends a training with these values, or None; and itself."""
    stopping = EarlyStopping(monitor, **options)
    stopping.on_fit_begin(None, 0)
    for epoch, value in enumerate(values, start=1):
        if stopping.on_epoch_end(None, epoch, {monitor: value}):
            return epoch, stopping
    return None, stopping


@pytest.mark.parametrize(
    "values, options, epoch",
    [
        ([1, 2, 3, 4, 5], {"patience": 0}, None),
        ([1, 2, 2, 3], {"patience": 0}, 3),  # equal is no improvement
        ([3, 2, 1, 1, 1], {"patience": 2}, 4),
        ([3, 2, 4, 3, 3], {"patience": 2}, None),
        ([1, 1.05, 1.09, 1.1], {"patience": 1, "min_delta": 0.1}, 3),
        ([1, 1.2, 1.4, 1.6], {"patience": 0, "min_delta": 0.1}, None),
        # Small steps add up: they are held against the best that counted.
        ([1, 1.06, 1.12, 1.18], {"patience": 1, "min_delta": 0.1}, None),
        ([3, 2, 1, 0], {"patience": 0, "mode": "min"}, None),
        ([3, 2, 1, 0], {"patience": 0, "mode": "max"}, 2),
        ([3, 2, 1, 0], {"patience": 0, "monitor": "val_reconstruction_error"}, None),
        ([3, 2, 1, 0], {"patience": 0, "monitor": "free_energy_gap"}, None),
        ([3, 2, 1, 0], {"patience": 0, "monitor": "pseudo_likelihood"}, 2),
        ([1, 2, 3], {"patience": 0, "monitor": "free_energy_gap", "mode": "max"}, None),
    ],
)
def test_early_stopping_waits_as_told(values, options, epoch):
    assert stop_at(values, **options)[0] == epoch


def test_early_stopping_remembers_the_best():
    stopping = stop_at([1, 5, 4, 3], patience=9)[1]
    assert (stopping.best_, stopping.best_epoch_) == (5, 2)


def test_early_stopping_ends_a_fit_and_starts_anew_with_the_next():
    stopping = EarlyStopping("val_pseudo_likelihood", patience=2, min_delta=1e9)  # never improves
    for _ in range(2):
        rbm = fit(stopping, n_iter=20, X_val=X[:20])
        assert rbm.n_iter_ == 4  # the first is the best, and three are more than two
        assert stopping.best_ == rbm.history_["val_pseudo_likelihood"][0]


@pytest.mark.parametrize(
    "monitor, X_val, message",
    [
        ("val_pseudo_likelihood", None, r"'val_pseudo_likelihood'.*X_val"),
        ("likelihood", None, r"'likelihood', which is not measured; measured: pseudo_likelihood,"),
    ],
)
def test_early_stopping_on_what_is_not_measured(monitor, X_val, message):
    with pytest.raises(ValueError, match=message):
        fit(EarlyStopping(monitor), X_val=X_val)
    with pytest.raises(ValueError, match="measured: none"):
        fit(EarlyStopping(monitor), metrics=False)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"patience": -1}, ValueError, "patience must be at least 0, got -1"),
        ({"patience": 1.5}, TypeError, "patience must be an integer, got 1.5"),
        ({"min_delta": -1.0}, ValueError, "min_delta must be .*got -1.0"),
        ({"min_delta": "a"}, TypeError, "min_delta must be a number, got 'a'"),
        ({"mode": "up"}, ValueError, "mode must be 'auto', 'max' or 'min'; got 'up'"),
    ],
)
def test_early_stopping_options(options, error, message):
    with pytest.raises(error, match=message):
        EarlyStopping(**options)


# ------------------------------------------------------------------------------------ Checkpoint


def test_checkpoint_writes_every_few_epochs_under_its_name(tmp_path):
    fit(Checkpoint(tmp_path / "at-{epoch}.safetensors", every=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "at-2.safetensors",
        "at-4.safetensors",
    ]
    for epoch in (2, 4):
        saved = load(tmp_path / f"at-{epoch}.safetensors")
        assert saved.n_iter_ == epoch
        np.testing.assert_array_equal(saved.components_, fit(None, n_iter=epoch).components_)


def test_checkpoint_replaces_its_file(tmp_path):
    path = tmp_path / "run.safetensors"
    seen = []
    fit([Checkpoint(str(path)), lambda *_: seen.append(load(path).n_iter_)], n_iter=3)
    assert seen == [1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]


def test_checkpoint_to_a_missing_folder_says_so(tmp_path):
    path = tmp_path / "nowhere" / "run.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(Checkpoint(path))
    for every, error in ((0, ValueError), (True, TypeError), (1.5, TypeError)):
        with pytest.raises(error, match="every must be"):
            Checkpoint(path, every=every)


# --------------------------------------------------------------------- MetricsWriter, ProgressBar


def test_metrics_writer_passes_everything_on():
    class Writer:
        def __init__(self):
            self.rows = []

        def add_scalar(self, tag, value, step):
            self.rows.append((tag, value, step))

    writer = Writer()
    rbm = fit(MetricsWriter(writer, prefix="rbm/"), n_iter=2)
    assert sorted(writer.rows) == sorted(
        (f"rbm/{name}", rbm.history_[name][epoch - 1], epoch)
        for name in METRICS
        for epoch in (1, 2)
    )
    with pytest.raises(TypeError, match=r"writer must have a method add_scalar.*got 3"):
        MetricsWriter(3)


def shown_by(**options):
    out = io.StringIO()
    rbm = fit(ProgressBar(file=out, **options), n_iter=3, X_val=X[:20])
    return rbm, re.split("[\r\n]", out.getvalue())


def test_progress_bar_ends_full_with_the_last_metrics():
    rbm, lines = shown_by()
    last = [line for line in lines if line.strip()][-1]
    assert last.startswith("BernoulliRBM: 100%|")
    assert "epoch 3.0/3" in last
    assert f"PL {rbm.history_['pseudo_likelihood'][-1]:.4g}" in last
    assert f"held-out PL {rbm.history_['val_pseudo_likelihood'][-1]:.4g}" in last


def test_progress_bar_stands_where_training_does():
    bar, positions = ProgressBar(file=io.StringIO()), []

    class Look(Callback):
        def on_progress(self, estimator, epoch, fraction):
            positions.append((bar._bar.n, epoch - 1 + fraction))

    fit([bar, Look()], n_iter=2)
    for shown, true in positions:
        assert shown == pytest.approx(true)


def test_progress_bar_shows_the_metrics_asked_for():
    rbm, lines = shown_by(metrics=["reconstruction_error", "unknown"])
    assert f"error {rbm.history_['reconstruction_error'][-1]:.4g}" in lines[-2]
    assert "PL" not in "".join(lines)


def test_progress_bar_goes_to_standard_error_and_survives_an_interrupt(capsys):
    bar = ProgressBar()

    def interrupt(estimator, epoch, metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([bar, interrupt])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 1.0/5" in captured.err
    fit(bar)  # the same bar again
    assert "epoch 5.0/5" in capsys.readouterr().err
