"""The command line: what it prints, writes, refuses, and how it ends."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from harmonium import (
    DBN,
    BernoulliRBM,
    DBNClassifier,
    DeepAutoencoder,
    SoftmaxRegression,
    __version__,
    commands,
    load,
    plotting,
)
from harmonium.cli import build_parser, main
from harmonium.commands import pictures, training
from harmonium.commands.data import dense, load_data
from harmonium.commands.output import table
from harmonium.commands.training import gibbs_chains
from harmonium.evaluation import log_likelihood, log_partition, pseudo_log_likelihood

SMALL = ["train", "rbm", "--data", "digits", "--hidden", "8", "--epochs", "2", "--threads", "1"]
SMALL_DBN = [
    *("train", "dbn", "--data", "digits", "--hidden", "12,8", "--pretrain-epochs", "2"),
    *("--threads", "1"),
]
CLASSIFIER = [*SMALL_DBN, "--epochs", "3"]
GENERATIVE = [*SMALL_DBN, "--generative"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "HARMONIUM_DEBUG"}
# Whichever harmonium is tested here, from whatever folder.
ENVIRONMENT["PYTHONPATH"] = str(Path(commands.__file__).parents[2])


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "harmonium", *arguments],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARMONIUM_DEBUG", raising=False)


@pytest.fixture
def mnist():
    """The folder with MNIST's files, where the environment names one."""
    folder = os.environ.get("HARMONIUM_DATA")
    if not folder:
        pytest.skip("HARMONIUM_DATA does not name a folder with MNIST")
    return Path(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the digits, trained from the command line."""
    path = tmp_path_factory.mktemp("model") / "digits.safetensors"
    assert main([*SMALL, "--quiet", "--no-pictures", "--output", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier of the digits, trained from the command line."""
    path = tmp_path_factory.mktemp("model") / "classifier.safetensors"
    assert main([*CLASSIFIER, "--quiet", "--no-pictures", "--output", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def generative(tmp_path_factory):
    """A DBN with units of labels, trained from the command line."""
    path = tmp_path_factory.mktemp("model") / "generative.safetensors"
    assert main([*GENERATIVE, "--quiet", "--no-pictures", "--output", str(path)]) == 0
    return path


def error_of(capsys, arguments):
    """Run what must fail with 1, and return its one line."""
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("harmonium: error: ")
    assert "Traceback" not in captured.err
    return captured.err.removeprefix("harmonium: error: ").rstrip()


# ---------------------------------------------------------------------------- help and usage


def parsers(parser, name="harmonium"):
    yield name, parser
    for action in parser._actions:
        for command, child in (
            (getattr(action, "choices", None) or {}).items()
            if hasattr(action, "_name_parser_map")
            else ()
        ):
            yield from parsers(child, f"{name} {command}")


@pytest.mark.parametrize(("name", "parser"), list(parsers(build_parser())))
def test_every_command_explains_itself_whatever_the_terminal_is(monkeypatch, name, parser):
    texts = set()
    for columns in ("20", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        texts.add(parser.format_help())
    (text,) = texts
    assert text.startswith(f"usage: {name}")
    assert max(map(len, text.splitlines())) <= 100
    for action in parser._actions:
        assert action.help or action.choices


@pytest.mark.parametrize("kind", ["rbm", "dbn"])
def test_every_training_option_with_a_default_tells_it(kind):
    (parser,) = (p for name, p in parsers(build_parser()) if name == f"harmonium train {kind}")
    told = 0
    for action in parser._actions:
        if action.default not in (None, False, "==SUPPRESS=="):
            number = re.search(r"\(default: ([^ )]*[^ ),])", action.help % vars(action))
            assert number, action.dest
            default = "yes" if action.default is True else action.default
            if isinstance(default, float):
                assert float(number[1]) == default
            else:
                assert number[1] == str(default)
            told += 1
    assert told > 11


def test_help_and_version_import_neither_scikit_learn_nor_numpy():
    code = (
        "import sys; from harmonium.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'sklearn', 'scipy', 'numpy'} & set(sys.modules)"
    )
    for arguments in (["--version"], ["train", "rbm", "--help"], ["train", "dbn", "--help"]):
        subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
        )


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"harmonium {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice"),
        (["train"], "MODEL-KIND"),
        (["train", "rbm"], "--data"),
        ([*SMALL, "--hidden", "0"], "--hidden: expected a whole number of at least 1, got '0'"),
        ([*SMALL, "--hidden", "1.5"], "got '1.5'"),
        ([*SMALL, "--learning-rate", "0"], "--learning-rate: expected a number above 0, got '0'"),
        ([*SMALL, "--learning-rate", "inf"], "above 0, got 'inf'"),
        ([*SMALL, "--l2", "nan"], "--l2: expected a number of at least 0, got 'nan'"),
        ([*SMALL, "--momentum", "1"], "--momentum: expected a number of at least 0 and below 1"),
        ([*SMALL, "--seed", "-1"], "--seed"),
        ([*SMALL, "--seed", str(2**32)], "below 2**32"),
        ([*SMALL, "--image-shape", "8"], "expected HEIGHTxWIDTH, such as 28x28, got '8'"),
        ([*SMALL, "--algorithm", "sgd"], "invalid choice"),
        ([*SMALL, "--learn", "0.1"], "--learn"),  # no abbreviations
        ([*CLASSIFIER, "--hidden", "8,x"], "at least 1 with commas between them, got '8,x'"),
        ([*CLASSIFIER, "--hidden", ""], "--hidden: expected whole numbers"),
        ([*CLASSIFIER, "--dropout", "1"], "--dropout: expected a number of at least 0 and below 1"),
        ([*GENERATIVE, "--dropout", "0.5"], "--dropout: says nothing with --generative"),
        ([*GENERATIVE, "--no-pretrain"], "--no-pretrain: says nothing with --generative"),
        ([*CLASSIFIER, "--up-down-epochs", "1"], "says nothing without --generative"),
        ([*CLASSIFIER, "--no-pretrain"], "--pretrain-epochs: says nothing with --no-pretrain"),
        ([*CLASSIFIER, "--patience", "3"], "--patience: says nothing without --early-stopping"),
        (["evaluate", "m"], "--data"),
        (
            ["evaluate", "m", "--data", "digits", "--no-likelihood", "--chains", "9"],
            "--chains: says nothing with --no-likelihood",
        ),
        (["evaluate", "m", "--data", "digits", "--chains", "1"], "at least 2, got '1'"),
        (["sample", "m", "--data", "digits"], "--data: says nothing without --clamp"),
        (["sample", "m", "--binarize", "none"], "--binarize: says nothing without --clamp"),
        (["sample", "m", "--clamp", "top-half"], "--clamp: needs rows of which it holds a part"),
        (
            ["sample", "m", "--clamp", "top-half", "--data", "digits", "--label", "7"],
            "--label: says nothing with --clamp",
        ),
        (["sample", "m", "--clamp", "middle"], "invalid choice"),
        (["sample", "m", "--steps", "0"], "--steps: expected a whole number of at least 1"),
        (["sample", "m", "-n", "0"], "-n: expected a whole number of at least 1"),
        (["demo", "--data", "faces"], "invalid choice"),
    ],
)
def test_a_command_line_without_sense_is_refused_with_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


