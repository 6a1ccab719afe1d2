"""The demo: the files it leaves, the table, and that the model has learned."""

import re

import pytest

from harmonium import commands, load
from harmonium.cli import build_parser, main

PICTURES = ("filters.png", "reconstructions.png", "samples.png", "training.png")


@pytest.fixture
def short(monkeypatch):
    """The demo of the digits with fewer epochs."""
    whole = commands.demo_arguments

    def arguments(data, folder):
        own = whole(data, folder)
        own[own.index("--epochs") + 1] = "15"
        return own

    monkeypatch.setattr(commands, "demo_arguments", arguments)


def test_the_demo_leaves_pictures_and_a_model_that_has_learned(
    short, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "harmonium-demo"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*PICTURES, "model.safetensors"]
    )
    for name in PICTURES:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert f"harmonium-demo/{name}" in out
    (scores,) = (line for line in out.splitlines() if line.startswith("pseudo-likelihood "))
    (independent,) = (line for line in out.splitlines() if line.startswith("  of independent"))
    # Fifteen of its 200 epochs bring it half the way to perfection.
    held_out = float(re.findall(r"(-[\d.]+) \+-", scores)[1])
    assert held_out > 0.6 * float(independent.split()[-1])
    assert load(folder / "model.safetensors").n_features_in_ == 256


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_the_demo_is_a_training_anyone_could_have_typed(data):
    arguments = build_parser().parse_args(commands.demo_arguments(data, "somewhere"))
    assert (arguments.data, arguments.output, arguments.pictures) == (data, "somewhere", True)


def test_the_demo_without_mnist_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARMONIUM_DATA", str(tmp_path / "nothing"))
    assert main(["demo", "--data", "mnist"]) == 1
    assert "harmonium data fetch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
