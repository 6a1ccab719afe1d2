"""scikit-learn's own checks of estimators, on the RBM.

They feed any real numbers, and the RBM refuses what lies outside [0, 1]; so here numbers above 1
are squeezed into the interval behind the validation, and nothing else is changed. (Negative ones
are shifted by scikit-learn itself: the estimator has the tag for that.)
"""

import numpy as np
import pytest
import scipy.sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

import harmonium._visible
from harmonium import BernoulliRBM

# scikit-learn expects these of its own BernoulliRBM too.
REASON = "score_samples flips a pixel chosen by the row's number"
EXPECTED = {
    "check_methods_subset_invariance": REASON,
    "check_methods_sample_order_invariance": REASON,
}


@pytest.fixture
def _squeeze(monkeypatch):
    units_of = harmonium._visible._units_of

    def squeezed(engine, X, name):
        values = X.data if scipy.sparse.issparse(X) else X
        if values.size and values.min() >= 0 and 1 < values.max() < np.inf:
            X = X / values.max().astype(X.dtype)
        return units_of(engine, X, name)

    monkeypatch.setattr(harmonium._visible, "_units_of", squeezed)


@pytest.mark.usefixtures("_squeeze")
@parametrize_with_checks(
    [
        BernoulliRBM(n_components=8, n_iter=3),
        BernoulliRBM(n_components=8, n_iter=3, algorithm="cd", momentum=0.5, precision="float32"),
    ],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_scikit_learn_checks(estimator, check):
    with np.errstate(under="ignore"):
        check(estimator)