# ---------------------------------------------------------------------------- training


def test_train_writes_the_model_and_pictures_and_prints_one_table(capsys, tmp_path):
    assert main([*SMALL, "--output", "out"]) == 0
    captured = capsys.readouterr()
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(files) == {
        "model.safetensors",
        "filters.png",
        "reconstructions.png",
        "samples.png",
        "training.png",
    }
    assert all(is_png(path) for name, path in files.items() if name.endswith(".png"))
    for name in files:
        assert f"out/{name}" in captured.out
    assert "epoch 2.0/2" in captured.err
    assert "held-out PL" in captured.err
    assert "\x1b" not in captured.out

    rbm = load(files["model.safetensors"])
    assert (rbm.n_features_in_, rbm.n_components, rbm.n_iter_) == (256, 8, 2)
    lines = captured.out.splitlines()
    (rows,) = (line.split() for line in lines if line.startswith("rows"))
    assert rows == ["rows", "1,437", "360"]
    (errors,) = (line.split()[2:] for line in lines if line.startswith("reconstruction error "))
    assert errors == [
        f"{rbm.history_[name][-1]:.4f}"
        for name in ("reconstruction_error", "val_reconstruction_error")
    ]
    data = load_data("digits")
    (scores,) = (line for line in lines if line.startswith("pseudo-likelihood "))
    score, spread = map(float, re.findall(r"(-[\d.]+) \+- ([\d.]+)", scores)[1])
    expected = pseudo_log_likelihood(rbm, data.held_out)
    assert score == pytest.approx(expected.mean(), abs=0.051)
    assert spread == pytest.approx(expected.std(ddof=1) / 360**0.5, abs=0.051)
    (independent,) = (line for line in lines if line.startswith("  of independent units"))
    mean = np.clip(data.train.mean(axis=0), 0.5 / 1437, 1 - 0.5 / 1437)
    likelihood = np.where(data.held_out, np.log(mean), np.log(1 - mean)).sum(axis=1).mean()
    assert float(independent.split()[-1]) == pytest.approx(likelihood, abs=0.051)


