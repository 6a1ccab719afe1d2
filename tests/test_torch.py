"""harmonium.torch: operators, gradients, draws, updates, export; beside torch and the twin."""

from __future__ import annotations

import copy
import gc
import importlib
import inspect
import io
import pickle
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import chi_square_p, random_bits, random_model, random_reals, same_bits, state_counts

torch = pytest.importorskip("torch", reason="harmonium.torch is for those who have PyTorch")

import harmonium.torch as ht  # noqa: E402
from harmonium import DBN, BernoulliRBM, DBNClassifier, DeepAutoencoder, SoftmaxRegression  # noqa: E402

F32 = np.float32
V, H, N = 70, 37, 9
SIGNIFICANCE = 1e-4  # a right implementation fails for one seed in 10^4, and the seeds are fixed


class Plain(torch.nn.Module):
    """The class that people write, in any dtype: the twin of gradients."""

    def __init__(self, n_vis: int, n_hid: int, dtype: Any = torch.float32) -> None:
        super().__init__()
        self.W = torch.nn.Parameter(torch.randn(n_hid, n_vis, dtype=dtype) * 1e-2)
        self.v_bias = torch.nn.Parameter(torch.zeros(n_vis, dtype=dtype))
        self.h_bias = torch.nn.Parameter(torch.zeros(n_hid, dtype=dtype))

    def v_to_h(self, v: Any) -> Any:
        return torch.sigmoid(torch.nn.functional.linear(v, self.W, self.h_bias))

    def h_to_v(self, h: Any) -> Any:
        return torch.sigmoid(torch.nn.functional.linear(h, self.W.t(), self.v_bias))

    def free_energy(self, v: Any, reduction: str = "mean") -> Any:
        x = torch.nn.functional.linear(v, self.W, self.h_bias)
        energies = -(v @ self.v_bias) - torch.nn.functional.softplus(x).sum(-1)
        return energies if reduction == "none" else getattr(energies, reduction)()

    @classmethod
    def twin(cls, rbm: Any) -> Plain:
        """The same parameters in float64."""
        twin = cls(rbm.n_vis, rbm.n_hid, torch.float64)
        parameters = {name: value.detach().double() for name, value in rbm.named_parameters()}
        twin.load_state_dict(parameters)
        return twin


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products; and torch's threads would spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_rbm(
    n_vis: int = V, n_hid: int = H, k: int = 1, *, scale: float = 0.3, **options: Any
) -> Any:
    """Return an RBM with parameters that are not small."""
    torch.manual_seed(n_vis)
    rbm = ht.RBM(n_vis, n_hid, k, **options)
    W, b, c = random_model(n_vis, n_hid, seed=n_hid, scale=scale)
    with torch.no_grad():
        rbm.W.copy_(torch.from_numpy(W.T.copy()))
        rbm.v_bias.copy_(torch.from_numpy(b))
        rbm.h_bias.copy_(torch.from_numpy(c))
    return rbm


