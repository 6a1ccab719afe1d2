"""Seeds: from what users pass as a random state, and the keys that are made of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_random_state


def check_generator(random_state: Any) -> np.random.RandomState:
    """Return the generator behind what scikit-learn calls a random state."""
    try:
        rng: np.random.RandomState = check_random_state(random_state)
    except ValueError as error:
        raise ValueError(
            "random_state must be None, an integer in [0, 2**32) or a RandomState; "
            f"got {random_state!r}"
        ) from error
    return rng


def seed_from(rng: np.random.RandomState) -> int:
    """Return a seed of 64 bits, drawn from a generator."""
    low, high = (int(word) for word in rng.randint(0, 2**32, size=2, dtype=np.uint64))
    return low | high << 32


def draw_seed(random_state: Any) -> int:
    """Return a seed of 64 bits from what scikit-learn calls a random state."""
    return seed_from(check_generator(random_state))


def generator_of(seed: int) -> np.random.RandomState:
    """Return a generator for what is drawn once, before a training begins."""
    return np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])


def sampling_seed(seed: int) -> int:
    """Return the key for what the user draws, so that it never repeats what training drew."""
    return seed ^ (1 << 63)


def monitor_seed(seed: int) -> int:
    """Return the key for what metrics draw."""
    return seed ^ (1 << 62)


@dataclass
class Draws:
    """Numbers nobody has used yet: a key, and the first free step."""

    seed: int
    step: int = 0

    def take(self, n_steps: int) -> int:
        """Return the first of so many steps, which are used now."""
        first, self.step = self.step, self.step + n_steps
        return first


def separate_draws(seed: int, step: int) -> Draws:
    """Return numbers for work that counts its own steps, one key for each step of another's."""
    mask = 0xFFFFFFFF
    words = [seed & mask, seed >> 32, step & mask, step >> 32]
    return Draws(seed_from(np.random.RandomState(words)))