def test_training_is_the_estimators_with_the_options_as_parameters(capsys, tmp_path):
    options = {
        "--algorithm": "cd",
        "--gibbs-steps": "2",
        "--learning-rate": "0.03",
        "--decay": "none",
        "--batch-size": "50",
        "--momentum": "0.5",
        "--l1": "0.0001",
        "--l2": "0.0002",
        "--init": "normal",
        "--seed": "3",
        "--precision": "float32",
        "--validation": "0",
        "--output": "m.safetensors",
    }
    flat = [word for pair in options.items() for word in pair]
    assert main([*SMALL, *flat, "--no-shuffle", "--no-pictures"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    assert "held out" not in capsys.readouterr().out
    rbm = BernoulliRBM(
        8, algorithm="cd", n_gibbs_steps=2, learning_rate=0.03, batch_size=50, momentum=0.5,
        l1=0.0001, l2=0.0002, init="normal", random_state=3, precision="float32", n_iter=2,
        n_threads=1,
    ).fit(load_data("digits", held_out=0).train)  # fmt: skip
    np.testing.assert_array_equal(load("m.safetensors").components_, rbm.components_)


def test_the_rate_falls_in_a_line_that_would_meet_0_after_the_last_epoch(capsys):
    arguments = [*SMALL, "--epochs", "4", "--learning-rate", "0.08", "--no-pictures"]
    assert main([*arguments, "--output", "m.safetensors"]) == 0
    rates = load("m.safetensors").history_["learning_rate"]
    assert rates == pytest.approx([0.08, 0.06, 0.04, 0.02])


def test_quiet_prints_nothing(capfd):
    assert main([*SMALL, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_the_likelihood_is_a_curve_too(capsys, tmp_path, monkeypatch):
    drawn = []
    plot = plotting.plot_history
    monkeypatch.setattr(plotting, "plot_history", lambda of: drawn.append(set(of)) or plot(of))
    assert main([*SMALL, "--likelihood", "--output", "out"]) == 0
    captured = capsys.readouterr()
    history = load("out/model.safetensors").history_
    told = [f"{history[name][-1]:.1f}" for name in ("log_likelihood", "val_log_likelihood")]
    (line,) = (line for line in captured.out.splitlines() if line.startswith("log-likelihood "))
    assert line.split()[1:] == told
    assert f"held-out LL {history['val_log_likelihood'][-1]:.4g}" in captured.err
    assert is_png(tmp_path / "out" / "training.png")
    (curves,) = drawn
    assert {"log_likelihood", "val_log_likelihood", "pseudo_likelihood"} < curves
    assert not {"reconstruction_error", "val_reconstruction_error", "learning_rate"} & curves

    assert main([*SMALL, "--output", "out"]) == 0
    assert "log-likelihood" not in capsys.readouterr().out
    assert "reconstruction_error" in drawn[-1]
    grey = error_of(capsys, [*SMALL, "--likelihood", "--binarize", "none"])
    assert grey.startswith("--likelihood: is of zeros and ones, but --data digits has values")


def test_a_resumed_run_ends_where_the_whole_one_does(capsys):
    common = [*SMALL, "--no-pictures", "--epochs", "4"]
    assert main([*common, "--output", "whole.safetensors", "--checkpoint", "{epoch}.st"]) == 0
    resumed = [*common, "--resume", "3.st", "--output", "resumed.safetensors"]
    assert main(resumed) == 0
    assert "4 epochs (resumed after 3)" in capsys.readouterr().out
    np.testing.assert_array_equal(
        load("whole.safetensors").components_, load("resumed.safetensors").components_
    )
    # Nothing left to do is no error either.
    assert main([*common, "--resume", "whole.safetensors"]) == 0
    assert "nothing new" in capsys.readouterr().out


def test_every_tells_how_often_to_save(tmp_path):
    arguments = [*SMALL, "--quiet", "--no-pictures", "--checkpoint", "c{epoch}", "--every", "2"]
    assert main([*arguments, "--epochs", "5"]) == 0
    assert sorted(path.name for path in tmp_path.glob("c*")) == ["c2", "c4"]


def hide_matplotlib(monkeypatch):
    def find_spec(name, *args):
        return None if name == "matplotlib" else importlib.util.find_spec(name, *args)

    monkeypatch.setattr(pictures, "find_spec", find_spec)


def test_without_matplotlib_training_goes_on_and_says_what_is_missing(
    monkeypatch, capsys, tmp_path
):
    hide_matplotlib(monkeypatch)
    assert main([*SMALL, "--output", "out"]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first == 'no pictures: pictures need matplotlib: pip install "harmonium[plot]"'
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("arguments", [["demo"], [*SMALL, "--pictures"], ["sample", "x"]])
def test_without_matplotlib_pictures_that_were_asked_for_are_an_error(
    monkeypatch, capsys, tmp_path, arguments
):
    hide_matplotlib(monkeypatch)
    assert error_of(capsys, arguments) == 'pictures need matplotlib: pip install "harmonium[plot]"'
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- training a DBN


def same_network(one, other):
    one, other = load(one), load(other)
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(one.rbms_, other.rbms_, strict=True):
        np.testing.assert_array_equal(a.components_, b.components_)
    assert one.history_.keys() == other.history_.keys()
    for name in one.history_.keys() - {"time"}:
        assert one.history_[name] == other.history_[name]


def test_train_dbn_writes_the_model_and_pictures_and_prints_one_table(capsys, tmp_path):
    assert main([*CLASSIFIER, "--output", "out"]) == 0
    captured = capsys.readouterr()
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(files) == {"model.safetensors", "confusion.png", "filters.png", "training.png"}
    assert all(is_png(path) for name, path in files.items() if name.endswith(".png"))
    for name in files:
        assert f"out/{name}" in captured.out
    # A bar for each phase, and what each measures.
    for title in ("layer 1 of 2 (256-12)", "layer 2 of 2 (12-8)", "DBNClassifier"):
        assert f"{title}: 100%" in captured.err
    assert "held-out PL" in captured.err
    assert "validation error 0." in captured.err

    told = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in captured.out.splitlines()[:4])
    assert told["model"] == "256 units, 12 - 8 hidden ones, 10 classes"
    assert told["pre-training"].startswith("2 layers, 4 epochs in ")
    model = load(files["model.safetensors"])
    best = int(np.argmin(model.history_["val_error"])) + 1
    assert re.match(
        rf"3 epochs in [\d.]+ s, [\d,]+ samples/s; the best was {best}$", told["fine-tuning"]
    )
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in captured.out.splitlines()[6:9])
    assert rows["rows"].split() == ["1,077", "360", "360"]
    data = load_data("digits", binarize="none", labelled=True)
    wrong = [
        int(np.sum(model.predict(X) != y))
        for X, y in (
            (data.train, data.y_train),
            (data.held_out, data.y_held_out),
            (data.test, data.y_test),
        )
    ]
    assert rows["errors"].split() == [f"{n:,}" for n in wrong]
    assert f"test error {wrong[-1] / 360:.2%}, 95% interval" in captured.out


def test_training_a_dbn_is_the_estimators_with_the_options_as_parameters():
    options = {
        "--pretrain-learning-rate": "0.03",
        "--pretrain-batch-size": "20",
        "--pretrain-gibbs-steps": "2",
        "--decay": "none",
        "--batch-size": "30",
        "--learning-rate": "0.2",
        "--dropout": "0.1",
        "--input-dropout": "0.05",
        "--max-norm": "2.5",
        "--momentum": "0.3",
        "--l2": "0.0001",
        "--early-stopping": "patience",
        "--patience": "2",
        "--seed": "3",
        "--validation": "100",
        "--binarize": "stochastic",
        "--output": "m.safetensors",
    }
    flat = [word for pair in options.items() for word in pair]
    assert main([*CLASSIFIER, *flat, "--no-pictures", "--quiet"]) == 0
    # The layers learn from bits, the whole from intensities.
    grey = load_data("digits", binarize="none", held_out=100, labelled=True)
    bits = load_data("digits", binarize="stochastic", seed=3, held_out=100, labelled=True)
    rbm = BernoulliRBM(
        learning_rate=0.03, algorithm="cd", momentum=0.5, shuffle=True, n_iter=2, batch_size=20,
        n_gibbs_steps=2,
    )  # fmt: skip
    model = DBNClassifier(
        (12, 8), rbm=rbm, batch_size=30, learning_rate=0.2, dropout=0.1, input_dropout=0.05,
        max_norm=2.5, momentum=0.3, l2=0.0001, early_stopping="patience", patience=2, max_iter=3,
        random_state=3, n_threads=1,
    ).pretrain(bits.train)  # fmt: skip
    X_val, y_val = grey.held_out, grey.y_held_out
    model.fit(grey.train, grey.y_train, X_val=X_val, y_val=y_val, pretrain=False)
    for W, expected in zip(load("m.safetensors").coefs_, model.coefs_, strict=True):
        np.testing.assert_array_equal(W, expected)


def test_no_pretraining_begins_with_random_layers(capsys):
    arguments = [word for word in CLASSIFIER if word not in ("--pretrain-epochs", "2")]
    arguments += ["--no-pretrain", "--no-pictures", "--output", "m.safetensors"]
    assert main(arguments) == 0
    assert "pre-training" not in capsys.readouterr().out
    assert not hasattr(load("m.safetensors"), "rbms_")


def test_train_dbn_generative_is_the_dbn_with_units_of_labels(capsys, tmp_path):
    arguments = [*GENERATIVE, "--up-down-epochs", "2", "--decay", "none", "--output", "out"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "filters.png",
        "model.safetensors",
        "samples.png",
        "training.png",
    ]
    assert "layer 2 of 2 (22-8): 100%" in captured.err
    assert "up-down: 100%" in captured.err
    assert "\nup-down       2 epochs in " in captured.out
    assert "test error" in captured.out
    data = load_data("digits", labelled=True)
    rbm = BernoulliRBM(
        learning_rate=0.05, n_iter=2, shuffle=True, batch_size=100, n_gibbs_steps=5, n_chains=100,
        l2=0.0002, init="data",
    )  # fmt: skip
    dbn = DBN((12, 8), rbm=rbm, label_units=True, random_state=0, n_threads=1)
    dbn.fit(data.train, data.y_train).fit_up_down(data.train, data.y_train, n_iter=2)
    model = load("out/model.safetensors")
    for (W, _), (expected, _) in zip(model.generation_, dbn.generation_, strict=True):
        np.testing.assert_array_equal(W, expected)


def interrupt_at(monkeypatch, title, epoch):
    class Clock(training._Clock):
        def on_epoch_end(self, estimator, number, metrics):
            super().on_epoch_end(estimator, number, metrics)
            if self.title.startswith(title) and number == epoch:
                raise KeyboardInterrupt

    monkeypatch.setattr(training, "_Clock", Clock)


@pytest.mark.parametrize(
    ("title", "epoch", "where"),
    [
        ("layer 1", 1, " at layer 1 of 2"),
        ("layer 2", 1, " at layer 2 of 2"),
        ("layer 2", 2, " at layer 2 of 2"),
        ("DBNClassifier", 2, ""),
    ],
)
def test_ctrl_c_in_any_phase_saves_what_there_is_to_go_on_from(
    capsys, monkeypatch, title, epoch, where
):
    common = [*CLASSIFIER, "--quiet", "--no-pictures"]
    assert main([*common, "--output", "whole.safetensors"]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, title, epoch)
        assert main([*common, "--output", "m.safetensors"]) == 130
    assert capsys.readouterr().err == (
        f"harmonium: interrupted; the model{where} after {epoch} whole epochs and what followed "
        "is in m.safetensors\n"
    )
    assert main([*common, "--resume", "m.safetensors", "--output", "resumed.safetensors"]) == 0
    same_network("whole.safetensors", "resumed.safetensors")


@pytest.mark.parametrize(("title", "epoch"), [("layer 2", 1), ("up-down", 1)])
def test_a_generative_run_goes_on_too(monkeypatch, title, epoch):
    common = [*GENERATIVE, "--up-down-epochs", "3", "--quiet", "--no-pictures"]
    assert main([*common, "--output", "whole.safetensors"]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, title, epoch)
        assert main([*common, "--output", "m.safetensors"]) == 130
    assert main([*common, "--resume", "m.safetensors", "--output", "resumed.safetensors"]) == 0
    whole, resumed = load("whole.safetensors"), load("resumed.safetensors")
    np.testing.assert_array_equal(whole.rbms_[-1].components_, resumed.rbms_[-1].components_)
    np.testing.assert_array_equal(whole.generation_[0][0], resumed.generation_[0][0])


@pytest.mark.parametrize("phase", ["--pretrain-epochs", "--epochs"])
def test_killed_in_any_phase_and_resumed(tmp_path, phase):
    """kill -9 comes at any moment, that of writing a checkpoint included."""

    def with_epochs(n):
        options = {"--pretrain-epochs": "2", "--epochs": "1"} | {phase: str(n)}
        flat = [word for pair in options.items() for word in pair]
        return [*SMALL_DBN, *flat, "--decay", "none", "--quiet", "--no-pictures"]

    child = subprocess.Popen(
        [sys.executable, "-m", "harmonium", *with_epochs(10**6), "--checkpoint", "c"],
        env=ENVIRONMENT,
    )

    def epochs_done():
        model = load("c")
        return model.rbms_[0].n_iter_ if phase == "--pretrain-epochs" else model.n_iter_

    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "c").exists() or (
            phase == "--epochs" and not hasattr(load("c"), "coefs_")
        ):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
    wanted = with_epochs(epochs_done() + 2)
    assert main([*wanted, "--resume", "c", "--output", "resumed.safetensors"]) == 0
    assert main([*wanted, "--output", "whole.safetensors"]) == 0
    same_network("whole.safetensors", "resumed.safetensors")


def test_a_finished_run_has_nothing_to_go_on_with(capsys, classifier):
    arguments = [*CLASSIFIER, "--no-pictures", "--resume", str(classifier)]
    assert main(arguments) == 0
    assert "(resumed after 3) in 0.0 s, nothing new" in capsys.readouterr().out
    assert main([*arguments, "--epochs", "4"]) == 0
    assert "4 epochs (resumed after 3)" in capsys.readouterr().out


def test_errors_of_training_a_dbn(capsys, model, classifier, generative, monkeypatch):
    np.savez("labelled.npz", X=np.eye(20), y=np.arange(20) % 2)
    np.savez("long.npz", X=np.eye(20), y=np.arange(21))
    np.savez("single.npz", X=np.eye(20), y=np.zeros(20))
    np.save("rows.npy", np.eye(20))

    def refused(*arguments):
        return error_of(capsys, [*arguments, "--quiet", "--no-pictures"])

    unlabelled = refused("train", "dbn", "--data", "rows.npy")
    assert unlabelled.startswith("--data rows.npy: holds no labels; expected mnist, digits")
    assert "y of shape (21,)" in refused("train", "dbn", "--data", "long.npz")
    assert "at least 2 classes" in refused("train", "dbn", "--data", "single.npz")
    stopping = refused(*CLASSIFIER, "--early-stopping", "patience", "--validation", "0")
    assert stopping.startswith("--early-stopping patience: watches rows held out")
    assert "holds a BernoulliRBM" in refused(*CLASSIFIER, "--resume", str(model))
    assert "holds a DBN," in refused(*CLASSIFIER, "--resume", str(generative))
    assert "hidden_layer_sizes" in refused(
        *CLASSIFIER, "--hidden", "9", "--resume", str(classifier)
    )
    diverged = refused(*CLASSIFIER, "--learning-rate", "1e38")
    assert "training diverged in epoch 1" in diverged
    assert diverged.endswith("is in harmonium-dbn/model.safetensors")
    in_a_layer = refused(*CLASSIFIER, "--pretrain-learning-rate", "1e39")
    assert in_a_layer.startswith("layer 1 of 2 (256-12): training diverged")
    assert "the model at layer 1 of 2 after 0 whole epochs" in in_a_layer

    interrupt_at(monkeypatch, "layer 1", 1)
    assert main([*CLASSIFIER, "--quiet", "--output", "broken.safetensors"]) == 130
    assert main([*GENERATIVE, "--quiet", "--output", "layer.safetensors"]) == 130
    capsys.readouterr()
    without = [word for word in CLASSIFIER if word not in ("--pretrain-epochs", "2")]
    omitted = refused(*without, "--no-pretrain", "--resume", "broken.safetensors")
    assert "is of a pre-training, which --no-pretrain omits" in omitted
    unfinished = error_of(capsys, ["evaluate", "broken.safetensors", "--data", "digits"])
    assert "holds a DBNClassifier that lacks the fine-tuning; go on" in unfinished
    unfinished = error_of(capsys, ["sample", "layer.safetensors"])
    assert "holds a DBN that lacks layers above the 1 it has" in unfinished


def test_labels_may_come_with_arrays(capsys):
    rng = np.random.default_rng(0)
    y = np.array(["left", "right"])[rng.integers(0, 2, 300)]
    X = rng.random((300, 6)) < np.where(y == "left", 0.2, 0.8)[:, None]
    np.savez("rows.npz", X=X, y=y)
    arguments = ["train", "dbn", "--data", "rows.npz", "--hidden", "4", "--epochs", "5"]
    assert main([*arguments, "--image-shape", "2x3", "--output", "m.safetensors"]) == 0
    assert "test" not in capsys.readouterr().out
    assert main(["evaluate", "m.safetensors", "--data", "rows.npz"]) == 0
    out = capsys.readouterr().out
    assert "rows.npz, 300 rows" in out
    assert "class left " in out


# ---------------------------------------------------------------------------- data


def test_data_may_be_arrays_of_many_kinds(tmp_path):
    rng = np.random.default_rng(0)
    bits = rng.random((40, 6)) < 0.5
    np.save("bits.npy", bits)
    np.savez("one.npz", rows=bits)
    np.savez("named.npz", X=bits, y=np.arange(40))
    scipy.sparse.save_npz("sparse.npz", scipy.sparse.csr_array(bits.astype(np.float32)))
    np.save("bytes.npy", (bits * 255).astype(np.uint8).reshape(40, 2, 3))
    for name in ("bits.npy", "one.npz", "named.npz", "sparse.npz", "bytes.npy"):
        data = load_data(name, held_out=0)
        np.testing.assert_array_equal(dense(data.train), bits)
        assert data.held_out is None
        assert data.image_shape == ((2, 3) if name == "bytes.npy" else None)
    data = load_data("bits.npy")
    assert (len(data.train), len(data.held_out)) == (36, 4)
    assert load_data("bits.npy", image_shape=(3, 2)).image_shape == (3, 2)


def test_binarising():
    grey = np.random.default_rng(0).random((300, 8)).astype(np.float32)
    np.save("grey.npy", grey)

    def load_as(way, **options):
        return load_data("grey.npy", binarize=way, held_out=0, **options).train

    np.testing.assert_array_equal(load_as(None), grey)
    np.testing.assert_array_equal(load_as("threshold"), grey > 0.5)
    drawn = load_as("stochastic", seed=1)
    assert drawn.dtype == bool
    np.testing.assert_array_equal(drawn, load_as("stochastic", seed=1))
    assert (drawn != load_as("stochastic", seed=2)).any()
    # 300 draws of sd at most 0.5 in each of 8 columns: five standard errors.
    np.testing.assert_allclose(drawn.mean(axis=0), grey.mean(axis=0), atol=5 * 0.5 / 300**0.5)


def test_the_digits_are_legible_strokes_in_the_order_of_the_bundled_ones():
    grey = load_data("digits", binarize="none", held_out=0).train.reshape(-1, 16, 16)
    assert grey.min() == 0
    assert grey.max() == 1
    from harmonium.datasets import load_digits

    small = grey.reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4)).reshape(-1, 64)
    assert np.corrcoef(small.ravel(), load_digits()[0].ravel())[0, 1] > 0.98


