"""The RBM as a PyTorch module: in the place of the small RBM classes that people write with torch.

* :class:`RBM` has their names and parameters. Its conditionals, Gibbs chains and free energies are
  one operator each, with gradients, and go through :func:`torch.compile`.
* :func:`cd_step` makes a whole update of contrastive divergence in place, without autograd.
* :func:`dbn_to_sequential` exports a stack as a ``torch.nn.Sequential``.

Tensors are float32 on the CPU; as many threads work as ``torch.get_num_threads()`` says.

The operators are ``torch.ops.harmonium.half_step``, ``gibbs`` and ``free_energy``. They change
nothing and return the same for the same arguments: what they draw is a function of one of them,
`philox_state` (docs/numerics.md, section 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from harmonium._arrays import copy_transposed, empty_bits
from harmonium._checks import check_bool, check_integer, check_real, check_word
from harmonium.engine import Engine, get_engine
from harmonium.engine.protocol import (
    Array,
    Chains,
    Draw,
    Machine,
    Precision,
    Rows,
    Stream,
    TrainingArrays,
    TrainingRule,
)

try:
    import torch
except ImportError as error:
    raise ImportError(
        'harmonium.torch needs PyTorch, which is not installed: pip install "harmonium[torch]"'
    ) from error
from torch import Tensor, nn

if TYPE_CHECKING:
    from harmonium.export import TorchExport

__all__ = ["RBM", "cd_step", "dbn_to_sequential"]

# ------------------------------------------------------------------------------ tensors and engine


def _array(tensor: Tensor) -> Array:
    """Return a tensor's memory as an array; a copy only of one that is not contiguous."""
    array: Array = tensor.detach().numpy()
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


_MULTIPLIES_FOR_THREADS = 2**24


def _threads_for(n_rows: int, W: Tensor) -> int:
    """Return torch's number of threads, but one where products of so many rows with W are small.

    torch's threads stay awake for a while after its own operations, and ours would wait for a core:
    64 rows with 784–128 weights take 116 µs on one thread and 205 on two.
    """
    return torch.get_num_threads() if n_rows * W.numel() > _MULTIPLIES_FOR_THREADS else 1


def _engine(n_rows: int, W: Tensor) -> Engine:
    return get_engine(n_threads=_threads_for(n_rows, W))


def _turned_machine(
    engine: Engine, W: Tensor, v_bias: Tensor, h_bias: Tensor, precision: Any
) -> Machine:
    """Return a machine on the tensors themselves, turned round: its visible units are our hidden.

    An RBM has no right way up, and the engine's W is (n_visible, n_hidden), torch's the transpose.
    """
    return engine.machine(_array(W), _array(h_bias), _array(v_bias), precision)


def _values(units: Tensor) -> Array:
    """Return units of any shape as rows."""
    return _array(units).reshape(-1, units.shape[-1])


def _rows(engine: Engine, values: Array) -> tuple[Rows, bool]:
    """Return rows for the engine, bits if all are 0 or 1; and whether all are in [0, 1]."""
    words = empty_bits(*values.shape)
    is_binary, in_range = engine.pack(values, words)
    rows = (
        engine.rows_of_bits(words, values.shape[1]) if is_binary else engine.rows_of_reals(values)
    )
    return rows, in_range


def _seed_and_step(philox_state: Tensor) -> tuple[int, int]:
    seed, step = philox_state.tolist()
    return seed % 2**64, step


# --------------------------------------------------------------------------------------- operators


