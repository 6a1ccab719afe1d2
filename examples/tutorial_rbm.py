"""The deep-learning tutorial's rbm.py on harmonium: PCD-15, filters after every epoch, samples.

    python examples/tutorial_rbm.py            # MNIST, 15 epochs: half a minute
    python examples/tutorial_rbm.py --quick    # scikit-learn's small digits: seconds

What changed from the tutorial's script: the imports; `theano.shared` around the chains, which are
a NumPy array; `get_cost_updates` and `theano.function`, which are one call of `train_batch`; and
`theano.scan` over Gibbs steps, which is `gibbs_vhv(…, n_steps)`. Needs Pillow (harmonium[plot]).
"""

from __future__ import annotations

import argparse
import timeit
from pathlib import Path

import numpy as np
from PIL import Image

from harmonium.compat.tutorial import RBM, load_data, tile_raster_images


def run_rbm(
    learning_rate: float = 0.1,
    training_epochs: int = 15,
    dataset: str = "mnist.pkl.gz",
    batch_size: int = 20,
    n_chains: int = 20,
    n_samples: int = 10,
    plot_every: int = 1000,
    output_folder: Path = Path("rbm_plots"),
    n_hidden: int = 500,
) -> RBM:
    datasets = load_data(dataset)
    train_set_x, _ = datasets[0]
    test_set_x, _ = datasets[2]
    n_train_batches = train_set_x.get_value(borrow=True).shape[0] // batch_size
    n_visible = train_set_x.get_value(borrow=True).shape[1]
    side = round(n_visible**0.5)
    output_folder.mkdir(exist_ok=True)

    rng = np.random.RandomState(123)
    persistent_chain = np.zeros((batch_size, n_hidden), np.float32)
    rbm = RBM(
        n_visible=n_visible,
        n_hidden=n_hidden,
        numpy_rng=rng,
        theano_rng=rng.randint(2**30),
    )

    def train_rbm(index: int) -> float:
        x = train_set_x[index * batch_size : (index + 1) * batch_size]
        return rbm.train_batch(x, lr=learning_rate, persistent=persistent_chain, k=15)

    plotting_time = 0.0
    start_time = timeit.default_timer()
    for epoch in range(training_epochs):
        mean_cost = [train_rbm(batch_index) for batch_index in range(n_train_batches)]
        print(f"Training epoch {epoch}, cost is {np.mean(mean_cost):.2f}")

        plotting_start = timeit.default_timer()
        image = Image.fromarray(
            tile_raster_images(
                X=rbm.W.get_value(borrow=True).T,
                img_shape=(side, side),
                tile_shape=(10, 10),
                tile_spacing=(1, 1),
            )
        )
        image.save(output_folder / f"filters_at_epoch_{epoch}.png")
        plotting_time += timeit.default_timer() - plotting_start
    minutes = (timeit.default_timer() - start_time - plotting_time) / 60
    print(f"Training took {minutes:.2f} minutes")

    # Chains that begin with test images. What is drawn are the means of their visible units.
    number_of_test_samples = test_set_x.get_value(borrow=True).shape[0]
    test_idx = rng.randint(number_of_test_samples - n_chains)
    persistent_vis_chain = test_set_x.get_value(borrow=True)[test_idx : test_idx + n_chains]
    rows = []
    for idx in range(n_samples):
        print(f" ... plotting sample {idx}")
        *_, vis_mf, persistent_vis_chain = rbm.gibbs_vhv(persistent_vis_chain, plot_every)
        rows.append(vis_mf)
    image = Image.fromarray(
        tile_raster_images(
            X=np.concatenate(rows),
            img_shape=(side, side),
            tile_shape=(n_samples, n_chains),
            tile_spacing=(1, 1),
        )
    )
    image.save(output_folder / "samples.png")
    return rbm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="small digits, fewer Gibbs steps")
    parser.add_argument("--output", type=Path, default=Path("rbm_plots"))
    options = parser.parse_args()
    if options.quick:
        run_rbm(
            training_epochs=options.epochs,
            dataset="digits",
            n_hidden=100,
            plot_every=200,
            output_folder=options.output,
        )
    else:
        run_rbm(training_epochs=options.epochs, output_folder=options.output)


if __name__ == "__main__":
    main()
