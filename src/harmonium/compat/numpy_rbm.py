"""The RBM class of mr-easy/Restricted-Boltzmann-Machine, a NumPy script many have started from.

Its names and their meaning, on harmonium's kernels::

    from harmonium.compat.numpy_rbm import RBM      # was: from RBM import RBM
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harmonium._arrays import describe, empty_bits
from harmonium._checks import check_integer, check_real, check_word
from harmonium._pace import run_chains
from harmonium._random import check_generator, generator_of, sampling_seed, seed_from
from harmonium._visible import units_of_array
from harmonium.engine import get_engine
from harmonium.engine.protocol import (
    Array,
    Bits,
    Chains,
    Draw,
    Engine,
    Float32,
    LayerArrays,
    Machine,
    NetworkRule,
    Rows,
    Stream,
)

__all__ = ["RBM"]


class RBM:
    """Bernoulli RBM whose gradients and updates the caller drives, minibatch by minibatch.

    p(h = 1 | v) = σ(vW + hbias), p(v = 1 | h) = σ(hWᵀ + vbias).

    **What differs from the original.** Arrays are float32, not float64; what is assigned to one is
    copied where it is not float32 in C order. Values of units must lie in [0, 1]. Random numbers
    are counter-based: a function of the seed and of how many draws came before, whatever the number
    of threads. The arguments `burn_in`, `num_steps` and `method` are heeded, where the original
    always made one step of CD. :meth:`avg_free_energy` does not overflow, and
    :meth:`gen_model_sample` samples from this machine, not from a global one.

    **What is computed how.** Products with drawn hidden states are sums of 16-bit weights
    (docs/numerics.md, section 3); everything else is float32.

    Parameters
    ----------
    n_vis : int, default=784
        Visible units.
    n_hid : int, default=100
        Hidden units.
    random_state : int, RandomState instance or None, default=None
        Seeds everything. None takes NumPy's global generator, so that ``np.random.seed`` gives the
        initial weights it gave the original.
    n_threads : int or None, default=None
        Threads; None takes as many as OpenMP would.

    Attributes
    ----------
    W : ndarray of float32 of shape (n_vis, n_hid)
        At first drawn from a normal distribution with standard deviation 0.1.
    vbias : ndarray of float32 of shape (n_vis,)
        At first 0.
    hbias : ndarray of float32 of shape (n_hid,)
        At first -4, so that few hidden units are on.
    W_grad, vbias_grad, hbias_grad : ndarrays of float32 of these shapes
        Ascent directions: what :meth:`compute_error_and_grads` last found, in new arrays.
    W_vel, vbias_vel, hbias_vel : ndarrays of float32 of these shapes
        Velocities: the last steps of :meth:`update_params`.

    Raises
    ------
    TypeError, ValueError
        A parameter, or what is assigned to one of the arrays, is of the wrong type or shape.

    References
    ----------
    Hinton (2012), A practical guide to training restricted Boltzmann machines.

    Examples
    --------
    >>> from harmonium.compat.numpy_rbm import RBM
    >>> from harmonium.datasets import load_digits
    >>> X, _ = load_digits()
    >>> rbm = RBM(n_vis=64, n_hid=32, random_state=0)
    >>> errors = []
    >>> for batch in np.array_split(X, 36):
    ...     errors.append(rbm.compute_error_and_grads(batch))
    ...     rbm.update_params(lr=0.1, momentum=0.5)
    >>> errors[-1] < errors[0]
    True
    """

    W: Float32
    vbias: Float32
    hbias: Float32
    W_grad: Float32
    vbias_grad: Float32
    hbias_grad: Float32
    W_vel: Float32
    vbias_vel: Float32
    hbias_vel: Float32

    def __init__(
        self,
        n_vis: int = 28 * 28,
        n_hid: int = 100,
        *,
        random_state: int | np.random.RandomState | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.n_vis = check_integer("n_vis", n_vis, minimum=1, below=2**31)
        self.n_hid = check_integer("n_hid", n_hid, minimum=1, below=2**31)
        self.n_threads = n_threads
        get_engine(n_threads=n_threads)  # which checks it
        rng = check_generator(random_state)
        self.W = (0.1 * rng.randn(n_vis, n_hid)).astype(np.float32)
        self.vbias = np.zeros(n_vis, np.float32)
        self.hbias = np.full(n_hid, -4.0, np.float32)
        for kind in ("_grad", "_vel"):
            for name in ("W", "vbias", "hbias"):
                setattr(self, name + kind, np.zeros_like(getattr(self, name)))
        self._seed = seed_from(rng)
        self._n_steps = 0  # Gibbs steps of training so far
        self._n_sampled = 0  # draws the user asked for
        self._chains: Bits | None = None
        self._work = _Workspace(0, self.n_vis, self.n_hid)

    def __setattr__(self, name: str, value: Any) -> None:
        parts = {"W": ("n_vis", "n_hid"), "vbias": ("n_vis",), "hbias": ("n_hid",)}
        axes = parts.get(name.removesuffix("_grad").removesuffix("_vel"))
        if axes is not None:
            value = _float32(name, value, tuple(getattr(self, axis) for axis in axes))
        super().__setattr__(name, value)

    # ---- training ----

    def compute_error_and_grads(
        self, batch: Any, burn_in: int = 0, num_steps: int = 1, method: str = "cd"
    ) -> float:
        """Compute the gradient of a minibatch, and how well it is reconstructed.

        Contrastive divergence as the original defines it: the negative phase takes the visible
        units' *probabilities*, ⟨v p(h|v)⟩ over the batch minus the same over p(v|h), with h drawn
        anew in each step. Nothing else is drawn.

        Parameters
        ----------
        batch : array of shape (n, n_vis), or (n, ...) with n_vis values each
            Values in [0, 1]; other dtypes than float32 are converted.
        burn_in : int, default=0
            Gibbs steps before those of `num_steps`.
        num_steps : int, default=1
            Gibbs steps: the k of CD-k.
        method : {"cd", "pcd"}, default="cd"
            Contrastive divergence (Hinton 2002), or persistent contrastive divergence (Tieleman
            2008), whose chains this object keeps: as many as the first batch has rows, and begun at
            it. Their visible states are drawn.

        Returns
        -------
        float
            Squared difference of the batch and its reconstruction p(v|h), h drawn from p(h|batch):
            summed over units, mean over rows.

        Raises
        ------
        ValueError, TypeError
            The batch is empty, or not of n_vis values in [0, 1]; an argument is out of its range.
        FloatingPointError
            The parameters are no longer finite.
        """
        n_steps = check_integer("burn_in", burn_in, minimum=0, below=2**31)
        n_steps += check_integer("num_steps", num_steps, minimum=1, below=2**31)
        check_word("method", method, ("cd", "pcd"))
        engine = self._engine()
        batch = np.asarray(batch)
        if batch.ndim < 2 or len(batch) == 0:
            raise ValueError(
                f"batch must have at least one row, of {self.n_vis} values; got {describe(batch)}"
            )
        batch = batch.reshape(len(batch), -1)
        rows = units_of_array(engine, batch, self.n_vis, "batch").rows

        n = len(batch)
        if self._work.n != n:
            self._work = _Workspace(n, self.n_vis, self.n_hid)
        work, step = self._work, self._n_steps
        v0, v, p0, p = work.v[:n], work.v[n:], work.p[:n], work.p[n:]
        machine = self._machine(engine)
        np.copyto(v0, batch, casting="unsafe")
        machine.propup(rows, p0)
        _require_finite(p0)  # which W and hbias are behind

        def reconstruct(draw_from: Float32, draw: Draw) -> Float32:
            """Draw hidden states, and return how the batch differs from p(v|h)."""
            engine.sample_bernoulli(draw_from, work.h, draw)
            machine.propdown(engine.rows_of_bits(work.h, self.n_hid), v)
            return np.subtract(v0, v, out=work.difference)

        difference = reconstruct(p0, Draw(self._seed, step, Stream.HIDDEN_START))
        error = float(np.einsum("ij,ij->i", difference, difference).mean(dtype=np.float64))
        _require_finite(error)
        if method == "pcd":
            self._persistent_gradient(machine, rows, work.h, n_steps)
        else:
            machine.propup(engine.rows_of_reals(v), p)
            for t in range(step, step + n_steps - 1):
                reconstruct(p, Draw(self._seed, t, Stream.HIDDEN))
                machine.propup(engine.rows_of_reals(v), p)
            self._gradient(engine)
        self._n_steps += n_steps
        return error

    def _gradient(self, engine: Engine) -> None:
        """Set the gradient of what is in the workspace: both phases in one product."""
        work, n = self._work, self._work.n
        work.p[:n] *= 1 / n
        work.p[n:] *= -1 / n
        np.copyto(work.turned, work.v.T)
        W_grad, no_bias = np.empty_like(self.W), np.zeros_like(self.hbias)
        # As a dense layer: nearly twice as fast as `engine.multiply`, which asks the BLAS.
        product = engine.network([LayerArrays(work.p, no_bias)], NetworkRule("squared_error"))
        product.predict(engine.rows_of_reals(work.turned), 1, W_grad)
        self.W_grad = W_grad
        self.vbias_grad = work.difference.sum(axis=0) / n
        self.hbias_grad = work.p.sum(axis=0)

    def _persistent_gradient(
        self, machine: Machine, rows: Rows, first_states: Bits, n_steps: int
    ) -> None:
        if self._chains is None:
            self._chains = first_states.copy()
        gradient = (
            np.empty_like(self.W),
            np.empty_like(self.vbias),
            np.empty_like(self.hbias),
        )
        machine.cd_gradient(rows, self._chains, n_steps, True, self._seed, self._n_steps, gradient)
        self.W_grad, self.vbias_grad, self.hbias_grad = gradient

    def update_params(self, lr: float, momentum: float = 0) -> None:
        """Move the parameters along the last gradient, in place.

        velocity = momentum·velocity + (1 - momentum)·lr·gradient; parameters += velocity.

        Parameters
        ----------
        lr : float
            Learning rate.
        momentum : float, default=0
            In [0, 1].
        """
        lr = check_real("lr", lr)
        momentum = check_real("momentum", momentum, minimum=0.0, maximum=1.0)
        for name, step in (
            ("W", self._work.step),
            ("vbias", np.empty_like(self.vbias)),
            ("hbias", np.empty_like(self.hbias)),
        ):
            velocity: Float32 = getattr(self, name + "_vel")
            np.multiply(getattr(self, name + "_grad"), (1 - momentum) * lr, out=step)
            velocity *= momentum
            velocity += step
            parameter: Float32 = getattr(self, name)
            parameter += velocity

    # ---- using it ----

    def h_given_v(self, v: Any) -> tuple[Float32, Array]:
        """Probabilities of the hidden units, and states drawn from them. Every call draws anew.

        Parameters
        ----------
        v : array of shape (n, n_vis) or (n_vis,)
            Values in [0, 1].

        Returns
        -------
        p : ndarray of float32 of shape (n, n_hid) or (n_hid,)
        h : ndarray of int64 of that shape
        """
        engine = self._engine()
        rows, lead = self._rows(engine, "v", v, self.n_vis)
        p = np.empty((rows.n_rows, self.n_hid), np.float32)
        self._machine(engine).propup(rows, p)
        return self._drawn(engine, p, lead, Stream.HIDDEN)

    def v_given_h(self, h: Any) -> tuple[Float32, Array]:
        """Probabilities of the visible units, and states drawn from them. Every call draws anew.

        Parameters
        ----------
        h : array of shape (n, n_hid) or (n_hid,)
            Values in [0, 1].

        Returns
        -------
        p : ndarray of float32 of shape (n, n_vis) or (n_vis,)
        v : ndarray of int64 of that shape
        """
        engine = self._engine()
        rows, lead = self._rows(engine, "h", h, self.n_hid)
        p = np.empty((rows.n_rows, self.n_vis), np.float32)
        self._machine(engine).propdown(rows, p)
        return self._drawn(engine, p, lead, Stream.VISIBLE)

    def reconstruct(self, v: Any) -> Float32:
        """Probabilities of the visible units after one pass up and down, without sampling.

        Parameters
        ----------
        v : array of shape (n, n_vis) or (n_vis,)
            Values in [0, 1].

        Returns
        -------
        ndarray of float32 of that shape
        """
        engine = self._engine()
        rows, lead = self._rows(engine, "v", v, self.n_vis)
        p = np.empty((rows.n_rows, self.n_hid), np.float32)
        machine = self._machine(engine)
        machine.propup(rows, p)
        out = np.empty((rows.n_rows, self.n_vis), np.float32)
        machine.propdown(engine.rows_of_reals(p), out)
        return out.reshape(*lead, self.n_vis)

    def avg_free_energy(self, v: Any) -> float:
        """Mean free energy -v·vbias - Σⱼ log(1 + exp((vW + hbias)ⱼ)) of some rows.

        Parameters
        ----------
        v : array of shape (n, n_vis) or (n_vis,)
            Values in [0, 1].

        Returns
        -------
        float
            In nats.
        """
        engine = self._engine()
        rows, _ = self._rows(engine, "v", v, self.n_vis)
        energies = np.empty(rows.n_rows)
        self._machine(engine).free_energy(rows, energies)
        return float(energies.mean())

    def gen_model_sample(self, start: Any = None, num_iters: int = 1000) -> Array:
        """Draw visible states by Gibbs sampling. Every call draws anew.

        Parameters
        ----------
        start : array of shape (n, n_vis) or (n_vis,), optional
            Where the chains start, values in [0, 1]; by default one starts from normal numbers.
        num_iters : int, default=1000
            Gibbs steps v → h → v, at least 1.

        Returns
        -------
        ndarray of int64 of start's shape, (n_vis,) by default
            Zeros and ones.
        """
        check_integer("num_iters", num_iters, minimum=1, below=2**56)
        engine = self._engine()
        draw = self._next_draw(num_iters)
        lead: tuple[int, ...] = ()
        if start is None:
            # Seeded by where the draws are, so that the next call starts elsewhere.
            normal = generator_of(draw.seed ^ draw.step).randn(1, self.n_vis)
            rows = engine.rows_of_reals(normal)
        else:
            rows, lead = self._rows(engine, "start", start, self.n_vis)
        n = rows.n_rows
        chains = Chains(empty_bits(n, self.n_vis), empty_bits(n, self.n_hid))
        run_chains(engine, self._machine(engine), rows, chains, num_iters, draw.seed, draw.step)
        states = np.empty((n, self.n_vis), np.bool_)
        engine.unpack(chains.v, states)
        return states.astype(np.int64).reshape(*lead, self.n_vis)

    def _engine(self) -> Engine:
        return get_engine(n_threads=self.n_threads)

    def _machine(self, engine: Engine) -> Machine:
        return engine.machine(self.W, self.vbias, self.hbias, "auto")

    def _rows(
        self, engine: Engine, name: str, value: Any, n_units: int
    ) -> tuple[Rows, tuple[int, ...]]:
        """Return rows of units, and the shape of what is to come out but for its last axis."""
        value = np.asarray(value)
        is_single = value.ndim == 1
        rows = units_of_array(engine, value[None] if is_single else value, n_units, name).rows
        return rows, () if is_single else (len(value),)

    def _drawn(
        self, engine: Engine, p: Float32, lead: tuple[int, ...], stream: Stream
    ) -> tuple[Float32, Array]:
        states = np.empty(p.shape, np.bool_)
        engine.sample_bernoulli(p, states, self._next_draw(1)._replace(stream=stream))
        shape = (*lead, p.shape[1])
        return p.reshape(shape), states.astype(np.int64).reshape(shape)

    def _next_draw(self, n_steps: int) -> Draw:
        """Return the coordinates of the user's next draws; those of training have another key."""
        step = self._n_sampled
        self._n_sampled += n_steps
        return Draw(sampling_seed(self._seed), step)


class _Workspace:
    """Memory for minibatches of n rows, kept from call to call.

    Of `v`, `p` and `turned`, which is v transposed, one half is the data's, the other the chains'.
    """

    def __init__(self, n: int, n_vis: int, n_hid: int) -> None:
        self.n = n
        self.v = np.empty((2 * n, n_vis), np.float32)
        self.turned = np.empty((n_vis, 2 * n), np.float32)
        self.p = np.empty((2 * n, n_hid), np.float32)
        self.h = empty_bits(n, n_hid)
        self.difference = np.empty((n, n_vis), np.float32)
        self.step = np.empty((n_vis, n_hid), np.float32)


def _require_finite(values: Any) -> None:
    if not np.isfinite(values).all():
        raise FloatingPointError("the parameters became infinite or not a number; try a smaller lr")


def _float32(name: str, value: Any, shape: tuple[int, ...]) -> Float32:
    """Return an array to keep: `value` itself where it is float32 in C order, else a copy."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of numbers, got {describe(array)}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {describe(array)}")
    return np.require(array, np.float32, ["C", "A", "W"])
