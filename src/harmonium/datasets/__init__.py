"""Data to try a Boltzmann machine on: MNIST in its usual files, and scikit-learn's small digits.

Importing this package needs numpy alone; nothing is downloaded unless `fetch_mnist` is called.
"""

from .digits import load_digits
from .fetch import fetch_mnist
from .mnist import load_mnist
from .split import train_validation_split

__all__ = ["fetch_mnist", "load_digits", "load_mnist", "train_validation_split"]