def test_mnist_is_found_by_name_and_by_path(mnist):
    named = load_data("mnist")
    assert named.train.shape == (50_000, 784)
    assert named.held_out.shape == (10_000, 784)
    assert named.image_shape == (28, 28)
    given = load_data(str(mnist), held_out=59_999)
    np.testing.assert_array_equal(given.train[0], named.train[0])


def write_bad_files():
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    np.save("vector.npy", np.zeros(3))
    np.save("outside.npy", np.full((9, 2), 2.0))
    np.save("nan.npy", np.full((9, 2), np.nan))
    np.save("one_row.npy", np.zeros((1, 4)))
    np.savez("two.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    for name in ("text.npy", "text.npz", "text.txt"):
        with open(name, "w") as file:
            file.write("hello")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere.npy", "nowhere.npy: there is no such file or folder; expected mnist, digits"),
        ("objects.npy", "objects.npy: not an array of numbers"),
        ("text.npy", "text.npy: not an array of numbers"),
        ("text.npz", "text.npz"),
        ("text.txt", "text.txt: expected a name in"),
        ("vector.npy", "vector.npy: float64 of shape (3,), expected numbers in rows"),
        ("outside.npy", "outside.npy: values from 2 to 2, expected values in [0, 1]"),
        ("nan.npy", "nan.npy: values from nan to nan"),
        ("two.npz", "holds the arrays ['a', 'b'], expected one, or one named X"),
        (".", "no MNIST train rows in ."),
    ],
)
def test_data_that_will_not_do(capsys, source, words):
    write_bad_files()
    assert words in error_of(capsys, ["train", "rbm", "--data", source, "--quiet"])


