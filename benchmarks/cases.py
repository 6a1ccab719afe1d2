"""The workloads, in one place: sizes, how much a round does, what it would cost in float32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

QUICK = 4  # how many times less work --quick does

# Contenders that are harmonium too, with less of the machine.
ONE_THREAD, AVX2 = PARTS = ("1 thread", "avx2")


@dataclass(frozen=True, kw_only=True)
class Training:
    """A part of an epoch, from a trained model on: the speed of most of a training run."""

    algorithm: Literal["pcd", "cd"] = "pcd"
    n_gibbs_steps: int = 1
    n_visible: int = 784
    n_hidden: int = 500
    batch_size: int
    n_rows: int
    data: Literal["binary", "grey", "documents"] = "binary"
    learning_rate: float = 0.01  # low, so that contenders stay close enough to compare
    label: str = ""
    unit = "samples/s"

    @property
    def title(self) -> str:
        kind = {"grey": ", grey values", "documents": ", CSR with 0.5% ones"}.get(self.data, "")
        return (
            f"{self.label}{self.algorithm.upper()}-{self.n_gibbs_steps}, "
            f"{self.n_visible}–{self.n_hidden}, batch {self.batch_size}{kind}"
        )

    @property
    def amount(self) -> int:
        return self.n_rows

    @property
    def flop(self) -> float:
        # Up from the data, down and up in every Gibbs step, and the gradient's two products.
        return 2.0 * (3 + 2 * self.n_gibbs_steps) * self.n_visible * self.n_hidden

    def quick(self) -> Training:
        return replace(self, n_rows=self.n_rows // QUICK)


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """A part of an epoch of backpropagation, SGD on the cross-entropy of a softmax."""

    sizes: tuple[int, ...]
    batch_size: int
    n_rows: int
    n_epochs: int = 1  # more where one is over before X has been looked at for NaN
    dropout: float = 0.0  # of hidden units
    learning_rate: float = 0.005  # so low that rounding does not decide where it goes
    unit = "samples/s"

    @property
    def title(self) -> str:
        kind = f", dropout {self.dropout:g}" if self.dropout else ""
        return f"fine-tuning {'–'.join(map(str, self.sizes))}, SGD, batch {self.batch_size}{kind}"

    @property
    def amount(self) -> int:
        return self.n_rows * self.n_epochs

    @property
    def flop(self) -> float:
        # Forward, the gradients of weights and, above the first layer, of inputs.
        weights = [a * b for a, b in pairwise(self.sizes)]
        return 2.0 * (3 * sum(weights) - weights[0])

    def quick(self) -> FineTuning:
        return replace(self, n_rows=self.n_rows // QUICK)


@dataclass(frozen=True, kw_only=True)
class Gibbs:
    """Block Gibbs chains of a trained model."""

    n_chains: int
    n_steps: int
    n_visible: int = 784
    n_hidden: int = 500
    unit = "chain-steps/s"

    @property
    def title(self) -> str:
        return f"Gibbs, {self.n_visible}–{self.n_hidden}, {self.n_chains} chains"

    @property
    def amount(self) -> int:
        return self.n_chains * self.n_steps

    @property
    def flop(self) -> float:
        return 2.0 * 2 * self.n_visible * self.n_hidden

    def quick(self) -> Gibbs:
        return replace(self, n_steps=self.n_steps // QUICK)


@dataclass(frozen=True, kw_only=True)
class Product:
    """One pass of rows through the weights: up or down."""

    label: str
    n_rows: int
    n_visible: int = 784
    n_hidden: int = 500
    data: Literal["binary", "grey"] = "binary"
    density: float | None = None  # random rows, so many of their units on
    unit = "rows/s"

    @property
    def title(self) -> str:
        kind = self.data if self.density is None else f"{self.density:.0%} full"
        return f"{self.label}, {self.n_visible}–{self.n_hidden}, {self.n_rows} {kind} rows"

    @property
    def amount(self) -> int:
        return self.n_rows

    @property
    def flop(self) -> float:
        return 2.0 * self.n_visible * self.n_hidden

    def quick(self) -> Product:
        return replace(self, n_rows=self.n_rows // QUICK)


@dataclass(frozen=True, kw_only=True)
class Elementwise:
    """A function of every value of a matrix with 1000 columns."""

    label: str
    unit: str
    amount: int = 10_000_000
    flop = 0.0  # no product, so no roofline

    @property
    def title(self) -> str:
        return f"{self.label}, {self.amount:.0e}".replace("e+0", "e")

    @property
    def shape(self) -> tuple[int, int]:
        return self.amount // 1000, 1000

    def quick(self) -> Elementwise:
        return replace(self, amount=self.amount // 10)


TRAINING = [
    Training(n_hidden=256, batch_size=10, n_rows=10_000),  # scikit-learn's defaults
    Training(batch_size=10, n_rows=10_000),
    Training(batch_size=100, n_rows=20_000),
    Training(batch_size=10, n_rows=5_000, data="grey"),
    Training(algorithm="cd", batch_size=100, n_rows=20_000),
    Training(n_gibbs_steps=15, batch_size=20, n_rows=3_000),  # the deep-learning tutorial's RBM
    Training(algorithm="cd", n_hidden=1000, batch_size=10, n_rows=5_000),  # and its DBN's layers
    Training(algorithm="cd", n_visible=1000, n_hidden=1000, batch_size=10, n_rows=5_000),
]
SPARSE = Training(n_visible=20_000, n_hidden=256, batch_size=10, n_rows=1_600, data="documents")
SPARSE_SHARE = 5  # scikit-learn's turn has so many times fewer rows: it takes 30 ms an update
FINE_TUNING = [
    FineTuning(sizes=(784, 1000, 1000, 1000, 10), batch_size=10, n_rows=2_000),
    FineTuning(sizes=(784, 500, 500, 2000, 10), batch_size=100, n_rows=6_000),
    FineTuning(sizes=(784, 500, 500, 2000, 10), batch_size=100, n_rows=6_000, dropout=0.5),
    FineTuning(sizes=(784, 10), batch_size=600, n_rows=48_000, n_epochs=20),
]
GIBBS = [Gibbs(n_chains=1000, n_steps=30), Gibbs(n_chains=20, n_steps=1000)]
TRANSFORM = [
    Product(label="transform", n_rows=60_000),
    Product(label="transform", n_rows=60_000, data="grey"),
]

# By instruction set.
ROW_SUMS = [
    Product(label="propup", n_rows=10_000),
    Product(label="propdown", n_rows=10_000),
]
# From which state sums are reached.
WAYS = {"fresh": "none", "from the last": "last", "from all on": "all"}
DENSITIES = [Product(label="propup", n_rows=5_000, density=d) for d in (0.05, 0.3, 0.5, 0.7, 0.95)]
CHAINS = [Gibbs(n_chains=1000, n_steps=30)]
UPDATE = Training(label="trainer alone, ", batch_size=10, n_rows=10_000)
BERNOULLI = Elementwise(label="sample_bernoulli", unit="draws/s")
SIGMOID = Elementwise(label="sigmoid", unit="values/s")

# The deep-learning tutorial's published workloads, for then and now.
TUTORIAL_RBM, *TUTORIAL_DBN = TRAINING[5:]

IN_README = [
    case.title
    for case in (
        TRAINING[0],
        TRAINING[2],
        TUTORIAL_RBM,
        TUTORIAL_DBN[0],
        SPARSE,
        *GIBBS,
        TRANSFORM[0],
        *FINE_TUNING[:2],
    )
]
