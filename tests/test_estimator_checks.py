"""scikit-learn's own checks, on every estimator.

They feed any real numbers, and all estimators but one refuse what lies outside [0, 1]; so here
numbers are squeezed into the interval behind the validation, each by itself, and nothing else is
changed. (Negative ones are shifted by scikit-learn itself: the estimators have the tag for that.)
"""

import numpy as np
import pytest
import scipy.sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

import harmonium._visible
from harmonium import DBN, BernoulliRBM, DBNClassifier, DeepAutoencoder, SoftmaxRegression


def drawn_by_row(reason):
    return {
        "check_methods_subset_invariance": reason,
        "check_methods_sample_order_invariance": reason,
    }


def weighed_by_minibatch(reason):
    return {
        "check_sample_weight_equivalence_on_dense_data": reason,
        "check_sample_weight_equivalence_on_sparse_data": reason,
    }


OTHER_MINIBATCHES = "repeated rows make other minibatches, whose states are other draws"
EXPECTED = {
    # scikit-learn expects these of its own BernoulliRBM too.
    BernoulliRBM: drawn_by_row("score_samples flips a pixel chosen by the row's number")
    | weighed_by_minibatch(OTHER_MINIBATCHES),
    DBN: drawn_by_row("score_samples draws hidden states by the row's number")
    | weighed_by_minibatch(OTHER_MINIBATCHES),
    # The one check that does not shift them.
    DBNClassifier: {"check_class_weight_classifiers": "feeds negative numbers"},
}


def expected(estimator):
    refuses = {}
    if getattr(estimator, "missing", None) == "sample":
        reason = "only training takes NaN: p(h|v) is of whole rows"
        refuses["check_estimators_pickle"] = reason
        refuses["check_estimators_pickle(readonly_memmap=True)"] = reason
    return EXPECTED.get(type(estimator), {}) | refuses


@pytest.fixture
def _squeeze(monkeypatch):
    units_of = harmonium._visible._units_of

    def squeezed(engine, X, name):
        values = X.data if scipy.sparse.issparse(X) else X
        is_real = values.dtype.kind == "f" or (values.dtype.kind in "iu" and values.max() > 1)
        if is_real and values.size and 0 <= values.min() <= values.max() < np.inf:
            X = X.astype(np.result_type(X.dtype, np.float16))
            values = X.data if scipy.sparse.issparse(X) else X
            values /= 1 + values
        return units_of(engine, X, name)

    monkeypatch.setattr(harmonium._visible, "_units_of", squeezed)


LAYER = BernoulliRBM(n_iter=3)


@pytest.mark.usefixtures("_squeeze")
@parametrize_with_checks(
    [
        BernoulliRBM(n_components=8, n_iter=3),
        BernoulliRBM(n_components=8, n_iter=3, algorithm="cd", momentum=0.5, precision="float32"),
        BernoulliRBM(n_components=8, n_iter=3, inputs="sample", missing="sample"),
        SoftmaxRegression(batch_size=10),
        SoftmaxRegression(batch_size=20, momentum=0.5, l2=1e-4, shuffle=False),
        DBN((8, 4), rbm=LAYER),
        DBNClassifier((16,), rbm=LAYER, solver="adam", learning_rate=0.02, max_iter=100),
        DeepAutoencoder((8, 4), rbm=LAYER, batch_size=20, max_iter=5),
    ],
    expected_failed_checks=expected,
)
def test_scikit_learn_checks(estimator, check):
    with np.errstate(under="ignore"):
        check(estimator)
