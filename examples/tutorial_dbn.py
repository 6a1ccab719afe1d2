"""The deep-learning tutorial's DBN.py on harmonium: three layers by CD-1, then fine-tuning.

    python examples/tutorial_dbn.py --epochs 10    # MNIST, 10 epochs a layer instead of 100
    python examples/tutorial_dbn.py --quick        # scikit-learn's small digits: seconds

What changed from the tutorial's script: the imports. `--no-cost` leaves out the monitoring cost,
which takes as long as the updates; `--layer-inputs sample` trains upper layers on states. Together
they make the pre-training three times as fast.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Sequence

import numpy as np

from harmonium.compat.tutorial import DBN, load_data


def run_DBN(
    finetune_lr: float = 0.1,
    pretraining_epochs: int = 100,
    pretrain_lr: float = 0.01,
    k: int = 1,
    training_epochs: int = 1000,
    dataset: str = "mnist.pkl.gz",
    batch_size: int = 10,
    hidden_layers_sizes: Sequence[int] = (1000, 1000, 1000),
    cost: bool = True,
    layer_inputs: str = "mean",
) -> float:
    datasets = load_data(dataset)
    train_set_x, _ = datasets[0]
    n_train_batches = train_set_x.get_value(borrow=True).shape[0] // batch_size

    numpy_rng = np.random.RandomState(123)
    print("... building the model")
    dbn = DBN(
        numpy_rng=numpy_rng,
        n_ins=train_set_x.get_value(borrow=True).shape[1],
        hidden_layers_sizes=hidden_layers_sizes,
        n_outs=10,
    )

    print("... pre-training the model")
    pretraining_fns = dbn.pretraining_functions(
        train_set_x=train_set_x, batch_size=batch_size, k=k, layer_inputs=layer_inputs
    )
    start_time = timeit.default_timer()
    for i in range(dbn.n_layers):
        for epoch in range(pretraining_epochs):
            c = [
                pretraining_fns[i](index=batch_index, lr=pretrain_lr, cost=cost)
                for batch_index in range(n_train_batches)
            ]
            shown = f", cost {np.mean(c):.3f}" if cost else ""
            print(f"Pre-training layer {i}, epoch {epoch}{shown}")
    print(f"The pretraining ran for {(timeit.default_timer() - start_time) / 60:.2f}m")

    print("... finetuning the model")
    train_fn, validate_model, test_model = dbn.build_finetune_functions(
        datasets=datasets, batch_size=batch_size, learning_rate=finetune_lr
    )
    patience = 4 * n_train_batches
    patience_increase = 2.0
    improvement_threshold = 0.995
    validation_frequency = min(n_train_batches, patience // 2)
    best_validation_loss, test_score, best_iter = np.inf, 0.0, 0
    start_time = timeit.default_timer()
    done_looping = False
    epoch = 0
    while epoch < training_epochs and not done_looping:
        epoch += 1
        for minibatch_index in range(n_train_batches):
            train_fn(minibatch_index)
            iteration = (epoch - 1) * n_train_batches + minibatch_index
            if (iteration + 1) % validation_frequency == 0:
                this_validation_loss = np.mean(validate_model())
                print(f"epoch {epoch}, validation error {this_validation_loss:.3%}")
                if this_validation_loss < best_validation_loss:
                    if this_validation_loss < best_validation_loss * improvement_threshold:
                        patience = max(patience, iteration * patience_increase)
                    best_validation_loss, best_iter = this_validation_loss, iteration
                    test_score = float(np.mean(test_model()))
                    print(f"     test error of best model {test_score:.3%}")
            if patience <= iteration:
                done_looping = True
                break
    print(
        f"Optimization complete with best validation score of {best_validation_loss:.3%}, "
        f"obtained at iteration {best_iter + 1}, with test performance {test_score:.3%}"
    )
    print(f"The fine tuning ran for {(timeit.default_timer() - start_time) / 60:.2f}m")
    return test_score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="of pre-training, a layer (default: 100)")
    parser.add_argument("--finetune-epochs", type=int, help="at most (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="small digits, smaller layers")
    parser.add_argument("--no-cost", action="store_true")
    parser.add_argument("--layer-inputs", choices=["mean", "sample"], default="mean")
    options = parser.parse_args()
    common = {"cost": not options.no_cost, "layer_inputs": options.layer_inputs}
    if options.quick:
        run_DBN(
            pretraining_epochs=options.epochs or 10,
            training_epochs=options.finetune_epochs or 30,
            dataset="digits",
            hidden_layers_sizes=(100, 100, 100),
            **common,
        )
    else:
        run_DBN(
            pretraining_epochs=options.epochs or 100,
            training_epochs=options.finetune_epochs or 1000,
            **common,
        )


if __name__ == "__main__":
    main()
