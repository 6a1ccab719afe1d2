"""The classes of the deep-learning tutorials (deeplearning.net), without Theano.

    from harmonium.compat.tutorial import RBM, tile_raster_images, load_data

in the place of the tutorials' ``rbm``, ``DBN``, ``logistic_sgd``, ``mlp`` and ``utils``. Names,
arguments and meanings are theirs. What built a graph there is a plain call here: arrays in, arrays
out, and ``train_batch`` for what was compiled by ``theano.function``.

The tutorials are Theano's; what is here takes no code from them.
"""

from harmonium.compat.tutorial.data import load_data
from harmonium.compat.tutorial.dbn import DBN
from harmonium.compat.tutorial.images import tile_raster_images
from harmonium.compat.tutorial.layers import HiddenLayer, LogisticRegression
from harmonium.compat.tutorial.rbm import RBM
from harmonium.compat.tutorial.shared import SharedArray

__all__ = [
    "DBN",
    "RBM",
    "HiddenLayer",
    "LogisticRegression",
    "SharedArray",
    "load_data",
    "tile_raster_images",
]
