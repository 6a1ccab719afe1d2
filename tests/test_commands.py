"""The demo: the files it leaves, the table, and that the model has learned."""

import re

import pytest

from harmonium import load
from harmonium.cli import build_parser, main
from harmonium.commands import demo

PICTURES = {
    "": ["filters.png", "reconstructions.png", "samples.png", "training.png"],
    "classifier": ["confusion.png", "filters.png", "training.png"],
    "generative": ["filters.png", "samples.png", "training.png"],
}


@pytest.fixture
def short(monkeypatch):
    """The demo of the digits with fewer epochs."""
    whole = demo.demo_arguments

    def arguments(data, folder):
        runs = whole(data, folder)
        for own in runs:
            for option, epochs in (("--epochs", "15"), ("--pretrain-epochs", "8")):
                if option in own:
                    own[own.index(option) + 1] = epochs
        return runs

    monkeypatch.setattr(demo, "demo_arguments", arguments)


def test_the_demo_leaves_pictures_and_models_that_have_learned(
    short, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    for part, pictures in PICTURES.items():
        folder = tmp_path / "harmonium-demo" / part
        found = sorted(path.name for path in folder.iterdir() if path.is_file())
        assert found == sorted([*pictures, "model.safetensors"])
        for name in pictures:
            assert (folder / name).read_bytes().startswith(b"\x89PNG")
            assert str(folder.relative_to(tmp_path) / name) in out
    (scores,) = (line for line in out.splitlines() if line.startswith("pseudo-likelihood "))
    (independent,) = (line for line in out.splitlines() if line.startswith("  of independent"))
    # Fifteen of its 200 epochs bring it half the way to perfection.
    held_out = float(re.findall(r"(-[\d.]+) \+-", scores)[1])
    assert held_out > 0.6 * float(independent.split()[-1])
    folder = tmp_path / "harmonium-demo"
    assert load(folder / "model.safetensors").n_features_in_ == 256
    # Nine of ten are guessed wrong; the whole demo leaves 6 in 100.
    errors = [float(text) for text in re.findall(r"test error ([\d.]+)%", out)]
    assert len(errors) == 2
    assert max(errors) < 20
    dbn = load(folder / "generative" / "model.safetensors")
    assert dbn.sample(3, 10, label=7).shape == (3, 256)


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_the_demo_is_trainings_anyone_could_have_typed(data):
    runs = [build_parser().parse_args(own) for own in demo.demo_arguments(data, "somewhere")]
    assert [run.data for run in runs] == [data] * 3
    outputs = [run.output for run in runs]
    assert outputs == ["somewhere", "somewhere/classifier", "somewhere/generative"]
    assert all(run.pictures for run in runs)
    for run in runs[1:]:
        run.check(run)  # no option that says nothing


def test_the_demo_without_mnist_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARMONIUM_DATA", str(tmp_path / "nothing"))
    assert main(["demo", "--data", "mnist"]) == 1
    assert "harmonium data fetch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
