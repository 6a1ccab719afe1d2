"""``harmonium data fetch`` and ``harmonium info``."""

from __future__ import annotations

import argparse

from harmonium.commands.output import table
from harmonium.datasets import fetch_mnist
from harmonium.info import environment

__all__ = ["fetch", "info"]


def fetch(arguments: argparse.Namespace) -> None:
    """Download MNIST and print where to."""
    print(fetch_mnist(arguments.folder))


def info(arguments: argparse.Namespace) -> None:
    """Print what a bug report needs."""
    print(table(environment()))
