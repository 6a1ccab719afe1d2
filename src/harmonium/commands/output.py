"""Where results go, and how they are written: files, and tables of text."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harmonium.commands.pictures import require_matplotlib
from harmonium.persistence import write_atomically

__all__ = ["Output", "result_path", "rounded", "save_array", "table"]


@dataclass(frozen=True)
class Output:
    """The model's file; pictures go beside it."""

    model: Path

    @classmethod
    def at(cls, target: str) -> Output:
        """Take a ``.safetensors`` path or a folder, make the folder and try to write into it.

        Before the training rather than after it.
        """
        path = Path(target).expanduser()
        output = cls(path if path.suffix == ".safetensors" else path / "model.safetensors")
        output.folder.mkdir(parents=True, exist_ok=True)
        if output.model.is_dir():
            raise IsADirectoryError(f"{output.model}: is a folder, expected a file's name")
        try:
            with tempfile.TemporaryFile(dir=output.folder):
                pass
        except OSError as error:
            raise OSError(error.errno, "cannot write into the folder", str(output.folder)) from None
        return output

    @property
    def folder(self) -> Path:
        return self.model.parent

    def picture(self, name: str) -> Path:
        return self.folder / name


def result_path(
    text: str, option: str = "--output", endings: Sequence[str] = (".png", ".npy", ".npz")
) -> Path:
    """Return a result's path, after what can be known to go wrong with it before the work."""
    path = Path(text).expanduser()
    if path.suffix not in endings:
        raise ValueError(f"{option} {text}: expected a name in {_listed(endings)}")
    if path.suffix == ".png":
        require_matplotlib()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{option} {text}: there is no folder {path.parent}")
    return path


def _listed(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def save_array(array: np.ndarray, path: Path) -> None:
    """Write an array as ``.npy``, or under the name X as ``.npz``."""
    with write_atomically(path) as temporary:
        if path.suffix == ".npz":
            np.savez_compressed(temporary, X=array)
        else:
            np.save(temporary, array)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows of cells out in columns: the first to the left, of three or more the rest right.

    Parameters
    ----------
    rows : sequence of sequences of str
        All of one length.

    Returns
    -------
    str
        Lines as wide as the cells ask, whatever the terminal's width.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_numeric = len({len(row) for row in rows}) == 1 and rows[0][0] == ""
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:], strict=True):
            cells.append(cell.rjust(width) if is_numeric else cell.ljust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def rounded(number: float) -> str:
    """Return a rate in two or three digits, for more would promise too much."""
    digits = max(0, len(str(int(number))) - 2)
    return f"{round(number, -digits):,.0f}"