def test_data_options_that_do_not_fit(capsys):
    write_bad_files()
    message = error_of(capsys, [*SMALL, "--validation", "1797"])
    assert message == "--validation 1797: expected fewer than the 1797 rows of digits"
    assert "doesn't fit rows of 256 units" in error_of(capsys, [*SMALL, "--image-shape", "8x8"])


# ---------------------------------------------------------------------------- errors


def test_an_output_that_cannot_be_written_is_found_before_the_training(capsys, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "m.safetensors").mkdir()
    assert "file" in error_of(capsys, [*SMALL, "--output", "file"])
    assert "is a folder" in error_of(capsys, [*SMALL, "--output", "m.safetensors"])
    assert "epoch" not in capsys.readouterr().err


def test_errors_of_training(capsys, model):
    np.save("rows.npy", np.eye(9))
    other = ["train", "rbm", "--data", "rows.npy", "--quiet", "--no-pictures"]
    assert "n_components=8" in error_of(capsys, [*other, "--resume", str(model)])
    assert "no-such-file" in error_of(capsys, [*other, "--resume", "no-such-file"])
    diverged = error_of(capsys, [*SMALL, "--learning-rate", "1e38", "--quiet"])
    assert "training diverged in epoch 1" in diverged
    assert diverged.endswith("is in harmonium-rbm/model.safetensors")
    assert np.isfinite(load("harmonium-rbm/model.safetensors").components_).all()


def test_an_instruction_set_this_machine_lacks():
    result = run("info", HARMONIUM_ISA="sparc")
    assert result.returncode == 1
    assert result.stderr.startswith("harmonium: error: HARMONIUM_ISA is 'sparc'")
    assert result.stderr.count("\n") == 1


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("HARMONIUM_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["sample", "nowhere.safetensors"])


# ---------------------------------------------------------------------------- Ctrl-C


def test_ctrl_c_saves_the_model_and_says_where(capsys, monkeypatch):
    class Clock(training._Clock):
        def on_epoch_end(self, estimator, epoch, metrics):
            super().on_epoch_end(estimator, epoch, metrics)
            if epoch == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(training, "_Clock", Clock)
    assert main([*SMALL, "--epochs", "9", "--quiet", "--output", "m.safetensors"]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "harmonium: interrupted; the model after 2 whole epochs and what followed is in "
        "m.safetensors\n"
    )
    assert load("m.safetensors").n_iter_ == 2


def test_ctrl_c_before_the_training_says_that_nothing_was_kept(capsys, monkeypatch, tmp_path):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "data_of", interrupted)
    assert main([*SMALL, "--output", "m.safetensors"]) == 130
    assert capsys.readouterr().err == "harmonium: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_the_signal_itself(tmp_path):
    arguments = [*SMALL, "--epochs", "100000", "--output", "m.safetensors", "--checkpoint", "c"]
    process = subprocess.Popen(
        [sys.executable, "-m", "harmonium", *arguments],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "c").exists():  # the first epoch's end
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "harmonium: interrupted; the model after" in errors.splitlines()[-1]
    assert load(tmp_path / "m.safetensors").n_iter_ >= 1


# ---------------------------------------------------------------------------- sample, reconstruct


def test_samples_are_the_same_for_a_seed_and_others_for_another(capsys, model):
    def draw(name, *options):
        assert main(["sample", str(model), "-n", "5", "--output", name, *options]) == 0
        assert capsys.readouterr().out == f"{name}\n"
        return np.load(name)

    states = draw("a.npy", "--steps", "20")
    assert states.shape == (5, 256)
    assert states.dtype == bool
    np.testing.assert_array_equal(states, draw("b.npy", "--steps", "20"))
    np.testing.assert_array_equal(states, draw("c.npz", "--steps", "20")["X"])
    assert (states != draw("d.npy", "--steps", "20", "--seed", "1")).any()
    p = draw("e.npy", "--steps", "20", "--probabilities")
    assert p.dtype == np.float32
    # Not a coincidence of chances: the states were drawn from these.
    assert p[states].mean() > p[~states].mean() + 0.2