def arrays(rbm: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W (n_vis, n_hid), b and c, as the reference has them."""
    W, b, c = (p.detach().numpy().copy() for p in (rbm.W, rbm.v_bias, rbm.h_bias))
    return np.ascontiguousarray(W.T), b, c


def bits(n: int = N, n_units: int = V, seed: int = 1) -> Any:
    return torch.from_numpy(random_bits(n, n_units, seed=seed).astype(F32))


def reals(n: int = N, n_units: int = V, seed: int = 2) -> Any:
    return torch.from_numpy(random_reals(n, n_units, seed=seed))


UNITS = {"binary": bits, "real": reals}
each_units = pytest.mark.parametrize("units", UNITS)
each_reduction = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


# ---------------------------------------------------------------------------------------- module


def test_names_and_defaults_are_those_of_the_usual_class() -> None:
    names = inspect.signature(ht.RBM).parameters
    assert [(n, p.default) for n, p in names.items()][:3] == [
        ("n_vis", 784),
        ("n_hid", 500),
        ("k", 1),
    ]
    torch.manual_seed(3)
    rbm = ht.RBM(n_vis=5, n_hid=4)
    torch.manual_seed(3)
    plain = Plain(5, 4)
    assert [name for name, _ in rbm.named_parameters()] == ["W", "v_bias", "h_bias"]
    for mine, theirs in zip(rbm.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.is_contiguous()  # for view(-1), which optimisers use
    assert repr(rbm) == "RBM(n_vis=5, n_hid=4, k=1, precision='auto')"


def test_parameters_are_float32_whatever_the_default() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        rbm = ht.RBM(5, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in rbm.parameters()} == {torch.float32}


def test_state_dict_of_the_usual_class_loads_and_ours_loads_there() -> None:
    plain, rbm = Plain(V, H), ht.RBM(V, H)
    before = rbm.philox_state.clone()
    rbm.load_state_dict(plain.state_dict())
    assert torch.equal(rbm.W, plain.W)
    assert torch.equal(rbm.philox_state, before)
    back = Plain(V, H)
    missing, unexpected = back.load_state_dict(rbm.state_dict(), strict=False)
    assert (missing, unexpected) == ([], ["philox_state"])
    assert torch.equal(back.W, plain.W)
    with pytest.raises(RuntimeError, match="h_bias"):  # parameters have to be there
        rbm.load_state_dict({"W": plain.W, "v_bias": plain.v_bias})


def test_state_dict_within_a_module() -> None:
    stack = torch.nn.ModuleList([new_rbm(), new_rbm(H, 5)])
    for rbm in stack:
        rbm(torch.zeros(2, rbm.n_vis))
    other = torch.nn.ModuleList([ht.RBM(V, H), ht.RBM(H, 5)])
    other.load_state_dict(stack.state_dict())
    for mine, theirs in zip(other, stack, strict=True):
        v = bits(3, mine.n_vis)
        assert torch.equal(mine(v)[1], theirs(v)[1])


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies_draw_what_the_module_would_have_drawn(way: str) -> None:
    rbm, v = new_rbm(k=2), bits()
    rbm(v)
    ht.cd_step(rbm, v, persistent=True)  # which is kept beside the module, not in it
    if way == "deepcopy":
        other = copy.deepcopy(rbm)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(rbm))
    else:
        file = io.BytesIO()
        torch.save(rbm, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert torch.equal(rbm(v)[1], other(v)[1])
    assert torch.equal(rbm.v_to_h(v)[1], other.v_to_h(v)[1])


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "harmonium.torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"harmonium\.torch needs PyTorch, which is not inst"):
        importlib.import_module("harmonium.torch")


# ----------------------------------------------------------------------------------------- draws


def test_conditionals_are_the_reference_bits() -> None:
    rbm, v, h = new_rbm(), bits(), bits(N, H)
    W, b, c = arrays(rbm)
    for _ in range(2):  # every call takes the next numbers
        for call, given, turned, stream in (
            (rbm.v_to_h, v, (W, c), ref.STREAM_VISIBLE),
            (rbm.h_to_v, h, (W.T, b), ref.STREAM_HIDDEN),
        ):
            seed, step = rbm.philox_state.tolist()
            p, drawn = call(given)
            expected = ref.sigmoid(ref.preactivation(given.numpy() == 1, *turned))
            assert same_bits(p.detach().numpy(), expected)
            states = ref.bernoulli(expected, seed, step=step, stream=stream)
            assert same_bits(drawn.detach().numpy(), states.astype(F32))
            assert rbm.philox_state.tolist() == [seed, step + 1]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_chains_are_the_reference_bits(k: int) -> None:
    rbm, v = new_rbm(k=k), bits()
    W, b, c = arrays(rbm)
    for call in range(2):
        seed, step = rbm.philox_state.tolist()
        assert step == k * call
        same, v_k = rbm(v)
        assert same is v
        # Turned round: the machine's visible units are our hidden ones.
        expected = ref.gibbs(W.T, c, b, k, seed, h=v.numpy() == 1, step=step)
        assert same_bits(v_k.numpy(), expected.h.astype(F32))


def test_chains_from_real_values() -> None:
    rbm, v = new_rbm(k=3), reals()
    W, b, c = arrays(rbm)
    seed, _ = rbm.philox_state.tolist()
    v_k = rbm(v)[1]
    p = ref.propup64(v.numpy(), W, c).astype(F32)
    h = ref.bernoulli(p, seed, step=0, stream=ref.STREAM_VISIBLE)
    first, _ = ref.half_step_up(h, W.T, b, seed, step=0)  # v from h, the machine turned round
    expected = ref.gibbs(W.T, c, b, 2, seed, h=first, step=1)
    assert same_bits(v_k.numpy(), expected.h.astype(F32))


def test_chains_tend_to_the_model() -> None:
    rbm = new_rbm(4, 3, k=40, scale=1.0)  # long enough to forget where it began
    v_k = rbm(torch.zeros(20_000, 4))[1]
    counts = state_counts(v_k.numpy().astype(int))
    assert chi_square_p(counts, ref.visible_distribution64(*arrays(rbm))) > SIGNIFICANCE


def test_conditional_draws_have_their_probabilities() -> None:
    rbm = new_rbm(4, 3, scale=1.0)
    v = torch.tensor([1.0, 0.0, 1.0, 1.0])
    p, h = rbm.v_to_h(v.expand(20_000, 4))
    states = ref.all_states(3)
    q = p[0].detach().numpy().astype(float)
    probabilities = np.prod(np.where(states, q, 1 - q), axis=1)
    order = state_counts(states.astype(int)).argsort()  # a permutation of all states
    assert len(order) == 8
    numbers = states @ (1 << np.arange(3))
    by_number = np.empty(8)
    by_number[numbers] = probabilities
    counts = state_counts(h.detach().numpy().astype(int))
    assert chi_square_p(counts, by_number) > SIGNIFICANCE


def test_seeds_come_from_torch_and_nothing_else_does() -> None:
    torch.manual_seed(7)
    one, other = ht.RBM(V, H), ht.RBM(V, H)
    assert one.philox_state[0] != other.philox_state[0]
    torch.manual_seed(7)
    again = ht.RBM(V, H)
    state = torch.get_rng_state()
    v = bits()
    assert torch.equal(one(v)[1], again(v)[1])
    again.v_to_h(v)
    again.free_energy(v)
    ht.cd_step(again, v)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_coordinate_matters() -> None:
    rbm = new_rbm()
    v = torch.zeros(2, V)
    seen = [rbm(v)[1] for _ in range(3)]
    rbm.philox_state[0] += 1
    rbm.philox_state[1] = 0
    seen.append(rbm(v)[1])
    rows = torch.cat(seen)
    assert len(torch.unique(rows, dim=0)) == len(rows)
    rbm.philox_state[0] = -1  # any integer is a seed, modulo 2^64
    W, b, c = arrays(rbm)
    expected = ref.gibbs(W.T, c, b, 1, 2**64 - 1, h=v.numpy() == 1, step=1)
    assert same_bits(rbm(v)[1].numpy(), expected.h.astype(F32))


def test_threads_are_as_many_as_torch_takes_and_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    get_engine, asked = ht.get_engine, set()

    def spy(n_threads: int) -> Any:
        asked.add(n_threads)
        return get_engine(n_threads=n_threads)

    monkeypatch.setattr(ht, "get_engine", spy)
    results = []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        asked.clear()
        rbm, v = new_rbm(200, 150, k=2), bits(600, 200)  # work enough for threads
        ht.cd_step(rbm, v)
        results.append([rbm(v)[1], *rbm.v_to_h(v), rbm.free_energy(v, "none"), rbm.W.clone()])
        assert asked == {n_threads}
        rbm(v[:50])
        assert asked == {n_threads, 1}
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@each_units
def test_leading_dimensions(units: str) -> None:
    flat = UNITS[units](12)
    for shape in [(3, 4, V), (12, 1, V), (2, 3, 2, V)]:
        rbm, same = new_rbm(), new_rbm()
        v = flat.reshape(shape)
        for mine, theirs in zip(rbm.v_to_h(v), same.v_to_h(flat), strict=True):
            assert torch.equal(mine, theirs.reshape(*shape[:-1], H))
        assert torch.equal(rbm(v)[1], same(flat)[1].reshape(shape))
        energies = rbm.free_energy(v, "none")
        assert torch.equal(energies, same.free_energy(flat, "none").reshape(shape[:-1]))
    row = new_rbm()
    assert row.v_to_h(flat[0])[1].shape == (H,)
    assert row(flat[0])[1].shape == (V,)
    assert row.free_energy(flat[0], "none").shape == ()


def test_rows_anywhere_in_memory() -> None:
    wide = bits(N, 3 * V)
    for v in (wide[:, V : 2 * V], wide[:, ::3], bits(V, N).t(), bits()[:1].expand(N, V)):
        assert torch.equal(new_rbm()(v)[1], new_rbm()(v.contiguous())[1])
        expected = new_rbm().free_energy(v.contiguous())
        assert torch.equal(new_rbm().free_energy(v), expected)
    turned = new_rbm()
    turned.W = torch.nn.Parameter(turned.W.detach().t().contiguous().t())
    assert not turned.W.is_contiguous()
    assert torch.equal(turned(bits())[1], new_rbm()(bits())[1])
    ht.cd_step(turned, bits())
    straight = new_rbm()
    straight(bits())
    ht.cd_step(straight, bits())
    assert torch.equal(turned.W, straight.W)


def test_no_rows() -> None:
    rbm, v = new_rbm(), torch.empty(0, V)
    assert rbm(v)[1].shape == (0, V)
    assert rbm.v_to_h(v)[1].shape == (0, H)
    assert rbm.free_energy(v, "none").shape == (0,)
    energy = rbm.free_energy(v)
    assert energy.isnan()  # as torch has it
    energy.backward()


@each_units
def test_tensors_are_read_where_they_lie_and_stay_as_they_are(
    units: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harmonium.engine.cpu import CpuEngine

    seen: dict[str, set[int]] = {"W": set(), "rows": set(), "states": set()}
    machine, pack, unpack = CpuEngine.machine, CpuEngine.pack, CpuEngine.unpack

    def spy_machine(self: Any, W: Any, *rest: Any) -> Any:
        seen["W"].add(W.ctypes.data)
        return machine(self, W, *rest)

    def spy_pack(self: Any, values: Any, out: Any) -> Any:
        seen["rows"].add(values.ctypes.data)
        return pack(self, values, out)

    def spy_unpack(self: Any, words: Any, out: Any) -> None:
        seen["states"].add(out.ctypes.data)
        unpack(self, words, out)

    monkeypatch.setattr(CpuEngine, "machine", spy_machine)
    monkeypatch.setattr(CpuEngine, "pack", spy_pack)
    monkeypatch.setattr(CpuEngine, "unpack", spy_unpack)
    rbm, v = new_rbm(), UNITS[units]()
    before = [t.detach().clone() for t in (v, *rbm.parameters())]
    p, _ = rbm.v_to_h(v)
    v_k = rbm(v)[1]
    assert seen == {
        "W": {rbm.W.data_ptr()},
        "rows": {v.data_ptr()},
        "states": {v_k.data_ptr()},
    }
    (rbm.free_energy(v) + p.sum()).backward()
    assert seen["rows"] == {v.data_ptr()}
    assert all(torch.equal(a, b) for a, b in zip(before, (v, *rbm.parameters()), strict=True))


# ----------------------------------------------------------------------------------- free energies


@each_reduction
@pytest.mark.parametrize("units", ["binary", "real"])
def test_free_energies(units: str, reduction: str) -> None:
    rbm, v = new_rbm(), UNITS[units]()
    energies = ref.free_energy64(v.numpy(), *arrays(rbm))
    expected = energies if reduction == "none" else getattr(energies, reduction)()
    # Sums of some 70 products of order one, each rounded to float32.
    np.testing.assert_allclose(rbm.free_energy(v, reduction).detach(), expected, rtol=1e-5)
    assert torch.equal(rbm.free_energy(v), rbm.free_energy(v, "mean"))


# ------------------------------------------------------------------------------------- gradients


def compare_gradients(rbm: Any, twin: Any, v: Any, v64: Any, atol: float) -> None:
    pairs = [(v, v64), *zip(rbm.parameters(), twin.parameters(), strict=True)]
    for mine, theirs in pairs:
        assert mine.grad.shape == theirs.grad.shape
        np.testing.assert_allclose(mine.grad, theirs.grad, rtol=1e-5, atol=atol)


@each_units
@each_reduction
@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("shape", [(N, V), (3, 3, V)])
def test_gradients_of_free_energies(
    units: str, reduction: str, precision: str, shape: tuple[int, ...]
) -> None:
    rbm = new_rbm(precision=precision)
    twin = Plain.twin(rbm)
    v = UNITS[units]().reshape(shape).requires_grad_()
    v64 = v.detach().double().requires_grad_()
    energies, expected = rbm.free_energy(v, reduction), twin.free_energy(v64, reduction)
    weights = torch.linspace(-1, 2, energies.numel()).reshape(energies.shape)
    (energies * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    # Of order 1 to 10. Rounded to 16 bits, with a scale of at most 2^-14 (max |W| is below 2), 30
    # weights that are on change x by less than 30·2^-15 and p by a quarter of that: 2.3e-4. W's
    # gradient sums nine of them, v's 37 with |W| ~ 0.3, which cancel.
    compare_gradients(rbm, twin, v, v64, 1e-5 if precision == "float32" else 2e-3)


@each_units
@pytest.mark.parametrize("direction", ["v_to_h", "h_to_v"])
@pytest.mark.parametrize("shape", [(9,), (3, 3), ()])
def test_gradients_of_conditionals(units: str, direction: str, shape: tuple[int, ...]) -> None:
    rbm = new_rbm(precision="float32")
    twin = Plain.twin(rbm)
    n_units = V if direction == "v_to_h" else H
    v = UNITS[units](9, n_units)[: 9 if shape else 1].reshape(*shape, n_units).requires_grad_()
    v64 = v.detach().double().requires_grad_()
    p, states = getattr(rbm, direction)(v)
    expected = getattr(twin, direction)(v64)
    weights = torch.linspace(-1, 2, p.numel()).reshape(p.shape)
    (p * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    for mine, theirs in [(v, v64), *zip(rbm.parameters(), twin.parameters(), strict=True)]:
        if theirs.grad is None:  # the bias of the other side
            assert mine.grad is None
        else:
            np.testing.assert_allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    assert set(np.unique(states.detach())) <= {0.0, 1.0}


def test_gradient_is_the_difference_quotient() -> None:
    rbm, v = new_rbm(), bits()
    rbm.free_energy(v).backward()
    rng = np.random.default_rng(0)
    start = arrays(rbm)
    for _ in range(5):
        along = [rng.normal(size=a.shape) for a in start]
        ends = [
            ref.free_energy64(
                v.numpy(), *(a + s * 1e-5 * d for a, d in zip(start, along, strict=True))
            ).mean()
            for s in (1, -1)
        ]
        gradients = (rbm.W.grad.numpy().T, rbm.v_bias.grad.numpy(), rbm.h_bias.grad.numpy())
        slope = sum(np.sum(g * d) for g, d in zip(gradients, along, strict=True))
        # p off by up to 2e-4 (above) in 2600 directions of either sign: 50 times that at most.
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=0, atol=1e-2)


def test_gradients_have_gradients() -> None:
    rbm = new_rbm(precision="float32")
    twin = Plain.twin(rbm)
    for model, v in ((rbm, bits()), (twin, bits().double())):
        gradients = torch.autograd.grad(
            model.free_energy(v), list(model.parameters()), create_graph=True
        )
        # Squares, as of a gradient penalty.
        sum((g**2).sum() for g in gradients).backward()
    for mine, theirs in zip(rbm.parameters(), twin.parameters(), strict=True):
        if theirs.grad is not None:
            np.testing.assert_allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_only_gradients_that_are_asked_for() -> None:
    for frozen in ("W", "v_bias", "h_bias"):
        rbm = new_rbm()
        getattr(rbm, frozen).requires_grad_(False)
        rbm.free_energy(bits()).backward()
        for name, parameter in rbm.named_parameters():
            assert (parameter.grad is None) == (name == frozen)
    with torch.no_grad():
        assert not new_rbm().free_energy(bits()).requires_grad


def test_draws_have_no_gradient() -> None:
    rbm, v = new_rbm(), bits().requires_grad_()
    v_k = rbm(v)[1]
    assert not v_k.requires_grad
    rbm.v_to_h(v)[1].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in (v, *rbm.parameters()))


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "LBFGS"])
def test_any_optimizer_takes_the_steps_it_takes_with_the_usual_class(optimizer: str) -> None:
    rbm = new_rbm(precision="float32")
    twin = Plain.twin(rbm).float()
    steppers = [getattr(torch.optim, optimizer)(m.parameters(), lr=0.01) for m in (rbm, twin)]

    def closure(model: Any, stepper: Any, v: Any, v_k: Any) -> Any:
        stepper.zero_grad()
        penalty = sum((p**2).sum() for p in model.parameters())  # so that there is a minimum
        loss = model.free_energy(v) - model.free_energy(v_k) + penalty
        loss.backward()
        return loss

    for seed in range(4):
        v, v_k = rbm(bits(seed=seed))
        for model, stepper in zip((rbm, twin), steppers, strict=True):
            stepper.step(partial(closure, model, stepper, v, v_k))
    for mine, theirs in zip(rbm.parameters(), twin.parameters(), strict=True):
        # Both are float32, and LBFGS magnifies their rounding: 3e-4 where they have gone 0.3.
        np.testing.assert_allclose(mine.detach(), theirs.detach(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("way", "lr"), [("autograd", 0.05), ("cd_step", 0.3), ("persistent", 0.1)])
def test_learning(way: str, lr: float) -> None:
    rng = np.random.default_rng(0)
    patterns = random_bits(4, 8, seed=0)
    data = patterns[rng.integers(0, 4, 600)]
    torch.manual_seed(0)
    rbm = ht.RBM(8, 6, k=2)
    optimizer = torch.optim.Adam(rbm.parameters(), lr=lr)
    for _ in range(60):
        for batch in torch.from_numpy(data.astype(F32)).split(50):
            if way == "autograd":
                v, v_k = rbm(batch)
                loss = rbm.free_energy(v) - rbm.free_energy(v_k)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            else:
                ht.cd_step(rbm, batch, lr, momentum=0.5, persistent=way == "persistent")
    # It begins at log 256 = 5.5 nats and can't get below those of the data, log 4 = 1.39; three
    # seeds came to 1.5 to 2.2.
    assert ref.log_likelihood64(data, *arrays(rbm)).mean() > -2.5


# ------------------------------------------------------------------------------------- operators


@pytest.mark.filterwarnings("ignore")  # torch's about itself
def test_opcheck() -> None:
    rbm = new_rbm()
    parameters = tuple(p.detach().clone().requires_grad_() for p in rbm.parameters())
    state, ops = rbm.philox_state, torch.ops.harmonium
    v, cube = bits(), reals(N, H).reshape(3, 3, H).requires_grad_()
    for operator, arguments in [
        (ops.half_step, (v, *parameters, state, True, "auto")),
        (ops.half_step, (cube, *parameters, state, False, "float32")),
        (ops.gibbs, (v, *parameters, state, 2, "auto")),
        (ops.free_energy, (v, *parameters, "mean")),
        (ops.free_energy, (reals().requires_grad_(), *parameters, "none")),
    ]:
        torch.library.opcheck(operator.default, arguments)


def test_operators_are_what_the_module_calls() -> None:
    rbm, v = new_rbm(k=2), bits()
    parameters = tuple(rbm.parameters())
    state = rbm.philox_state.clone()
    v_k = torch.ops.harmonium.gibbs(v, *parameters, state, 2, "auto")
    assert torch.equal(v_k, rbm(v)[1])
    state = rbm.philox_state.clone()
    for mine, theirs in zip(
        rbm.v_to_h(v),
        torch.ops.harmonium.half_step(v, *parameters, state, True, "auto"),
        strict=True,
    ):
        assert torch.equal(mine, theirs)
    energy, _ = torch.ops.harmonium.free_energy(v, *parameters, "mean")
    assert torch.equal(energy, rbm.free_energy(v))
    through_operator = torch.autograd.grad(energy, parameters)
    in_eager_mode = torch.autograd.grad(rbm.free_energy(v), parameters)
    for a, b in zip(through_operator, in_eager_mode, strict=True):
        assert torch.equal(a, b)


def test_probabilities_beside_free_energies_have_gradients() -> None:
    rbm, v = new_rbm(precision="float32"), bits()
    twin = Plain.twin(rbm)
    energy, p = torch.ops.harmonium.free_energy(v, *rbm.parameters(), "sum")
    (energy + (p**2).sum()).backward()
    (twin.free_energy(v.double(), "sum") + (twin.v_to_h(v.double()) ** 2).sum()).backward()
    for mine, theirs in zip(rbm.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_tensors_without_data() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        rbm = ht.RBM(V, H)
        v = torch.empty(N, V)
        assert rbm(v)[1].shape == (N, V)
        assert rbm.h_to_v(rbm.v_to_h(v)[1])[0].shape == (N, V)
        assert rbm.free_energy(v, "none").shape == (N,)


@pytest.mark.filterwarnings("ignore")  # torch's about itself
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend: str) -> None:
    def loss_of(rbm: Any, v: Any) -> Any:
        v, v_k = rbm(v)
        return rbm.free_energy(v) - rbm.free_energy(v_k)

    def up_and_down(rbm: Any, v: Any) -> Any:
        return rbm.h_to_v(rbm.v_to_h(v)[1])

    torch._dynamo.reset()
    compiled_loss, compiled_pass = (
        torch.compile(f, backend=backend, fullgraph=True) for f in (loss_of, up_and_down)
    )
    rbm, same = new_rbm(k=2), new_rbm(k=2)
    for n in (9, 4):  # the last minibatch is shorter
        v = bits(n)
        for model, function in ((rbm, compiled_loss), (same, loss_of)):
            model.zero_grad()
            function(model, v).backward()
        for mine, theirs in zip(rbm.parameters(), same.parameters(), strict=True):
            # What is fused may be added up in another order.
            np.testing.assert_allclose(mine.grad, theirs.grad, rtol=1e-5, atol=1e-6)
        pairs = zip(compiled_pass(rbm, v), up_and_down(same, v), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert torch.equal(rbm.philox_state, same.philox_state)
    torch._dynamo.reset()


# --------------------------------------------------------------------------------------- cd_step


def same_as(rbm: Any, state: Any) -> bool:
    return all(
        same_bits(a, b) for a, b in zip(arrays(rbm), (state.W, state.b, state.c), strict=True)
    )


@pytest.mark.parametrize(
    "rule", [{}, {"k": 3}, {"momentum": 0.5}, {"weight_decay": 0.01}, {"k": 2, "momentum": 0.9}]
)
@pytest.mark.parametrize("persistent", [False, True])
def test_updates_are_the_reference_bits(rule: dict[str, Any], persistent: bool) -> None:
    rbm = new_rbm()
    seed = int(rbm.philox_state[0])
    chains = np.zeros((5, H), bool) if persistent else None
    state = ref.CDState.start(*arrays(rbm), chains)
    expected = {"k": rule.get("k", 1), "momentum": rule.get("momentum", 0.0)}
    for n in (5, 9, 9, 5):  # shorter and longer minibatches
        v = bits(n, seed=n)
        before = [p.data_ptr() for p in rbm.parameters()], rbm.W._version
        assert ht.cd_step(rbm, v, lr=0.05, persistent=persistent, **rule) is None
        state = ref.cd_update(
            state,
            v.numpy() == 1,
            learning_rate=0.05,
            seed=seed,
            l2=rule.get("weight_decay", 0.0),
            **expected,
        )
        assert same_as(rbm, state)
        assert [p.data_ptr() for p in rbm.parameters()] == before[0]
        assert rbm.W._version > before[1]
    assert rbm.philox_state.tolist() == [seed, 4 * expected["k"]]


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_updates_in_float64(units: str, precision: str) -> None:
    rbm, v = new_rbm(precision=precision), UNITS[units]()
    W, b, c = arrays(rbm)
    seed = int(rbm.philox_state[0])
    p_pos = ref.propup64(v.numpy(), W, c)
    h = ref.bernoulli(p_pos.astype(F32), seed, stream=ref.STREAM_CD_START)
    p_v = ref.propdown64(h, W, b).astype(F32)
    v_neg = ref.bernoulli(p_v, seed, stream=ref.STREAM_VISIBLE).astype(float)
    p_neg = ref.propup64(v_neg, W, c)
    ht.cd_step(rbm, v, lr=0.5)
    W_step = v.numpy().T @ p_pos - v_neg.T @ p_neg
    b_step, c_step = (v.numpy() - v_neg).sum(0), (p_pos - p_neg).sum(0)
    for after, before, step in zip(arrays(rbm), (W, b, c), (W_step, b_step, c_step), strict=True):
        # W in 16 bits moves p by up to 2.3e-4 (see above).
        atol = 0.5 * 2.3e-4 if precision == "auto" else 1e-6
        np.testing.assert_allclose(after, before + 0.5 * step / N, rtol=0, atol=atol)


def test_update_is_a_step_along_the_gradient_of_the_usual_loss() -> None:
    rbm, v = new_rbm(), bits()
    seed = int(rbm.philox_state[0])
    W, b, c = arrays(rbm)
    h, _ = ref.half_step_up(v.numpy() == 1, W, c, seed, stream=ref.STREAM_CD_START)
    v_k = torch.from_numpy(ref.gibbs(W, b, c, 1, seed, h=h).v.astype(F32))
    other = copy.deepcopy(rbm)
    (other.free_energy(v) - other.free_energy(v_k)).backward()
    torch.optim.SGD(other.parameters(), lr=0.1).step()
    ht.cd_step(rbm, v, lr=0.1)
    for mine, theirs in zip(rbm.parameters(), other.parameters(), strict=True):
        # Probabilities enter a step as multiples of 2^-15.
        np.testing.assert_allclose(mine.detach(), theirs.detach(), rtol=0, atol=0.1 * 2**-15)


def change_by_data(rbm: Any) -> None:
    rbm.W.data[0, 0] += 1


def change_by_numpy(rbm: Any) -> None:
    rbm.v_bias.detach().numpy()[3] = 2


def change_by_optimizer(rbm: Any) -> None:
    rbm.free_energy(bits()).backward()
    torch.optim.SGD(rbm.parameters(), lr=0.1).step()
    rbm.zero_grad()


def change_by_loading(rbm: Any) -> None:
    torch.manual_seed(0)
    rbm.load_state_dict(Plain(V, H).state_dict())


def change_by_assignment(rbm: Any) -> None:
    rbm.W = torch.nn.Parameter(torch.ones(H, V) / 8)


@pytest.mark.parametrize(
    "change",
    [
        change_by_data,
        change_by_numpy,
        change_by_optimizer,
        change_by_loading,
        change_by_assignment,
    ],
)
def test_changes_from_outside_are_seen(change: Any) -> None:
    rbm, v = new_rbm(), bits()
    for step in range(3):
        ht.cd_step(rbm, v, lr=0.1)
        kept = ht._trainings[rbm]
        ht.cd_step(rbm, v, lr=0.1)
        assert ht._trainings[rbm] is kept  # nothing is made anew when nothing has changed
        change(rbm)
        fresh = copy.deepcopy(rbm)
        assert fresh not in ht._trainings
        ht.cd_step(rbm, v, lr=0.1)
        ht.cd_step(fresh, v, lr=0.1)
        assert ht._trainings[rbm] is not kept, step
        for mine, theirs in zip(rbm.parameters(), fresh.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_chains_and_velocities_outlive_changes_from_outside() -> None:
    rbm, v = new_rbm(), bits()
    W, b, c = arrays(rbm)
    seed = int(rbm.philox_state[0])
    state = ref.CDState.start(W, b, c, np.zeros((N, H), bool))
    for _ in range(3):
        ht.cd_step(rbm, v, lr=0.1, momentum=0.5, persistent=True)
        state = ref.cd_update(state, v.numpy() == 1, learning_rate=0.1, seed=seed, momentum=0.5)
        assert same_as(rbm, state)
        with torch.no_grad():
            rbm.W.mul_(0.5)
        W_changed = state.W * F32(0.5)
        state = ref.CDState(W_changed, *(getattr(state, f) for f in list(vars(state))[1:]))


def test_settings_may_change_from_call_to_call() -> None:
    rbm, v = new_rbm(), bits()
    seed = int(rbm.philox_state[0])
    state = ref.CDState.start(*arrays(rbm))
    for n, (k, lr, decay) in enumerate([(1, 0.1, 0.0), (2, 0.2, 0.0), (2, 0.1, 0.02)]):
        rbm.k = k
        rbm.philox_state[1] = n * k  # where the reference's update n is
        ht.cd_step(rbm, v, lr, weight_decay=decay)
        state = ref.cd_update(state, v.numpy() == 1, learning_rate=lr, seed=seed, k=k, l2=decay)
        assert same_as(rbm, state)


def test_gradients_after_an_update() -> None:
    rbm, v = new_rbm(), bits()
    for call in (rbm.free_energy, lambda v: rbm.v_to_h(v)[0].sum()):
        result = call(v)  # keeps nothing of W
        ht.cd_step(rbm, v)
        result.backward()
        result = call(v.clone().requires_grad_())
        ht.cd_step(rbm, v)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            result.backward()


def test_update_leaves_gradients_alone() -> None:
    rbm = new_rbm()
    rbm.free_energy(bits()).backward()
    before = rbm.W.grad.clone()
    ht.cd_step(rbm, bits())
    assert torch.equal(rbm.W.grad, before)
    assert rbm.W.is_leaf
    assert rbm.W.requires_grad


def test_divergence_leaves_the_module_as_it_was() -> None:
    rbm, v = new_rbm(), bits()
    ht.cd_step(rbm, v)
    before = copy.deepcopy(rbm.state_dict())
    with pytest.raises(FloatingPointError, match=r"cd_step diverged at lr=1e\+300"):
        ht.cd_step(rbm, v, lr=1e300)
    assert all(torch.equal(value, before[name]) for name, value in rbm.state_dict().items())
    fresh = copy.deepcopy(rbm)
    ht.cd_step(rbm, v)
    ht.cd_step(fresh, v)
    assert torch.equal(rbm.W, fresh.W)


def test_nothing_is_kept_of_a_module_that_is_gone() -> None:
    rbm = new_rbm()
    ht.cd_step(rbm, bits())
    kept = weakref.ref(ht._trainings[rbm])
    del rbm
    gc.collect()
    assert kept() is None


# ---------------------------------------------------------------------------------------- errors


def broken(change: str) -> Any:
    rbm = new_rbm()
    if change == "double":
        return rbm.double()
    if change == "meta":
        return rbm.to("meta")
    rbm.k = 0
    return rbm


ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "n_vis": (lambda: ht.RBM(0, 3), ValueError, "n_vis must be at least 1, got 0"),
    "n_hid": (lambda: ht.RBM(3, 2.5), TypeError, "n_hid must be an integer, got 2.5"),
    "k": (lambda: ht.RBM(3, 2, 0), ValueError, "k must be at least 1, got 0"),
    "k later": (lambda: broken("k")(bits()), ValueError, "k must be at least 1, got 0"),
    "precision": (
        lambda: ht.RBM(3, 2, precision="float16"),
        ValueError,
        "precision must be one of 'auto', 'float32'; got 'float16'",
    ),
    "array": (
        lambda: new_rbm().v_to_h(bits().numpy()),
        TypeError,
        r"v must be a torch.Tensor, got ndarray",
    ),
    "dtype": (
        lambda: new_rbm().free_energy(bits().bool()),
        TypeError,
        r"v must be float32 on the CPU, where harmonium works; got torch.bool on cpu",
    ),
    "parameters": (
        lambda: broken("double")(bits()),
        TypeError,
        r"W must be float32 on the CPU.*got torch.float64",
    ),
    "device": (lambda: broken("meta")(bits()), TypeError, r"W must be .* got .* on meta"),
    "width": (
        lambda: new_rbm().h_to_v(bits()),
        ValueError,
        r"h must have rows of 37 units, got shape \(9, 70\)",
    ),
    "scalar": (lambda: new_rbm()(torch.tensor(1.0)), ValueError, r"v must have rows of 70 units"),
    "reduction": (
        lambda: new_rbm().free_energy(bits(), "max"),
        ValueError,
        "reduction must be one of 'mean', 'sum', 'none'; got 'max'",
    ),
    "module": (
        lambda: ht.cd_step(Plain(V, H), bits()),
        TypeError,
        r"module must be a harmonium.torch.RBM, got Plain",
    ),
    "batch": (
        lambda: ht.cd_step(new_rbm(), bits(0)),
        ValueError,
        r"batch must have at least one row, got shape \(0, 70\)",
    ),
    "batch width": (
        lambda: ht.cd_step(new_rbm(), bits(3, 5)),
        ValueError,
        r"batch must have rows of 70 units, got shape \(3, 5\)",
    ),
    "batch range": (
        lambda: ht.cd_step(new_rbm(), bits() * 255),
        ValueError,
        r"batch must have all values in \[0, 1\].* from 0 to 255",
    ),
    "batch NaN": (
        lambda: ht.cd_step(new_rbm(), bits() / 0),
        ValueError,
        r"batch must have all values in \[0, 1\]",
    ),
    "lr": (lambda: ht.cd_step(new_rbm(), bits(), 0), ValueError, "lr must be a finite number in"),
    "lr type": (lambda: ht.cd_step(new_rbm(), bits(), "0.1"), TypeError, "lr must be a number"),
    "cd k": (lambda: ht.cd_step(new_rbm(), bits(), k=0), ValueError, "k must be at least 1"),
    "momentum": (
        lambda: ht.cd_step(new_rbm(), bits(), momentum=1.0),
        ValueError,
        "momentum must be below 1",
    ),
    "weight_decay": (
        lambda: ht.cd_step(new_rbm(), bits(), weight_decay=-1),
        ValueError,
        "weight_decay must be a finite number in",
    ),
    "persistent": (
        lambda: ht.cd_step(new_rbm(), bits(), persistent=1),
        TypeError,
        "persistent must be True or False, got 1",
    ),
    "stack": (
        lambda: ht.dbn_to_sequential(new_rbm()),
        TypeError,
        r"dbn must be an estimator .*; got RBM",
    ),
    "empty stack": (
        lambda: ht.dbn_to_sequential([]),
        ValueError,
        "dbn must have at least one RBM",
    ),
    "stack of others": (
        lambda: ht.dbn_to_sequential([new_rbm(), Plain(H, 3)]),
        TypeError,
        "got an iterable with Plain",
    ),
    "stack that does not fit": (
        lambda: ht.dbn_to_sequential([new_rbm(), new_rbm()]),
        ValueError,
        r"dbn\[1\] must have 37 visible units, as many as dbn\[0\] has hidden ones; got 70",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()


def test_weights_that_are_not_finite() -> None:
    rbm, v = new_rbm(), bits()
    with torch.no_grad():
        rbm.W[0, 0] = torch.nan
    for call in (rbm, rbm.v_to_h, lambda v: ht.cd_step(rbm, v)):
        with pytest.raises(ValueError, match="finite"):
            call(v)
    assert torch.isnan(rbm.free_energy(v))  # as everywhere in torch


# ---------------------------------------------------------------------------------------- export


def test_sequential_of_estimators() -> None:
    X, y = random_bits(60, 12, seed=0).astype(F32), np.arange(60) % 3
    layer = BernoulliRBM(n_iter=1, metrics=False)
    models = [
        (DBN((6, 5), rbm=layer, random_state=0).fit(X), "transform"),
        (DBNClassifier((6,), rbm=layer, random_state=0, max_iter=1).fit(X, y), "predict_proba"),
        (SoftmaxRegression(random_state=0, max_iter=1).fit(X, y), "predict_proba"),
        (DeepAutoencoder((6, 2), rbm=layer, random_state=0, max_iter=1).fit(X), "transform"),
    ]
    for model, method in models:
        module = ht.dbn_to_sequential(model)
        assert isinstance(module, torch.nn.Sequential)
        with torch.no_grad():
            outputs = module(torch.from_numpy(X)).numpy()
        np.testing.assert_allclose(outputs, getattr(model, method)(X), atol=1e-6)


def test_sequential_of_modules() -> None:
    rbms = [new_rbm(), new_rbm(H, 11), new_rbm(11, 4)]
    v = bits()
    for stack in (rbms, torch.nn.ModuleList(rbms), iter(rbms)):
        module = ht.dbn_to_sequential(stack)
        with torch.no_grad():
            expected = v
            for rbm in rbms:
                expected = Plain.twin(rbm).v_to_h(expected.double())
            np.testing.assert_allclose(module(v), expected, atol=1e-5)
            module[0].weight.zero_()  # a copy
        assert rbms[0].W.any()