def _compute_half_step(
    units: Tensor,
    W: Tensor,
    v_bias: Tensor,
    h_bias: Tensor,
    philox_state: Tensor,
    up: bool,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """Return p(h|v) if `up`, else p(v|h), and states drawn from it."""
    values = _values(units)
    engine = _engine(len(values), W)
    machine = _turned_machine(engine, W, v_bias, h_bias, precision)
    p = units.new_empty((*units.shape[:-1], W.shape[0 if up else 1]))
    states = torch.empty_like(p)
    propagate = machine.propdown if up else machine.propup
    propagate(_rows(engine, values)[0], _values(p))
    stream = Stream.VISIBLE if up else Stream.HIDDEN  # the machine's, as in gibbs
    engine.sample_bernoulli(
        _values(p), _values(states), Draw(*_seed_and_step(philox_state), stream)
    )
    return p, states


def _half_step_like(
    units: Tensor, W: Tensor, v_bias: Any, h_bias: Any, state: Any, up: bool, precision: Any
) -> tuple[Tensor, Tensor]:
    p = units.new_empty((*units.shape[:-1], W.shape[0 if up else 1]))
    return p, torch.empty_like(p)


def _compute_gibbs(
    v: Tensor,
    W: Tensor,
    v_bias: Tensor,
    h_bias: Tensor,
    philox_state: Tensor,
    n_steps: int,
    precision: str,
) -> Tensor:
    """Return the visible states of chains from v after `n_steps` steps v → h → v."""
    values = _values(v)
    engine = _engine(len(values) * n_steps, W)
    machine = _turned_machine(engine, W, v_bias, h_bias, precision)
    seed, step = _seed_and_step(philox_state)
    h, v_k = empty_bits(len(values), W.shape[0]), empty_bits(*values.shape)
    is_binary, _ = engine.pack(values, v_k)
    if not is_binary:  # the first step is from real values
        machine.draw_visible(engine.rows_of_reals(values), h, Draw(seed, step, Stream.VISIBLE))
        rows = engine.rows_of_bits(h, W.shape[0])
        machine.draw_hidden(rows, v_k, Draw(seed, step, Stream.HIDDEN))
        n_steps, step = n_steps - 1, step + 1
    machine.gibbs(None, Chains(h, v_k), n_steps, seed, step, 0)
    states = v.new_empty(v.shape)
    engine.unpack(v_k, _values(states))
    return states


def _gibbs_like(v: Tensor, *others: Any) -> Tensor:
    return v.new_empty(v.shape)


def _compute_free_energy(
    v: Tensor, W: Tensor, v_bias: Tensor, h_bias: Tensor, reduction: str
) -> tuple[Tensor, Tensor]:
    """Return free energies, or their sum or mean, and p(h|v), which the gradients are made of."""
    rows = _flat(v)
    engine = _engine(len(rows), W)
    # One float32 product for both. Sums of 16-bit weights are faster, but W would be rounded first.
    machine = _turned_machine(engine, W, v_bias, h_bias, "float32")
    x, p = (v.new_empty((len(rows), W.shape[0])) for _ in range(2))
    machine.visible_preactivations(engine.rows_of_reals(_array(rows)), x.numpy())
    engine.sigmoid(x.numpy(), p.numpy())
    engine.softplus(x.numpy(), x.numpy())
    energies = -(x.sum(1, dtype=torch.float64) + rows.mv(v_bias)).reshape(v.shape[:-1])
    if reduction != "none":
        energies = energies.mean() if reduction == "mean" else energies.sum()
    return energies.float(), p.reshape(*v.shape[:-1], W.shape[0])


def _free_energy_like(
    v: Tensor, W: Tensor, v_bias: Tensor, h_bias: Tensor, reduction: str
) -> tuple[Tensor, Tensor]:
    energies = v.new_empty(v.shape[:-1] if reduction == "none" else ())
    return energies, v.new_empty((*v.shape[:-1], W.shape[0]))


# --------------------------------------------------------------------------------------- gradients
#
# In torch's own operations, so that they can be compiled and have gradients themselves. The first
# four inputs of an operator are units, W, v_bias and h_bias.


def _flat(units: Tensor) -> Tensor:
    return units if units.ndim == 2 else units.reshape(-1, units.shape[-1])


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    pass


def _no_gradients(ctx: Any, grad_states: Tensor | None) -> tuple[None, ...]:
    """Return those of :func:`_gibbs`: a draw has no gradient."""
    return (None,) * 7


def _through_product(
    needs: tuple[bool, ...], units: Tensor, W: Tensor | None, grad_x: Tensor, up: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return gradients of units, W and bias from that of x = units·Wᵀ + bias (down: units·W)."""
    grad_units = grad_W = grad_bias = None
    if needs[0] and W is not None:
        grad_units = grad_x @ (W if up else W.t())
    if needs[1]:
        grad_W = grad_x.t() @ units if up else units.t() @ grad_x
    if needs[3 if up else 2]:
        grad_bias = grad_x.sum(0)
    return grad_units, grad_W, grad_bias


def _keep_for_half_step(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    units, W, _, _, _, ctx.up, _ = inputs
    ctx.save_for_backward(units, W if ctx.needs_input_grad[0] else None, output[0])
    ctx.set_materialize_grads(False)


def _differentiate_half_step(
    ctx: Any, grad_p: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    if grad_p is None:  # of the states alone: a draw has no gradient
        return (None,) * 7
    units, W, p = ctx.saved_tensors
    grad_x = _flat(grad_p * p * (1 - p))
    grad_units, grad_W, grad_bias = _through_product(
        ctx.needs_input_grad, _flat(units), W, grad_x, ctx.up
    )
    if grad_units is not None:
        grad_units = grad_units.reshape(units.shape)
    grad_biases = (None, grad_bias) if ctx.up else (grad_bias, None)
    return grad_units, grad_W, *grad_biases, None, None, None


def _keep_for_free_energy(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    v, W, v_bias, _, ctx.reduction = inputs
    of_v = (W, v_bias) if ctx.needs_input_grad[0] else (None, None)
    ctx.save_for_backward(v, *of_v, output[1])
    ctx.set_materialize_grads(False)


def _differentiate_free_energy(
    ctx: Any, grad: Tensor | None, grad_p: Tensor | None
) -> tuple[Tensor | None, ...]:
    v, W, v_bias, p = ctx.saved_tensors
    needs = ctx.needs_input_grad
    rows, p = _flat(v), _flat(p)
    if grad is None:
        weights = v.new_zeros(())
    elif ctx.reduction == "none":
        weights = -grad.reshape(-1, 1)
    else:
        weights = grad / -len(rows) if ctx.reduction == "mean" else -grad
    # F = -v_bias·v - Σ softplus(x), and the derivative of softplus is p.
    grad_x = p * weights
    if grad_p is not None:
        grad_x = grad_x + _flat(grad_p) * p * (1 - p)
    grad_v, grad_W, grad_h_bias = _through_product(needs, rows, W, grad_x, True)
    if grad_v is not None:
        grad_v = (grad_v + v_bias * weights).reshape(v.shape)
    grad_v_bias = None
    if needs[2]:
        is_scalar = weights.ndim == 0
        grad_v_bias = rows.sum(0) * weights if is_scalar else (rows * weights).sum(0)
    return grad_v, grad_W, grad_v_bias, grad_h_bias, None


def _operator(name: str, compute: Any, like: Any, keep: Any, differentiate: Any) -> Any:
    """Register an operator, and return a function that calls it, or in eager mode goes past it.

    The way through ``torch.library`` takes 20 to 50 µs a call, and the work of a minibatch 100.
    """
    operator = torch.library.custom_op(f"harmonium::{name}", compute, mutates_args=())
    operator.register_fake(like)
    operator.register_autograd(differentiate, setup_context=keep)

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = compute(*inputs)
            keep(ctx, inputs, output)
            return output

        backward = staticmethod(differentiate)

    apply: Any = Eager.apply

    def call(units: Any, *others: Any) -> Any:
        # Subclasses of tensors, those without data among them, are for the dispatcher.
        if torch.compiler.is_compiling() or type(units) is not Tensor:
            return operator(units, *others)
        return apply(units, *others) if torch.is_grad_enabled() else compute(units, *others)

    return call


_half_step = _operator(
    "half_step", _compute_half_step, _half_step_like, _keep_for_half_step, _differentiate_half_step
)
_free_energy = _operator(
    "free_energy",
    _compute_free_energy,
    _free_energy_like,
    _keep_for_free_energy,
    _differentiate_free_energy,
)
_gibbs = _operator("gibbs", _compute_gibbs, _gibbs_like, _keep_nothing, _no_gradients)

# ------------------------------------------------------------------------------------------ module


class RBM(nn.Module):
    """Bernoulli restricted Boltzmann machine, E(v, h) = -v·v_bias - h·h_bias - hWv, as a module.

    For scripts like this one, which need not change but for the import:

    >>> import torch
    >>> from harmonium.torch import RBM
    >>> rbm = RBM(n_vis=784, n_hid=128, k=1)
    >>> optimizer = torch.optim.Adam(rbm.parameters(), lr=1e-3)
    >>> data = torch.zeros(64, 784)
    >>> v, v1 = rbm(data)
    >>> loss = rbm.free_energy(v) - rbm.free_energy(v1)
    >>> loss.backward()
    >>> optimizer.step()

    Parameters
    ----------
    n_vis : int, default=784
        Visible units.
    n_hid : int, default=500
        Hidden units.
    k : int, default=1
        Gibbs steps of :meth:`forward`, the k of CD-k.
    precision : {"auto", "float32"}, default="auto"
        Whether zeros and ones are multiplied with W rounded to 16 bits, or all in float32
        (docs/numerics.md, section 3). Values in between are multiplied in float32 either way.

    Attributes
    ----------
    W : Parameter of shape (n_hid, n_vis)
        Begins as ``torch.randn(n_hid, n_vis) * 0.01``.
    v_bias : Parameter of shape (n_vis,)
    h_bias : Parameter of shape (n_hid,)
    philox_state : int64 buffer of shape (2,)
        The seed of all draws, and the number of the next Gibbs step. The seed is drawn from torch's
        generator, so :func:`torch.manual_seed` before the module is made repeats everything.
    k, precision
        As given; may be set anew.

    Notes
    -----
    **Tensors** are float32 on the CPU, or a TypeError is raised. They are read where they lie,
    unless they are not contiguous. Zeros and ones take the binary path, but for
    free energies, whose gradient wants no rounding.

    **Draws** are a function of `philox_state`, the row in the batch and the unit, and don't depend
    on the number of threads; after the seed nothing is taken from torch's generator. Every call
    that draws takes the next numbers. A copy of the module, or one with its state_dict, draws what
    the module would have drawn.

    **state_dict** has `philox_state` besides the parameters. One without it, that of another class
    with these three parameters, loads too; the module then goes on with its own. (The other way
    round takes ``strict=False``.)
    """

    W: nn.Parameter
    v_bias: nn.Parameter
    h_bias: nn.Parameter
    philox_state: Tensor

    def __init__(
        self, n_vis: int = 784, n_hid: int = 500, k: int = 1, *, precision: Precision = "auto"
    ) -> None:
        super().__init__()
        self.n_vis = check_integer("n_vis", n_vis, minimum=1)
        self.n_hid = check_integer("n_hid", n_hid, minimum=1)
        self.k = check_integer("k", k, minimum=1)
        check_word("precision", precision, ("auto", "float32"))
        self.precision = precision
        self.W = nn.Parameter(torch.randn(n_hid, n_vis, dtype=torch.float32) * 1e-2)
        self.v_bias = nn.Parameter(torch.zeros(n_vis, dtype=torch.float32))
        self.h_bias = nn.Parameter(torch.zeros(n_hid, dtype=torch.float32))
        seed = torch.randint(2**63 - 1, (1,))
        self.register_buffer("philox_state", torch.cat([seed, torch.zeros_like(seed)]))

    def extra_repr(self) -> str:
        return f"n_vis={self.n_vis}, n_hid={self.n_hid}, k={self.k}, precision={self.precision!r}"

    def v_to_h(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units given visible ones.

        Parameters
        ----------
        v : float32 tensor of shape (..., n_vis)

        Returns
        -------
        p : tensor of shape (..., n_hid)
            p(h = 1 | v) = σ(vWᵀ + h_bias). Has gradients.
        h : tensor of shape (..., n_hid)
            Zeros and ones, drawn from p. Its gradients are zero, as those of torch.bernoulli.
        """
        return self._half_step("v", v, self.n_vis, True)

    def h_to_v(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Visible units given hidden ones.

        Parameters
        ----------
        h : float32 tensor of shape (..., n_hid)

        Returns
        -------
        p : tensor of shape (..., n_vis)
            p(v = 1 | h) = σ(hW + v_bias). Has gradients.
        v : tensor of shape (..., n_vis)
            Zeros and ones, drawn from p. Its gradients are zero, as those of torch.bernoulli.
        """
        return self._half_step("h", h, self.n_hid, False)

    def _half_step(self, name: str, units: Tensor, n_units: int, up: bool) -> tuple[Tensor, Tensor]:
        parameters = self._check(name, units, n_units)
        p, states = _half_step(units, *parameters, self.philox_state, up, self.precision)
        self._count(1)
        return p, states

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Run `k` Gibbs steps v → h → v.

        Parameters
        ----------
        v : float32 tensor of shape (..., n_vis)
            Where the chains start, one a row.

        Returns
        -------
        v : tensor
            The argument.
        v_k : tensor of the same shape
            Zeros and ones. Not part of any graph: a draw has no gradient.
        """
        parameters = self._check("v", v, self.n_vis)
        check_integer("k", self.k, minimum=1)
        with torch.no_grad():
            v_k = _gibbs(v, *parameters, self.philox_state, self.k, self.precision)
        self._count(self.k)
        return v, v_k

    def free_energy(self, v: Tensor, reduction: str = "mean") -> Tensor:
        """Free energy F(v) = -v·v_bias - Σⱼ softplus((vWᵀ + h_bias)ⱼ): p(v) is exp(-F(v)) / Z.

        Parameters
        ----------
        v : float32 tensor of shape (..., n_vis)
        reduction : {"mean", "sum", "none"}
            Over the rows; added up in float64.

        Returns
        -------
        float32 tensor
            In nats. Without dimensions, or of shape (...) for "none". Has gradients, of `v` too.
        """
        parameters = self._check("v", v, self.n_vis)
        check_word("reduction", reduction, ("mean", "sum", "none"))
        energies: Tensor = _free_energy(v, *parameters, reduction)[0]
        return energies

    def _count(self, n_steps: int) -> None:
        self.philox_state[1].add_(n_steps)

    def _check(self, name: str, units: Any, n_units: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the parameters; raise unless the engine can take them and the units."""
        if not isinstance(units, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(units).__name__}")
        parameters = W, v_bias, h_bias = self.W, self.v_bias, self.h_bias
        for tensor in (units, *parameters):
            if tensor.dtype is not torch.float32 or not tensor.is_cpu:
                names = {units: name, W: "W", v_bias: "v_bias", h_bias: "h_bias"}
                raise TypeError(
                    f"{names[tensor]} must be float32 on the CPU, where harmonium works; got "
                    f"{tensor.dtype} on {tensor.device}. Convert it where you can see it, with "
                    ".float() or .cpu()"
                )
        if units.ndim == 0 or units.shape[-1] != n_units:
            raise ValueError(
                f"{name} must have rows of {n_units} units, got shape {tuple(units.shape)}"
            )
        return parameters

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # Those of the classes whose place this takes have the parameters alone.
        state_dict.setdefault(f"{prefix}philox_state", self.philox_state)
        super()._load_from_state_dict(state_dict, prefix, *args)


# ---------------------------------------------------------------------------------------- training


class _Settings(NamedTuple):
    """What a trainer can't change from update to update."""

    rule: TrainingRule
    precision: Precision
    has_momentum: bool
    n_threads: int


class _Training:
    """A trainer and the arrays it works on: copies of a module's parameters, turned round."""

    _settings: _Settings
    _arrays: TrainingArrays

    def __init__(
        self,
        settings: _Settings,
        parameters: tuple[Tensor, ...],
        n_rows: int,
        last: _Training | None,
    ) -> None:
        self._settings = settings
        self._seen = tuple(_array(p).copy() for p in parameters)
        # (A vector's transpose is itself.)
        W, b, c = (np.array(seen.T, order="C") for seen in self._seen)
        chains = empty_bits(n_rows, len(c))
        velocities: tuple[Any, ...] = ()
        if settings.has_momentum:
            velocities = tuple(np.zeros_like(array) for array in (W, b, c))
        if last is not None and last._arrays.W.shape == W.shape:
            # What parameters don't hold goes on.
            if settings.rule.persistent and last._settings.rule.persistent:
                chains = last._arrays.chains
            if settings.has_momentum and last._settings.has_momentum:
                velocities = last._arrays[4:]
        self._arrays = TrainingArrays(W, b, c, chains, *velocities)
        engine = get_engine(n_threads=settings.n_threads)
        self._trainer = engine.trainer(self._arrays, settings.rule, settings.precision)

    def fits(self, settings: _Settings, parameters: tuple[Tensor, ...], n_rows: int) -> bool:
        """Tell whether it can take the next minibatch.

        Whether somebody else has changed the parameters it sees by looking at them, which takes a
        twentieth of an update: the version counters of tensors know nothing of what is written
        through ``.data``, NumPy or compiled code.
        """
        if settings != self._settings:
            return False
        if not settings.rule.persistent and n_rows > len(self._arrays.chains):
            return False
        pairs = zip(parameters, self._seen, strict=True)
        return all(np.array_equal(_array(p), seen) for p, seen in pairs)

    def update(
        self, parameters: tuple[Tensor, ...], rows: Rows, step: int, lr: float, momentum: float
    ) -> None:
        """Run the trainer on a minibatch and bring the parameters up to date."""
        self._trainer.run(rows, None, 0, rows.n_rows, rows.n_rows, step, lr, momentum)
        # By NumPy, after which autograd has to be told: torch would deal so short a copy to its
        # threads, which stay awake where those of the next update want to run.
        copy_transposed(self._arrays.W, self._seen[0])
        for seen, array in zip(self._seen[1:], self._arrays[1:3], strict=True):
            seen[...] = array
        for parameter, seen in zip(parameters, self._seen, strict=True):
            parameter.detach().numpy()[...] = seen
        torch.autograd.graph.increment_version(parameters)


_trainings: WeakKeyDictionary[RBM, _Training] = WeakKeyDictionary()


def cd_step(
    module: RBM,
    batch: Tensor,
    lr: float = 0.01,
    *,
    k: int | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    persistent: bool = False,
) -> None:
    """Update a module once by contrastive divergence, without autograd and optimiser.

    In place of ``loss.backward()`` and ``optimizer.step()``: the minibatch's products, draws,
    gradient and update are one call of compiled code. `W`, `v_bias` and `h_bias` are changed in
    place, which autograd is told of; their ``.grad`` is neither read nor written.

    Parameters
    ----------
    module : RBM
    batch : float32 tensor of shape (n, n_vis), at least one row
        Zeros and ones take the binary path; values in between are mean activations. n may differ
        from call to call.
    lr : float, default=0.01
        Learning rate ε.
    k : int, optional
        Gibbs steps; the module's `k` by default.
    momentum : float in [0, 1), default=0.0
        μ: the step is μ times the last one plus ε times the gradient.
    weight_decay : float, default=0.0
        λ: ε·λ·W is subtracted from W. Biases don't decay, as torch's optimisers would let them.
    persistent : bool, default=False
        Whether the chains go on where the last call left them (persistent CD, Tieleman 2008), as
        many as the first minibatch had rows, all units off at first; or start at the data (CD).

    Raises
    ------
    TypeError
        An argument is of the wrong type, or a tensor not float32 on the CPU.
    ValueError
        A shape does not fit, or a number is out of its range; values of `batch` are outside [0, 1].
    FloatingPointError
        The parameters would become infinite or not a number. The module is left as it was.

    Notes
    -----
    Draws have the module's seed and take the next `k` numbers of its `philox_state`.

    Between calls are kept, beside the module and not in its state_dict: the 16-bit weights, made
    anew when somebody else has changed the parameters; the velocities, until a call without
    momentum; the chains, until a call that is not persistent.

    References
    ----------
    Hinton (2002), Training products of experts by minimizing contrastive divergence.
    Tieleman (2008), Training restricted Boltzmann machines using approximations to the likelihood
    gradient.
    """
    if not isinstance(module, RBM):
        raise TypeError(f"module must be a harmonium.torch.RBM, got {type(module).__name__}")
    parameters = module._check("batch", batch, module.n_vis)
    n_steps = check_integer("k", module.k if k is None else k, minimum=1, below=2**32)
    lr = check_real("lr", lr, minimum=0.0, open_minimum=True)
    momentum = check_real("momentum", momentum, minimum=0.0, maximum=1.0)
    if momentum == 1:
        raise ValueError("momentum must be below 1, got 1")
    weight_decay = check_real("weight_decay", weight_decay, minimum=0.0)
    check_bool("persistent", persistent)
    rows, in_range = _rows(_engine(len(batch), module.W), _values(batch))
    if not in_range:
        raise ValueError(
            "batch must have all values in [0, 1], because units are states or probabilities; got "
            f"values from {batch.min():g} to {batch.max():g}"
        )
    if rows.n_rows == 0:
        raise ValueError(f"batch must have at least one row, got shape {tuple(batch.shape)}")
    seed, step = _seed_and_step(module.philox_state)
    rule = TrainingRule(n_steps, bool(persistent), 0.0, weight_decay, seed)
    n_threads = _threads_for(rows.n_rows, module.W)
    settings = _Settings(rule, module.precision, momentum != 0, n_threads)
    # Taken out until it is done: an error leaves none behind that is not in step.
    training = _trainings.pop(module, None)
    if training is None or not training.fits(settings, parameters, rows.n_rows):
        training = _Training(settings, parameters, rows.n_rows, training)
    with torch.no_grad():
        try:
            training.update(parameters, rows, step, lr, momentum)
        except FloatingPointError:
            raise FloatingPointError(
                f"cd_step diverged at lr={lr:g}: the weights would have become infinite or not a "
                "number. The module is left as it was; try a smaller lr"
            ) from None
    _trainings[module] = training
    module._count(n_steps)


def dbn_to_sequential(dbn: TorchExport | Iterable[RBM]) -> nn.Sequential:
    """Return a stack as a ``torch.nn.Sequential`` with the same outputs, on copies of parameters.

    Parameters
    ----------
    dbn : DBN, DBNClassifier, SoftmaxRegression or DeepAutoencoder, or an iterable of RBM
        A fitted estimator, whose `to_torch` this calls, or modules from the data upwards: each
        becomes a ``Linear`` and a ``Sigmoid``, together p(h | v) with means passed on.

    Returns
    -------
    torch.nn.Sequential
        In evaluation mode.

    Raises
    ------
    TypeError
        `dbn` is neither.
    ValueError
        There is no RBM, or one has not as many visible units as the one below has hidden ones.
    sklearn.exceptions.NotFittedError
        The estimator is not fitted.
    """
    from harmonium.export import TorchExport, sequential

    if isinstance(dbn, TorchExport):
        exported: nn.Sequential = dbn.to_torch()
        return exported
    wanted = "an estimator with to_torch, or an iterable of harmonium.torch.RBM"
    if not isinstance(dbn, Iterable):
        raise TypeError(f"dbn must be {wanted}; got {type(dbn).__name__}")
    rbms = list(dbn)
    for rbm in rbms:
        if not isinstance(rbm, RBM):
            raise TypeError(f"dbn must be {wanted}; got an iterable with {type(rbm).__name__}")
    if not rbms:
        raise ValueError("dbn must have at least one RBM")
    for number, (below, rbm) in enumerate(pairwise(rbms), start=1):
        if rbm.n_vis != below.n_hid:
            raise ValueError(
                f"dbn[{number}] must have {below.n_hid} visible units, as many as dbn[{number - 1}]"
                f" has hidden ones; got {rbm.n_vis}"
            )
    layers = [(_array(rbm.W.cpu()).T, _array(rbm.h_bias.cpu())) for rbm in rbms]
    module: nn.Sequential = sequential(layers, ["sigmoid"] * len(layers))
    return module