def test_chains_stopped_on_the_way_are_the_chains_that_were_not(model):
    rbm = load(model)
    *_, (stopped, _) = gibbs_chains(rbm, 4, (0, 1, 7, 30), seed=5)
    ((straight, p),) = gibbs_chains(rbm, 4, (30,), seed=5)
    np.testing.assert_array_equal(stopped, straight)
    ((start, p),) = gibbs_chains(rbm, 4, (0,), seed=5)
    np.testing.assert_allclose(p[0], 1 / (1 + np.exp(-rbm.intercept_visible_)), rtol=1e-5)
    assert start.shape == (4, 256)


@pytest.mark.parametrize("options", [[], ["--probabilities"]])
def test_samples_as_a_picture(capsys, tmp_path, model, options):
    assert main(["sample", str(model), "--steps", "2", *options]) == 0
    assert capsys.readouterr().out == "samples.png\n"
    assert is_png(tmp_path / "samples.png")


def test_reconstructions(capsys, tmp_path, model):
    common = ["reconstruct", str(model), "--data", "digits"]
    assert main([*common, "-n", "7", "--output", "r.npy"]) == 0
    held_out = load_data("digits").held_out[:7]
    expected = load(model).reconstruct(held_out)
    np.testing.assert_array_equal(np.load("r.npy"), expected)
    error = np.mean((expected - held_out) ** 2)
    assert capsys.readouterr().out == f"7 rows, mean square error {error:.4f} a unit\nr.npy\n"
    assert main(common) == 0
    assert is_png(tmp_path / "reconstructions.png")


def test_what_sample_and_reconstruct_refuse(capsys, model, tmp_path):
    def refused(*arguments):
        return error_of(capsys, list(arguments))

    (tmp_path / "broken.safetensors").write_bytes(b"hello")
    np.save("rows.npy", np.zeros((20, 6)))
    assert main(["train", "rbm", "--data", "rows.npy", "--quiet", "--output", "six"]) == 0
    six = "six/model.safetensors"

    assert refused("sample", "gone.safetensors").startswith("gone.safetensors: ")
    assert "broken.safetensors" in refused("sample", "broken.safetensors")
    assert "expected a name in .png, .npy or .npz" in refused("sample", six, "--output", "s.jpg")
    assert "there is no folder gone" in refused("sample", six, "--output", "gone/s.png")
    assert "6 units are no square picture: give --image-shape" in refused("sample", six)
    assert main(["sample", six, "--image-shape", "2x3"]) == 0
    wide = refused("reconstruct", str(model), "--data", "rows.npy")
    assert wide == f"rows.npy: has 6 units a row, but {model} was trained on 256"
    # Rows that make no picture are trained on all the same.
    assert sorted(path.name for path in (tmp_path / "six").iterdir()) == [
        "model.safetensors",
        "training.png",
    ]


@pytest.mark.parametrize("method", ["gibbs", "tempered", "annealed"])
def test_an_rbm_may_be_drawn_from_in_three_ways(capsys, model, method):
    arguments = ["sample", str(model), "-n", "3", "--steps", "60", "--method", method]
    assert main([*arguments, "--output", "a.npy"]) == 0
    expected = load(model).sample(3, 60, method=method, random_state=0)
    np.testing.assert_array_equal(np.load("a.npy"), expected)


def test_annealed_chains_have_more_steps_unless_told(model):
    for method, n_steps in (("gibbs", 1000), ("annealed", 10_000)):
        arguments = ["sample", str(model), "-n", "2", "--method", method, "--output", "a.npy"]
        assert main(arguments) == 0
        expected = load(model).sample(2, n_steps, method=method, random_state=0)
        np.testing.assert_array_equal(np.load("a.npy"), expected)


@pytest.mark.parametrize(
    ("part", "held"),
    [
        ("top-half", np.s_[:8, :]),
        ("bottom-half", np.s_[8:, :]),
        ("left-half", np.s_[:, :8]),
        ("right-half", np.s_[:, 8:]),
    ],
)
def test_a_part_of_rows_is_held_and_the_rest_drawn(capsys, model, part, held):
    def draw(*options):
        arguments = ["sample", str(model), "--clamp", part, "--data", "digits", "--steps", "20"]
        assert main([*arguments, "--output", "a.npy", *options]) == 0
        assert capsys.readouterr().out == "a.npy\n"
        return np.load("a.npy")

    rows = load_data("digits", labelled=True).test[:12]
    mask = np.zeros((16, 16), bool)
    mask[held] = True
    known = mask.ravel()
    states = draw()
    assert states.shape == (3, 12, 256)
    assert states.dtype == bool
    expected = load(model).sample(36, 20, clamp=known, values=np.tile(rows, (3, 1)), random_state=0)
    np.testing.assert_array_equal(states.reshape(36, 256), expected)
    assert (states[:, :, known] == rows[:, known]).all()
    assert (states[0] != states[1])[:, ~known].any()
    p = draw("--probabilities", "-n", "5", "--method", "tempered", "--seed", "2")
    assert p.shape == (3, 5, 256)
    assert p.dtype == np.float32
    assert (p[:, :, known] == rows[:5, known]).all()
    assert 0 < p[:, :, ~known].min() < p[:, :, ~known].max() < 1


