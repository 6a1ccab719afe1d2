"""The deep-learning tutorial's logistic_sgd.py on harmonium: softmax regression with patience.

    python examples/tutorial_logistic.py            # MNIST: seconds
    python examples/tutorial_logistic.py --quick    # scikit-learn's small digits

What changed from the tutorial's script: the imports; `T.grad` and `theano.function`, which are
`train_batch` and `errors`. Nothing in it is random: on MNIST it ends in its 74th epoch with
7.500000 % of validation errors, as the tutorial's page says. Needs Pillow (harmonium[plot]) for the
picture of the weights.
"""

from __future__ import annotations

import argparse
import timeit
from pathlib import Path

import numpy as np
from PIL import Image

from harmonium.compat.tutorial import LogisticRegression, load_data, tile_raster_images


def sgd_optimization_mnist(
    learning_rate: float = 0.13,
    n_epochs: int = 1000,
    dataset: str = "mnist.pkl.gz",
    batch_size: int = 600,
    output: Path = Path("logistic_weights.png"),
) -> tuple[float, float]:
    datasets = load_data(dataset)
    train_set_x, train_set_y = datasets[0]
    valid_set_x, valid_set_y = datasets[1]
    test_set_x, test_set_y = datasets[2]
    n_train_batches = train_set_x.get_value(borrow=True).shape[0] // batch_size
    n_valid_batches = valid_set_x.get_value(borrow=True).shape[0] // batch_size
    n_test_batches = test_set_x.get_value(borrow=True).shape[0] // batch_size
    n_in = train_set_x.get_value(borrow=True).shape[1]

    print("... building the model")
    classifier = LogisticRegression(n_in=n_in, n_out=10)

    def rows(index: int) -> slice:
        return slice(index * batch_size, (index + 1) * batch_size)

    def train_model(index: int) -> float:
        batch = rows(index)
        return classifier.train_batch(train_set_x[batch], train_set_y[batch], learning_rate)

    def validate_model(index: int) -> float:
        return classifier.errors(valid_set_x[rows(index)], valid_set_y[rows(index)])

    def test_model(index: int) -> float:
        return classifier.errors(test_set_x[rows(index)], test_set_y[rows(index)])

    print("... training the model")
    patience = 5000
    patience_increase = 2
    improvement_threshold = 0.995
    validation_frequency = min(n_train_batches, patience // 2)
    best_validation_loss, test_score = np.inf, 0.0
    start_time = timeit.default_timer()
    done_looping = False
    epoch = 0
    while epoch < n_epochs and not done_looping:
        epoch += 1
        for minibatch_index in range(n_train_batches):
            train_model(minibatch_index)
            iteration = (epoch - 1) * n_train_batches + minibatch_index
            if (iteration + 1) % validation_frequency == 0:
                this_validation_loss = np.mean([validate_model(i) for i in range(n_valid_batches)])
                print(f"epoch {epoch}, validation error {this_validation_loss:.6%}")
                if this_validation_loss < best_validation_loss:
                    if this_validation_loss < best_validation_loss * improvement_threshold:
                        patience = max(patience, iteration * patience_increase)
                    best_validation_loss = this_validation_loss
                    test_score = float(np.mean([test_model(i) for i in range(n_test_batches)]))
                    print(f"     test error of best model {test_score:.6%}")
            if patience <= iteration:
                done_looping = True
                break
    seconds = timeit.default_timer() - start_time
    print(
        f"Optimization complete with best validation score of {best_validation_loss:.6%}, with "
        f"test performance {test_score:.6%}"
    )
    print(f"The code ran for {epoch} epochs, with {epoch / seconds:.1f} epochs/sec")

    side = round(n_in**0.5)
    weights = classifier.W.get_value(borrow=True).T
    picture = tile_raster_images(weights, (side, side), (2, 5), tile_spacing=(1, 1))
    Image.fromarray(picture).save(output)
    return float(best_validation_loss), test_score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1000, help="at most (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small digits, batches of 50")
    parser.add_argument("--output", type=Path, default=Path("logistic_weights.png"))
    options = parser.parse_args()
    if options.quick:
        sgd_optimization_mnist(
            n_epochs=min(options.epochs, 100),
            dataset="digits",
            batch_size=50,
            output=options.output,
        )
    else:
        sgd_optimization_mnist(n_epochs=options.epochs, output=options.output)


if __name__ == "__main__":
    main()
