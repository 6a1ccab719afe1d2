"""metrics="likelihood": what training measures of log Z, when, and of which rows."""

import numpy as np
import pytest

from harmonium import DBN, BernoulliRBM
from harmonium.callbacks import Callback
from harmonium.evaluation import log_likelihood, log_partition
from harmonium.rbm_training import LogPartitions

RNG = np.random.default_rng(0)
X = RNG.random((90, 20)) < np.repeat([0.2, 0.7], [12, 8])
X_VAL = RNG.random((40, 20)) < 0.4


def curve(n_iter=3, data=X, X_val=X_VAL, resume=None, n_hidden=18, **parameters):
    given = {"random_state": 0, "metrics": "likelihood", "batch_size": 9} | parameters
    rbm = BernoulliRBM(n_hidden, n_iter=n_iter, **given)
    return rbm.fit(data, X_val=X_val, resume=resume)


@pytest.fixture
def annealed(monkeypatch):
    """With fewer chains and temperatures, where the machine is not small."""
    monkeypatch.setattr(LogPartitions, "CHAINS", 20)
    monkeypatch.setattr(LogPartitions, "TEMPERATURES", 150)


@pytest.mark.parametrize(("n_hidden", "n_visible"), [(5, 20), (16, 20), (30, 7)])
def test_machines_with_a_small_side_are_measured_exactly(n_hidden, n_visible):
    rows, held_out = X[:, :n_visible], X_VAL[:, :n_visible]
    rbm = curve(data=rows, X_val=held_out, n_hidden=n_hidden)
    # 50 rows of each are measured, evenly spread, as the other metrics' are.
    for name, sample in (
        ("log_likelihood", rows[np.linspace(0, 89, 50).astype(int)]),
        ("val_log_likelihood", held_out),
    ):
        values = rbm.history_[name]
        assert len(values) == 3
        expected = log_likelihood(rbm, sample, method="exact").mean
        assert values[-1] == pytest.approx(expected, abs=1e-9)
        assert values[0] != values[-1]


def test_larger_ones_are_annealed(monkeypatch):
    exact = curve(n_hidden=16)
    monkeypatch.setattr(LogPartitions, "MOST_UNITS", 15)
    by_ais = curve(n_hidden=16)
    for name in ("log_likelihood", "val_log_likelihood"):
        # Hundred chains over a thousand temperatures: 0.003 nats were seen of so small a machine.
        np.testing.assert_allclose(by_ais.history_[name], exact.history_[name], rtol=0, atol=0.02)
        assert by_ais.history_[name] != exact.history_[name]


def test_measuring_changes_nothing_else(annealed):
    with_it, without = curve(), curve(metrics=True)
    np.testing.assert_array_equal(with_it.components_, without.components_)
    assert without.history_.keys() == with_it.history_.keys() - {
        "log_likelihood",
        "val_log_likelihood",
    }
    for name in without.history_.keys() - {"time"}:
        assert with_it.history_[name] == without.history_[name]


@pytest.mark.parametrize("parameters", [{}, {"inputs": "sample"}, {"precision": "float32"}])
def test_the_same_curve_in_a_resumed_run_and_with_any_threads(annealed, tmp_path, parameters):
    data = np.where(X, 0.8, 0.1) if "inputs" in parameters else X
    whole = curve(4, data, data[:30], n_threads=1, **parameters)
    first = curve(2, data, data[:30], **parameters)
    first.save(tmp_path / "run.safetensors")
    # Whatever was drawn from the model in between, and by whom.
    first.sample(3, 5)
    first.save(tmp_path / "run.safetensors")
    resumed = curve(
        4, data, data[:30], resume=tmp_path / "run.safetensors", n_threads=2, **parameters
    )
    for name in ("log_likelihood", "val_log_likelihood"):
        assert resumed.history_[name] == whole.history_[name]
        assert len(set(whole.history_[name])) == 4


def test_without_held_out_rows_and_on_numbers_of_a_generator(annealed, capsys):
    rbm = curve(2, X_val=None, random_state=np.random.RandomState(0), verbose=1)
    assert "val_log_likelihood" not in rbm.history_
    lines = capsys.readouterr().out.splitlines()
    for line, value in zip(lines, rbm.history_["log_likelihood"], strict=True):
        assert f" log-likelihood = {value:.2f}, pseudo-likelihood = -" in line
    curve(1, metrics=True, verbose=1)
    assert "log-likelihood" not in capsys.readouterr().out


def test_rows_with_missing_values_are_measured_as_they_are_completed():
    missing = X.astype(float)
    missing[::3, :5] = np.nan
    rbm = curve(2, missing, n_hidden=6, missing="sample")
    assert np.isfinite(rbm.history_["log_likelihood"]).all()
    expected = log_likelihood(rbm, X_VAL).mean
    assert rbm.history_["val_log_likelihood"][-1] == pytest.approx(expected, abs=1e-9)


def test_a_dbn_measures_its_layers(annealed):
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, estimator, epoch, metrics):
            seen.append((self.title[:7], metrics["val_log_likelihood"]))

    layer = BernoulliRBM(n_iter=2, metrics="likelihood")
    dbn = DBN((18, 4), rbm=layer, random_state=0, callbacks=Watch()).fit(X, X_val=X_VAL)
    assert [title for title, _ in seen] == ["layer 1"] * 2 + ["layer 2"] * 2
    below = dbn.rbms_[1]
    assert below.history_["log_likelihood"][-1] > -4 * 18
    assert log_partition(below) > 0


def test_what_has_no_likelihood():
    grey = np.where(X, 0.9, 0.1)
    with pytest.raises(ValueError, match=r'"likelihood".* but X holds .*inputs="sample"'):
        curve(1, grey)
    with pytest.raises(ValueError, match=r'"likelihood".* but X_val holds .*inputs="sample"'):
        curve(1, X, grey)
    rbm = BernoulliRBM(3, metrics="likelihood")
    with pytest.raises(ValueError, match="but X holds"):
        rbm.fit(grey)
    assert not hasattr(rbm, "n_features_in_")

    ran = []
    layer = BernoulliRBM(n_iter=1, metrics="likelihood", callbacks=lambda *told: ran.append(told))
    with pytest.raises(ValueError, match='layer_inputs="mean" layers above the first'):
        DBN((3, 3), rbm=layer, layer_inputs="mean").fit(X)
    with pytest.raises(ValueError, match="label_units=True gives the topmost RBM some"):
        DBN((3, 3), rbm=layer, label_units=True).fit(X, np.arange(90) % 2)
    assert ran == []  # found before the first layer is trained
    DBN((3, 3), rbm=[layer, BernoulliRBM(n_iter=1)], label_units=True).fit(X, np.arange(90) % 2)
    assert "log_likelihood" in ran[0][2]