def test_completions_as_a_picture(capsys, tmp_path, monkeypatch, model):
    drawn = []
    plot = plotting.plot_inpainting
    monkeypatch.setattr(
        plotting, "plot_inpainting", lambda *given: drawn.append(given) or plot(*given)
    )
    arguments = ["sample", str(model), "--clamp", "top-half", "--data", "digits", "--steps", "9"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "samples.png\n"
    assert is_png(tmp_path / "samples.png")
    ((rows, known, samples, shape),) = drawn
    assert rows.shape == (12, 256)
    assert known.sum() == 128
    assert samples.shape == (3, 12, 256)
    assert len(np.unique(samples)) > 100  # probabilities
    assert shape == (16, 16)


def test_what_cannot_be_held_or_drawn(capsys, model, generative):
    def refused(path, *options):
        return error_of(capsys, ["sample", str(path), *options])

    np.save("grey.npy", np.full((5, 256), 0.25))
    np.save("narrow.npy", np.zeros((5, 9)))
    np.save("six.npy", np.eye(6))
    BernoulliRBM(2, n_iter=1, random_state=0).fit(np.eye(6)).save("six.safetensors")
    clamp = ["--clamp", "top-half", "--data"]
    of_dbn = f"is of a BernoulliRBM, but {generative} holds a DBN"
    assert refused(generative, "--method", "annealed") == f"--method: {of_dbn}"
    assert refused(generative, *clamp, "digits") == f"--clamp: {of_dbn}"
    assert refused(model, *clamp, "grey.npy").startswith(
        "--data grey.npy: --clamp holds zeros and ones, but values lie between: --binarize"
    )
    assert main(["sample", str(model), *clamp, "grey.npy", "--binarize", "stochastic"]) == 0
    capsys.readouterr()
    assert "was trained on 256" in refused(model, *clamp, "narrow.npy")
    no_picture = refused("six.safetensors", *clamp, "six.npy", "--output", "a.npy")
    assert no_picture.endswith("give --image-shape HEIGHTxWIDTH, which --clamp needs")
    shaped = ["--image-shape", "3x2", "--output", "a.npy"]
    assert main(["sample", "six.safetensors", *clamp, "six.npy", *shaped]) == 0
    known = np.load("a.npy")[:, :, :2]  # of three lines the first; the rest is the larger half
    assert (known == np.eye(6, dtype=bool)[:, :2]).all()


def test_samples_of_a_dbn_and_of_a_class(capsys, generative):
    def draw(name, *options):
        arguments = ["sample", str(generative), "-n", "40", "--steps", "20", "--output", name]
        assert main([*arguments, *options]) == 0
        return np.load(name)

    states = draw("a.npy")
    assert states.shape == (40, 256)
    assert states.dtype == bool
    np.testing.assert_array_equal(states, draw("b.npy"))
    assert (states != draw("c.npy", "--seed", "1")).any()
    ones = draw("1.npy", "--label", "1", "--probabilities")
    expected = load(generative).sample(40, 20, return_probabilities=True, label=1, random_state=0)
    np.testing.assert_array_equal(ones, expected)


def test_labels_that_sample_refuses(capsys, model, classifier, generative):
    def refused(path, *options):
        return error_of(capsys, ["sample", str(path), *options])

    assert "--label 10: expected one of 0, 1, 2" in refused(generative, "--label", "10")
    assert f"but {model} holds a BernoulliRBM" in refused(model, "--label", "7")
    without = DBN((5,), random_state=0).fit(np.eye(9))
    without.save("without.safetensors")
    assert refused("without.safetensors", "--label", "7").endswith("holds a DBN without")
    assert main(["sample", "without.safetensors", "--steps", "3"]) == 0
    capsys.readouterr()
    assert "which can't be drawn from; expected a BernoulliRBM or" in refused(classifier)


def test_reconstructions_by_a_dbn(capsys, generative, classifier):
    arguments = ["--data", "digits", "-n", "7", "--output", "r.npy"]
    assert main(["reconstruct", str(generative), *arguments]) == 0
    held_out = load_data("digits").held_out[:7]
    np.testing.assert_array_equal(np.load("r.npy"), load(generative).reconstruct(held_out))
    capsys.readouterr()
    message = error_of(capsys, ["reconstruct", str(classifier), *arguments])
    assert "holds a DBNClassifier, which can't reconstruct" in message


# ---------------------------------------------------------------------------- evaluate


def told_of(capsys, path, *options):
    """Return what evaluate prints, and its cells by their row's name."""
    assert main(["evaluate", str(path), "--data", "digits", *options]) == 0
    out = capsys.readouterr().out
    rows = [re.split(r"\s{2,}", line) for line in out.splitlines() if "  " in line]
    return out, {first: rest for first, *rest in rows}


def number_in(text):
    return float(re.search(r"-?[\d.]+", text)[0])


@pytest.mark.parametrize("kind", ["classifier", "generative", "softmax"])
def test_evaluate_tells_a_classifiers_errors(capsys, tmp_path, request, kind):
    if kind == "softmax":
        grey = load_data("digits", binarize="none", labelled=True)
        path = "softmax.safetensors"
        SoftmaxRegression(max_iter=3, random_state=0).fit(grey.train, grey.y_train).save(path)
    else:
        path = request.getfixturevalue(kind)
    out, cells = told_of(capsys, path, "--confusion", "c.png")
    way = "threshold" if kind == "generative" else "none"
    data = load_data("digits", binarize=way, labelled=True)
    predicted = load(path).predict(data.test)
    wrong = predicted != data.y_test
    assert cells["errors"] == [f"{wrong.sum()}"]
    assert cells["error"][0].startswith(f"{wrong.mean():.2%}, 95% interval ")
    low, high = (float(x) / 100 for x in re.findall(r"([\d.]+)%", cells["error"][0])[2:])
    assert low < wrong.mean() < high
    for k in range(10):
        ours = data.y_test == k
        expected = [f"{ours.sum()}", f"{wrong[ours].sum()}", f"{wrong[ours].mean():.2%}"]
        assert cells[f"class {k}"] == expected
    pairs = [(a, b) for a, b in zip(data.y_test, predicted, strict=True) if a != b]
    a, b = max(sorted(set(pairs)), key=pairs.count)
    assert f"another: {a} as {b} ({pairs.count((a, b))})" in out
    assert out.endswith("\nc.png\n")
    assert is_png(tmp_path / "c.png")


def test_the_interval_of_few_errors_and_of_many():
    from harmonium.commands.evaluation import error_rate

    # Wilson's, as statsmodels' proportion_confint(method="wilson") has it.
    assert error_rate(0, 100) == "0.00%, 95% interval 0.00% to 3.70%"
    assert error_rate(10, 100) == "10.00%, 95% interval 5.52% to 17.44%"
    assert error_rate(100, 100) == "100.00%, 95% interval 96.30% to 100.00%"


def test_evaluate_tells_an_rbms_likelihood_where_it_can(capsys, model):
    out, cells = told_of(capsys, model)
    rbm, X = load(model), load_data("digits", labelled=True).test
    error = np.mean((rbm.reconstruct(X) - X) ** 2)
    assert number_in(cells["mean square error"][0]) == pytest.approx(error, abs=1e-5)
    likelihood = np.mean(-rbm.free_energy(X)) - log_partition(rbm)
    assert number_in(cells["log-likelihood"][0]) == pytest.approx(likelihood, abs=0.1)
    assert cells["log Z"] == [f"{log_partition(rbm):.2f}, exact"]
    scores = pseudo_log_likelihood(rbm, X)
    error = scores.std(ddof=1) / len(X) ** 0.5
    assert cells["pseudo-likelihood"] == [f"{scores.mean():.1f} +- {error:.1f} nats a row"]
    assert "BernoulliRBM, 256-8" in out
    assert "AIS" not in out
    # Nothing is annealed: it is there.
    assert "log-likelihood" in told_of(capsys, model, "--no-likelihood")[1]
    # Intensities are no states.
    out, cells = told_of(capsys, model, "--binarize", "none")
    assert "log-likelihood" not in cells
    assert out.endswith(
        "\nno likelihood, which is of zeros and ones: "
        "--binarize threshold makes them of these rows\n"
    )


def test_evaluate_anneals_where_both_sides_are_large(capsys):
    X = load_data("digits", labelled=True).test
    rbm = BernoulliRBM(26, n_iter=3, random_state=0).fit(load_data("digits").train)
    rbm.save("wide.safetensors")
    few = ["--chains", "30", "--temperatures", "200", "--seed", "4"]
    assert main(["evaluate", "wide.safetensors", "--data", "digits", *few]) == 0
    captured = capsys.readouterr()
    assert "AIS: 100%" in captured.err
    assert "Reverse AIS: 100%" in captured.err
    found = log_likelihood(rbm, X, method="ais", n_chains=30, betas=200, random_state=4)
    lines = [re.split(r"\s{2,}", line.strip()) for line in captured.out.splitlines()[4:9]]
    reverse = found.log_z_reverse
    rows = found.samples.std(ddof=1) / len(X) ** 0.5
    assert lines == [
        ["log-likelihood, AIS", f"{found.mean:.1f} +- {found.standard_error:.1f} nats a row"],
        [
            "by reverse AIS",
            f"{found.lower:.1f} +- {np.hypot(rows, reverse.standard_error):.1f} nats a row",
        ],
        [
            "gap",
            f"{found.gap:.2f} +- "
            f"{np.hypot(found.log_z.standard_error, reverse.standard_error):.2f} nats",
        ],
        [
            "log Z, AIS",
            f"{found.log_z:.2f} +- {found.log_z.standard_error:.2f}, "
            f"n_eff {found.log_z.n_eff:.0f} of 30 chains",
        ],
        [
            "by reverse AIS",
            f"{reverse:.2f} +- {reverse.standard_error:.2f}, "
            f"n_eff {reverse.n_eff:.0f} of 30 chains",
        ],
    ]
    assert "reverse AIS the other way round" in captured.out
    out, cells = told_of(capsys, "wide.safetensors", "--no-likelihood")
    assert "AIS" not in out
    assert set(cells) >= {"pseudo-likelihood", "mean square error"}


def test_evaluate_anneals_the_top_of_a_dbn(capsys):
    X = load_data("digits", labelled=True).test
    dbn = DBN((30, 27), random_state=0).fit(load_data("digits").train)
    dbn.save("dbn.safetensors")
    few = ["--chains", "30", "--temperatures", "200", "--seed", "4"]
    out, cells = told_of(capsys, "dbn.safetensors", *few)
    log_z = log_partition(dbn.rbms_[-1], "ais", n_chains=30, betas=200, random_state=4)
    assert cells["log Z of the topmost RBM, AIS"] == [
        f"{log_z:.2f} +- {log_z.standard_error:.2f}, n_eff {log_z.n_eff:.0f} of 30 chains"
    ]
    bound = dbn.score_samples(X, log_partition=log_z).mean()
    assert number_in(cells["bound on log-likelihood, AIS"][0]) == pytest.approx(bound, abs=0.051)
    assert "reverse AIS" not in out
    out, cells = told_of(capsys, "dbn.safetensors", "--no-likelihood")
    assert list(cells) == ["model", "data", "seconds", *(n for n in cells if "square" in n)]


def test_evaluate_tells_a_dbns_bound_and_reconstructions(capsys):
    X = load_data("digits").train
    dbn = DBN((30, 7), random_state=0).fit(X)
    dbn.save("dbn.safetensors")
    _, cells = told_of(capsys, "dbn.safetensors")
    test = load_data("digits", labelled=True).test
    for layer in (1, 2):
        error = np.mean((dbn.reconstruct(test, layer=layer) - test) ** 2)
        told = number_in(cells[f"mean square error, layer {layer}"][0])
        assert told == pytest.approx(error, abs=1e-5)
    assert number_in(cells["bound on log-likelihood"][0]) == pytest.approx(dbn.score(test), abs=0.1)


def test_evaluate_tells_an_autoencoders_errors(capsys):
    grey = load_data("digits", binarize="none", labelled=True)
    model = DeepAutoencoder((20, 5), max_iter=1, random_state=0).fit(grey.train)
    model.save("auto.safetensors")
    _, cells = told_of(capsys, "auto.safetensors", "--threads", "1")
    error = np.mean((model.reconstruct(grey.test) - grey.test) ** 2)
    assert number_in(cells["mean square error"][0]) == pytest.approx(error, abs=1e-5)
    assert number_in(cells["cross-entropy"][0]) == pytest.approx(-model.score(grey.test), abs=0.01)
    assert main(["reconstruct", "auto.safetensors", "--data", "digits", "--output", "r.npy"]) == 0
    all_rows = load_data("digits", binarize="none")
    np.testing.assert_array_equal(np.load("r.npy"), model.reconstruct(all_rows.held_out[:16]))


def test_what_evaluate_refuses(capsys, model, classifier):
    def refused(path, *options):
        return error_of(capsys, ["evaluate", str(path), *options])

    np.save("rows.npy", np.zeros((20, 256)))
    np.save("narrow.npy", np.zeros((20, 6)))
    assert "holds no labels" in refused(classifier, "--data", "rows.npy")
    assert "was trained on 256" in refused(model, "--data", "narrow.npy")
    picture = ["--confusion", "c.png"]
    assert "needs a model that tells classes" in refused(model, "--data", "digits", *picture)
    no_png = refused(classifier, "--data", "digits", "--confusion", "c.npy")
    assert no_png == "--confusion c.npy: expected a name in .png"
    assert "there is no such file" in refused(classifier, "--data", "gone.npy")
    assert "gone.safetensors" in refused("gone.safetensors", "--data", "digits")


def test_mnists_test_rows_are_what_is_evaluated(capsys, mnist):
    BernoulliRBM(4, n_iter=0, random_state=0).fit(np.zeros((2, 784))).save("m.safetensors")
    for source in ("mnist", str(mnist)):
        assert main(["evaluate", "m.safetensors", "--data", source]) == 0
        assert "10,000 rows" in capsys.readouterr().out


# ---------------------------------------------------------------------------- data, info


def test_fetch_downloads_nothing_that_is_there(capsys, mnist):
    assert main(["data", "fetch", "--folder", str(mnist)]) == 0
    assert capsys.readouterr().out == f"{mnist}\n"


def test_fetch_tells_why_it_failed(capsys, monkeypatch):
    from harmonium.datasets import fetch

    monkeypatch.setattr(fetch, "MIRRORS", ["http://127.0.0.1:9/"])
    message = error_of(capsys, ["data", "fetch", "--folder", "here"])
    assert "could not download train-images-idx3-ubyte.gz" in message


def test_info_tells_what_a_bug_report_needs(capsys):
    from harmonium import _core

    assert main(["info"]) == 0
    told = dict(re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines())
    assert told["harmonium"].startswith(__version__)
    assert told["instruction set"].startswith(_core.active_isa())
    assert all(isa in told["instruction set"] for isa in _core.available_isas())
    assert told["GPU"].startswith("not used by this version (")
    assert told["numpy"] == np.__version__
    assert "threads" in told["BLAS"]


def test_a_closed_pipe_is_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "harmonium", "info"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_table_puts_numbers_right_and_words_left():
    assert table([("a", "word"), ("long", "w")]) == "a     word\nlong  w"
    assert table([("", "one"), ("rows", "1,000")]) == "        one\nrows  1,000"
