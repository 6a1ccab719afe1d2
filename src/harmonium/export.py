"""Networks for other libraries: torch modules, ONNX files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from harmonium.engine.protocol import Array
from harmonium.persistence import write_atomically


def sequential(layers: Sequence[tuple[Array, Array]], activations: Sequence[str]) -> Any:
    """Return a ``torch.nn.Sequential`` of dense layers.

    Parameters
    ----------
    layers : sequence of (W, c)
        W of shape (n_inputs, n_outputs), c of shape (n_outputs,). Copied.
    activations : sequence of {"sigmoid", "softmax", "identity"}
        What follows each layer.

    Raises
    ------
    ImportError
        torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            'to_torch needs PyTorch, which is not installed: pip install "harmonium[torch]"'
        ) from error
    modules: list[Any] = []
    for (W, c), activation in zip(layers, activations, strict=True):
        linear = torch.nn.Linear(*W.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.array(W.T, np.float32)))
            linear.bias.copy_(torch.from_numpy(np.array(c, np.float32)))
        modules.append(linear)
        if activation == "sigmoid":
            modules.append(torch.nn.Sigmoid())
        elif activation == "softmax":
            modules.append(torch.nn.Softmax(dim=1))
    return torch.nn.Sequential(*modules).eval()


def write_onnx(module: Any, n_inputs: int, path: str | os.PathLike[str]) -> None:
    """Write a torch module as an ONNX file whose input "X" has any number of float32 rows.

    Raises
    ------
    ImportError
        What torch needs to write ONNX is not installed.
    OSError
        The file can't be written.
    """
    import torch

    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise ImportError(
                f"to_onnx needs the package {package}, which is not installed: "
                "pip install onnx onnxscript"
            )
    with write_atomically(path) as temporary:
        torch.onnx.export(
            module,
            (torch.zeros(2, n_inputs),),
            str(temporary),
            input_names=["X"],
            output_names=["Y"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            external_data=False,
            verbose=False,
            dynamo=True,
        )


class TorchExport:
    """The methods of an estimator that is a network of dense layers."""

    def _torch_layers(self) -> tuple[list[tuple[Array, Array]], list[str]]:
        """Return W and c of each layer, and what follows it."""
        raise NotImplementedError

    def to_torch(self) -> Any:
        """Return a ``torch.nn.Sequential`` with the same outputs, on copies of the parameters.

        Returns
        -------
        torch.nn.Sequential
            In evaluation mode; maps float32 rows to what the estimator's `predict_proba` or
            `transform` returns for them.

        Raises
        ------
        ImportError
            torch is not installed.
        """
        return sequential(*self._torch_layers())

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to an ONNX file, through torch: input "X", output "Y", any rows.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step.

        Raises
        ------
        ImportError
            torch, or a package that it needs for this (onnx, onnxscript), is not installed.
        OSError
            The file can't be written.
        """
        module = self.to_torch()
        write_onnx(module, module[0].in_features, path)
