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

from harmonium import BernoulliRBM, __version__, commands, load
from harmonium.cli import build_parser, main

SMALL = ["train", "rbm", "--data", "digits", "--hidden", "8", "--epochs", "2", "--threads", "1"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "HARMONIUM_DEBUG"}
# Whichever harmonium is tested here, from whatever folder.
ENVIRONMENT["PYTHONPATH"] = str(Path(commands.__file__).parents[1])


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


def test_every_training_option_with_a_default_tells_it():
    (parser,) = (p for name, p in parsers(build_parser()) if name == "harmonium train rbm")
    told = 0
    for action in parser._actions:
        if action.default not in (None, False, "==SUPPRESS=="):
            number = re.search(r"\(default: ([^,)]+)", action.help % vars(action))
            assert number, action.dest
            default = "yes" if action.default is True else action.default
            if isinstance(default, float):
                assert float(number[1]) == default
            else:
                assert number[1] == str(default)
            told += 1
    assert told > 12


def test_help_and_version_import_neither_scikit_learn_nor_numpy():
    code = (
        "import sys; from harmonium.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'sklearn', 'scipy', 'numpy'} & set(sys.modules)"
    )
    for arguments in (["--version"], ["--help"], ["train", "rbm", "--help"]):
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
    data = commands.load_data("digits")
    (scores,) = (line for line in lines if line.startswith("pseudo-likelihood "))
    score, spread = map(float, re.findall(r"(-[\d.]+) \+- ([\d.]+)", scores)[1])
    # Other draws of the same rows: the standard error is of one more than covers both.
    assert abs(score - rbm.score(np.tile(data.held_out, (100, 1)))) < 2 * spread
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
    ).fit(commands.load_data("digits", held_out=0).train)  # fmt: skip
    np.testing.assert_array_equal(load("m.safetensors").components_, rbm.components_)


def test_the_rate_falls_in_a_line_that_would_meet_0_after_the_last_epoch(capsys):
    arguments = [*SMALL, "--epochs", "4", "--learning-rate", "0.08", "--no-pictures"]
    assert main([*arguments, "--output", "m.safetensors"]) == 0
    rates = load("m.safetensors").history_["learning_rate"]
    assert rates == pytest.approx([0.08, 0.06, 0.04, 0.02])


def test_quiet_prints_nothing(capfd):
    assert main([*SMALL, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


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

    monkeypatch.setattr(commands, "find_spec", find_spec)


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
        data = commands.load_data(name, held_out=0)
        np.testing.assert_array_equal(commands.dense(data.train), bits)
        assert data.held_out is None
        assert data.image_shape == ((2, 3) if name == "bytes.npy" else None)
    data = commands.load_data("bits.npy")
    assert (len(data.train), len(data.held_out)) == (36, 4)
    assert commands.load_data("bits.npy", image_shape=(3, 2)).image_shape == (3, 2)


def test_binarising():
    grey = np.random.default_rng(0).random((300, 8)).astype(np.float32)
    np.save("grey.npy", grey)

    def load_as(way, **options):
        return commands.load_data("grey.npy", binarize=way, held_out=0, **options).train

    np.testing.assert_array_equal(load_as(None), grey)
    np.testing.assert_array_equal(load_as("threshold"), grey > 0.5)
    drawn = load_as("stochastic", seed=1)
    assert drawn.dtype == bool
    np.testing.assert_array_equal(drawn, load_as("stochastic", seed=1))
    assert (drawn != load_as("stochastic", seed=2)).any()
    # 300 draws of sd at most 0.5 in each of 8 columns: five standard errors.
    np.testing.assert_allclose(drawn.mean(axis=0), grey.mean(axis=0), atol=5 * 0.5 / 300**0.5)


def test_the_digits_are_legible_strokes_in_the_order_of_the_bundled_ones():
    grey = commands.load_data("digits", binarize="none", held_out=0).train.reshape(-1, 16, 16)
    assert grey.min() == 0
    assert grey.max() == 1
    from harmonium.datasets import load_digits

    small = grey.reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4)).reshape(-1, 64)
    assert np.corrcoef(small.ravel(), load_digits()[0].ravel())[0, 1] > 0.98


def test_mnist_is_found_by_name_and_by_path(mnist):
    named = commands.load_data("mnist")
    assert named.train.shape == (50_000, 784)
    assert named.held_out.shape == (10_000, 784)
    assert named.image_shape == (28, 28)
    given = commands.load_data(str(mnist), held_out=59_999)
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
    class Clock(commands._Clock):
        def on_epoch_end(self, estimator, epoch, metrics):
            if epoch == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_Clock", Clock)
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

    monkeypatch.setattr(commands, "load_data", interrupted)
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
    *_, (stopped, _) = commands.gibbs_chains(rbm, 4, (0, 1, 7, 30), seed=5)
    ((straight, p),) = commands.gibbs_chains(rbm, 4, (30,), seed=5)
    np.testing.assert_array_equal(stopped, straight)
    ((start, p),) = commands.gibbs_chains(rbm, 4, (0,), seed=5)
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
    held_out = commands.load_data("digits").held_out[:7]
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
    assert commands.table([("a", "word"), ("long", "w")]) == "a     word\nlong  w"
    assert commands.table([("", "one"), ("rows", "1,000")]) == "        one\nrows  1,000"
