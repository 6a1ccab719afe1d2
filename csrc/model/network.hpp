// Feed-forward networks of dense layers: predictions, and backpropagation over many minibatches a call, on parameters
// that live in Python's arrays.
//
// y = f(x·W + c) layer after layer. Forward, the columns of W are dealt to threads; backward its rows, of which a few
// at a time give the gradient of the inputs and are stepped along their own, while they are in the cache. Both deals
// leave the order of every sum as it is, so results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"
#include "model/memory.hpp"
#include "model/rows.hpp"

namespace harmonium {

enum class Activation { identity, sigmoid };
// With it goes what the last layer's sums become: softmax, σ, themselves.
enum class Loss { softmax_cross_entropy, sigmoid_cross_entropy, squared_error };
enum class Optimizer { sgd, momentum, adam };

// What an optimiser remembers of each parameter: nothing, the velocity, or Adam's two moments.
struct Moment {
    View<float> w;
    float* c = nullptr;
};

struct DenseLayer {
    View<float> w;  // inputs × outputs
    float* c = nullptr;
    Activation activation = Activation::sigmoid;  // not used in the last layer
    double dropout = 0;  // of its inputs
    Moment first, second;

    Index inputs() const { return w.rows; }
    Index outputs() const { return w.cols; }
};

struct NetworkOptions {
    Loss loss = Loss::softmax_cross_entropy;
    Optimizer optimizer = Optimizer::sgd;
    double l2 = 0;  // on weights
    double max_norm = 0;  // of the weights into a unit; 0: any
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    std::uint64_t seed = 0;  // of dropout
};

// What outputs are compared with, for the rows of the data: a class each, or values.
struct Targets {
    const std::int32_t* labels = nullptr;
    const float* class_weights = nullptr;  // null: all 1
    const Rows* values = nullptr;
};

struct LossSums {
    double loss = 0;
    Index errors = 0;  // rows whose largest output is another than their class's
};

class Network {
  public:
    Network(std::vector<DenseLayer> layers, NetworkOptions options, int n_threads);

    // The outputs of the first n_layers layers for all rows.
    void predict(const Rows& rows, Index n_layers, View<float> out);

    // One update per minibatch of batch_size rows (the last may be shorter) over the whole of `data`; `step` is the
    // number of updates made before. Returns the sums over rows, each before its update. Throws Diverged when the loss
    // is no longer finite.
    LossSums train(const Batch& data, const Targets& targets, Index batch_size, std::uint64_t step,
                   double learning_rate, double momentum);

    Index inputs() const { return layers_.front().inputs(); }
    Index outputs() const { return layers_.back().outputs(); }
    Index n_layers() const { return static_cast<Index>(layers_.size()); }
    Index outputs_after(Index n_layers) const { return n_layers == 0 ? inputs() : layer(n_layers - 1).outputs(); }
    bool is_classifier() const { return options_.loss == Loss::softmax_cross_entropy; }
    // How many rows all updates so far have seen.
    Index rows_done() const { return rows_done_; }

  private:
    // A matrix of the network's own, its rows whole cache lines.
    struct Matrix {
        Buffer<float> memory;
        View<float> view(Index rows, Index cols);
    };
    struct Update {  // the coefficients of one
        std::uint64_t step;
        double learning_rate;
        double momentum;
        double gradient_scale;  // of all deltas, so that products add what is to be added
        AdamRule adam;
    };

    const DenseLayer& layer(Index l) const { return layers_[static_cast<std::size_t>(l)]; }
    bool is_last(Index l) const { return l + 1 == n_layers(); }
    bool is_narrow(Index l) const;
    float keep(Index l) const { return static_cast<float>(1 - layer(l).dropout); }
    int team(double work) const;
    int team_for_product(const DenseLayer& layer, Index rows) const;

    View<const float> take_inputs(const Batch& batch, const Update& update);
    void drop(Index l, const Update& update, Range units, View<float> x, int thread);
    void turn(Index l, Range units);
    void turn_narrow_layers();
    void find_runs(Index l, View<const float> x);
    void outputs_of(Index l, View<const float> x, const std::vector<Range>& runs, View<float> y, Range units);
    void finish_outputs(View<float> y) const;
    void forward(Index l, View<const float> x, View<float> y, const Update& update);
    LossSums compare(const Batch& batch, const Targets& targets, View<float> y, const Update& update);
    void backward(Index l, View<const float> x, View<float> delta, View<float> below, const Update& update);
    void input_gradient(Index l, View<const float> x, View<const float> delta, Range units, View<float> below);
    void step_weights(Index l, View<const float> x, View<const float> delta, Range units, const Update& update,
                      int thread);
    void step_biases(Index l, View<const float> delta, const Update& update);
    void limit_norms(Index l);

    std::vector<DenseLayer> layers_;
    NetworkOptions options_;
    int n_threads_;
    Index rows_done_ = 0;
    std::vector<Matrix> values_, deltas_;  // of the layers' inputs, and after the last its outputs
    std::vector<std::vector<Range>> runs_;  // of each layer's inputs, those that are not zero in all rows
    std::vector<Range> strips_;
    std::vector<Matrix> turned_;  // Wᵀ of narrow layers
    std::vector<View<const float>> x_;  // the values of the minibatch
    struct Scratch {
        Matrix strip;  // of a gradient
        Matrix turned;  // the same transposed
        Buffer<std::uint64_t> bits;
    };
    std::vector<Scratch> scratch_;  // a thread
    std::vector<Index> first_unit_;  // of each layer's inputs, among all the network's units
    Buffer<float> keep_, bias_step_, norms_, row_loss_, largest_;
    Buffer<std::uint8_t> row_error_;
};

}  // namespace harmonium
