#include "model/network.hpp"

#include <algorithm>
#include <cmath>

#include "core/parallel.hpp"
#include "model/trainer.hpp"

namespace harmonium {
namespace {

constexpr Index line = 16;  // floats
constexpr Index predicted_rows = 128;  // at a time: their values stay in the second-level cache
// As many weights are read, used twice and written before the next: 64 KB.
constexpr Index strip_weights = 16 * 1024;
constexpr Index most_scanned_rows = 128;  // of more, hardly an input is zero in all
constexpr Index shortest_gap = 4;  // between runs of inputs: a call costs as much as so many rows
constexpr Index narrow = 16;  // outputs, so few that vectors must lie along the inputs

}  // namespace

View<float> Network::Matrix::view(Index rows, Index cols) {
    // An odd number of lines from row to row, so that columns spread over the cache's sets.
    const Index stride = (ceil_div(cols, line) | 1) * line;
    return {memory.reserve(rows * stride), rows, cols, stride};
}

Network::Network(std::vector<DenseLayer> layers, NetworkOptions options, int n_threads)
    : layers_(std::move(layers)), options_(options), n_threads_(resolve_threads(n_threads)) {
    values_.resize(layers_.size() + 1);
    deltas_.resize(layers_.size() + 1);
    x_.resize(layers_.size() + 1);
    turned_.resize(layers_.size());
    runs_.resize(layers_.size());
    scratch_.resize(static_cast<std::size_t>(n_threads_));
    Index unit = 0, widest = 0;
    for (const DenseLayer& layer : layers_) {
        first_unit_.push_back(unit);
        unit += ceil_div(layer.inputs(), block_width) * block_width;
        widest = std::max({widest, layer.inputs(), layer.outputs()});
    }
    keep_.reserve(widest);
    bias_step_.reserve(widest);
    norms_.reserve(widest);
}

// Either all threads or one: a team that shrinks is started anew when it grows.
int Network::team(double work) const { return threads_for(work, n_threads_) > 1 ? n_threads_ : 1; }

int Network::team_for_product(const DenseLayer& layer, Index rows) const {
    constexpr double flop_per_work = 100;  // a nanosecond of one core at half of its peak
    return team(2.0 * static_cast<double>(rows * layer.inputs() * layer.outputs()) / flop_per_work);
}

bool Network::is_narrow(Index l) const { return layer(l).outputs() <= narrow; }

// ---- forward ----

// Copies some rows of a narrow layer's W to Wᵀ.
void Network::turn(Index l, Range units) {
    const View<float>& w = layer(l).w;
    const View<float> turned = turned_[static_cast<std::size_t>(l)].view(w.cols, w.rows);
    for (Index j = 0; j < w.cols; ++j)
        for (Index i = units.begin; i < units.end; ++i) turned(j, i) = w(i, j);
}

void Network::turn_narrow_layers() {
    for (Index l = 0; l < n_layers(); ++l)
        if (is_narrow(l)) turn(l, {0, layer(l).inputs()});
}

// Some units of a layer's outputs; of the last layer the sums alone.
void Network::outputs_of(Index l, View<const float> x, const std::vector<Range>& runs, View<float> y, Range units) {
    const DenseLayer& layer = this->layer(l);
    const Index n = units.end - units.begin;
    if (is_narrow(l)) {
        // Ten outputs, 600 rows, one thread: 40 instead of 96 microseconds.
        kernels().multiply_transposed_f32(x, turned_[static_cast<std::size_t>(l)].view(n, x.cols), y);
        for (Index r = 0; r < y.rows; ++r)
            for (Index j = 0; j < n; ++j) y(r, j) += layer.c[j];
    } else {
        for (Index r = 0; r < y.rows; ++r) std::copy_n(layer.c + units.begin, n, y.row(r) + units.begin);
        for (const Range& run : runs)
            kernels().multiply_f32({x.data + run.begin,
                                    x.stride,
                                    1,
                                    {layer.w.row(run.begin) + units.begin, run.end - run.begin, n, layer.w.stride},
                                    {y.data + units.begin, y.rows, n, y.stride},
                                    1.0f});
    }
    if (is_last(l) || layer.activation == Activation::identity) return;
    for (Index r = 0; r < y.rows; ++r) kernels().sigmoid_f32(y.row(r) + units.begin, n, y.row(r) + units.begin);
}

// The last layer's sums to what the loss makes of them.
void Network::finish_outputs(View<float> y) const {
    for (Index r = 0; r < y.rows; ++r) {
        if (options_.loss == Loss::softmax_cross_entropy) kernels().softmax_f32(y.row(r), y.cols);
        if (options_.loss == Loss::sigmoid_cross_entropy) kernels().sigmoid_f32(y.row(r), y.cols, y.row(r));
    }
}

void Network::predict(const Rows& rows, Index n_layers, View<float> out) {
    turn_narrow_layers();
    const double weights_read = static_cast<double>(rows.rows() * layer(0).inputs());
    parallel_ranges(rows.rows(), threads_for(weights_read, n_threads_), [&](Index begin, Index end, int) {
        std::vector<Matrix> values(static_cast<std::size_t>(n_layers) + 1);
        for (Index first = begin; first < end; first += predicted_rows) {
            const Index count = std::min(predicted_rows, end - first);
            View<const float> x = rows.as_f32();
            if (!x.empty()) {
                x = x.row_range(first, first + count);
            } else {
                const View<float> copy = values[0].view(count, inputs());
                for (Index r = 0; r < count; ++r) rows.copy_values(first + r, copy.row(r));
                x = copy;
            }
            for (Index l = 0; l < n_layers; ++l) {
                const Index n = layer(l).outputs();
                const View<float> y = l + 1 == n_layers ? out.row_range(first, first + count)
                                                        : values[static_cast<std::size_t>(l) + 1].view(count, n);
                outputs_of(l, x, {{0, layer(l).inputs()}}, y, {0, n});
                if (is_last(l)) finish_outputs(y);
                x = y;
            }
        }
    });
}

// The minibatch as floats: where they lie, or copied, and some of them dropped.
View<const float> Network::take_inputs(const Batch& batch, const Update& update) {
    const View<const float> all = batch.rows.as_f32();
    if (!all.empty() && !batch.order && layer(0).dropout == 0)
        return all.row_range(batch.begin, batch.begin + batch.count);
    const View<float> x = values_[0].view(batch.count, inputs());
    const double work = static_cast<double>(x.rows * x.cols) / 4;
    parallel_ranges(x.rows, team(work), [&](Index begin, Index end, int) {
        for (Index r = begin; r < end; ++r) batch.rows.copy_values(batch.row(r), x.row(r));
    });
    if (layer(0).dropout > 0)
        parallel_ranges(ceil_div(x.cols, block_width), team(work), [&](Index begin, Index end, int thread) {
            drop(0, update, {begin * block_width, std::min(end * block_width, x.cols)}, x, thread);
        });
    return x;
}

// Sets some of a layer's inputs to zero, and divides the others by how many are kept. Which, is a function of the
// update, the row and the unit.
void Network::drop(Index l, const Update& update, Range units, View<float> x, int thread) {
    const Index n = units.end - units.begin, words = ceil_div(n, block_width);
    std::uint64_t* bits = scratch_[static_cast<std::size_t>(thread)].bits.reserve(x.rows * words);
    float* p = keep_.data();  // the same row again and again
    kernels().draw_bits_f32({p, x.rows, n, 0},
                            {options_.seed, update.step, static_cast<std::uint32_t>(rng::Stream::dropout)}, 0,
                            first_unit_[static_cast<std::size_t>(l)] + units.begin, {bits, x.rows, words, words});
    for (Index r = 0; r < x.rows; ++r) kernels().mask_f32(bits + r * words, n, 1.0f / keep(l), x.row(r) + units.begin);
}

// Where the inputs are not zero in all rows. Nothing comes from the others, and nothing goes to their weights: of
// MNIST's pixels half, in a minibatch of ten.
void Network::find_runs(Index l, View<const float> x) {
    std::vector<Range>& runs = runs_[static_cast<std::size_t>(l)];
    runs.clear();
    if (l > 0 || is_narrow(l) || x.rows > most_scanned_rows) {
        runs.push_back({0, x.cols});
        return;
    }
    float* largest = largest_.reserve(x.cols);
    std::fill_n(largest, x.cols, 0.0f);
    for (Index r = 0; r < x.rows; ++r) {
        const float* row = x.row(r);
        for (Index i = 0; i < x.cols; ++i) {
            const float value = std::abs(row[i]);
            largest[i] = value > largest[i] ? value : largest[i];
        }
    }
    for (Index i = 0; i < x.cols; ++i) {
        if (largest[i] == 0) continue;
        if (!runs.empty() && i - runs.back().end <= shortest_gap)
            runs.back().end = i + 1;
        else
            runs.push_back({i, i + 1});
    }
}

void Network::forward(Index l, View<const float> x, View<float> y, const Update& update) {
    const DenseLayer& layer = this->layer(l);
    const bool drops = !is_last(l) && this->layer(l + 1).dropout > 0;
    const int n_threads = team_for_product(layer, x.rows);
    const Index blocks = ceil_div(y.cols, block_width);
    if (drops) std::fill_n(keep_.data(), y.cols, keep(l + 1));
    find_runs(l, x);
    const std::vector<Range>& runs = runs_[static_cast<std::size_t>(l)];
    if (blocks >= n_threads || drops)
        parallel_ranges(blocks, n_threads, [&](Index begin, Index end, int thread) {
            const Range units{begin * block_width, std::min(end * block_width, y.cols)};
            outputs_of(l, x, runs, y, units);
            if (drops) drop(l + 1, update, units, y, thread);
        });
    else
        parallel_ranges(x.rows, n_threads, [&](Index begin, Index end, int) {
            outputs_of(l, x.row_range(begin, end), runs, y.row_range(begin, end), {0, y.cols});
        });
}

// ---- backward ----

// The loss, and its gradient by the last layer's sums in their place.
LossSums Network::compare(const Batch& batch, const Targets& targets, View<float> y, const Update& update) {
    const Index n = y.cols;
    float* losses = row_loss_.reserve(y.rows);
    std::uint8_t* errors = row_error_.reserve(y.rows);
    const auto classified = [&](Index r, float* row) {
        const std::int32_t label = targets.labels[batch.row(r)];
        const float weight = targets.class_weights ? targets.class_weights[label] : 1.0f;
        const float own = row[label];
        errors[r] = *std::max_element(row, row + n) > own;
        losses[r] = weight * (kernels().softmax_f32(row, n) - own);
        row[label] -= 1.0f;
        const auto scale = static_cast<float>(update.gradient_scale) * weight;
        for (Index j = 0; j < n; ++j) row[j] *= scale;
    };
    const auto approximated = [&](Index r, float* row, float* target) {
        targets.values->copy_values(batch.row(r), target);
        const auto scale = static_cast<float>(update.gradient_scale);
        double loss = 0;
        if (options_.loss == Loss::sigmoid_cross_entropy) {
            // −t·log σ(x) − (1 − t)·log(1 − σ(x)) = softplus(x) − t·x
            for (Index j = 0; j < n; ++j) loss -= static_cast<double>(target[j] * row[j]);
            float* softplus = target + n;
            kernels().softplus_f32(row, n, softplus);
            for (Index j = 0; j < n; ++j) loss += static_cast<double>(softplus[j]);
            kernels().sigmoid_f32(row, n, row);
        } else {
            for (Index j = 0; j < n; ++j) {
                const double d = static_cast<double>(row[j]) - static_cast<double>(target[j]);
                loss += d * d / 2;
            }
        }
        for (Index j = 0; j < n; ++j) row[j] = scale * (row[j] - target[j]);
        losses[r] = static_cast<float>(loss);
        errors[r] = 0;
    };
    const double work = static_cast<double>(y.rows * n) * 4;
    parallel_ranges(y.rows, team(work), [&](Index begin, Index end, int thread) {
        float* target = nullptr;
        if (!targets.labels) target = scratch_[static_cast<std::size_t>(thread)].strip.memory.reserve(2 * n);
        for (Index r = begin; r < end; ++r)
            targets.labels ? classified(r, y.row(r)) : approximated(r, y.row(r), target);
    });
    LossSums sums;
    for (Index r = 0; r < y.rows; ++r) {
        sums.loss += static_cast<double>(losses[r]);
        sums.errors += errors[r];
    }
    return sums;
}

// The gradient by some of a layer's inputs: δ·Wᵀ times the slope of their activation.
void Network::input_gradient(Index l, View<const float> x, View<const float> delta, Range units, View<float> below) {
    const View<const float> w = layer(l).w.row_range(units.begin, units.end);
    const View<float> out{below.data + units.begin, below.rows, w.rows, below.stride};
    if (is_narrow(l)) {
        const View<float> turned = turned_[static_cast<std::size_t>(l)].view(w.cols, layer(l).inputs());
        for (Index r = 0; r < out.rows; ++r) std::fill_n(out.row(r), out.cols, 0.0f);
        kernels().multiply_f32(
            {delta.data, delta.stride, 1, {turned.data + units.begin, w.cols, w.rows, turned.stride}, out, 1.0f});
    } else {
        kernels().multiply_transposed_f32(delta, w, out);
    }
    if (layer(l - 1).activation == Activation::sigmoid)
        for (Index r = 0; r < out.rows; ++r)
            kernels().multiply_by_slope_f32(x.row(r) + units.begin, out.cols, keep(l), out.row(r));
}

void Network::step_weights(Index l, View<const float> x, View<const float> delta, Range units, const Update& update,
                           int thread) {
    const DenseLayer& layer = this->layer(l);
    const View<float> w = layer.w.row_range(units.begin, units.end);
    const auto decay = static_cast<float>(update.learning_rate * options_.l2);
    Scratch& scratch = scratch_[static_cast<std::size_t>(thread)];
    // keep·c + xᵀδ, where δ is already what is to be added.
    const auto add_to = [&](View<float> c, float keep) {
        if (!is_narrow(l)) {
            kernels().multiply_f32({x.data + units.begin, 1, x.stride, delta, c, keep});
            return;
        }
        const View<float> turned = scratch.turned.view(w.cols, w.rows);
        for (Index j = 0; j < w.cols; ++j) std::fill_n(turned.row(j), w.rows, 0.0f);
        const View<const float> inputs{x.data + units.begin, x.rows, w.rows, x.stride};
        kernels().multiply_f32({delta.data, 1, delta.stride, inputs, turned, 1.0f});
        for (Index i = 0; i < w.rows; ++i)
            for (Index j = 0; j < w.cols; ++j) c(i, j) = keep * c(i, j) + turned(j, i);
    };
    if (options_.optimizer == Optimizer::sgd) {
        add_to(w, 1.0f - decay);
        return;
    }
    const View<float> first = layer.first.w.row_range(units.begin, units.end);
    if (options_.optimizer == Optimizer::momentum) {
        add_to(first, static_cast<float>(update.momentum));
        for (Index r = 0; r < w.rows; ++r) kernels().step_momentum_f32(w.row(r), first.row(r), w.cols, decay);
        return;
    }
    const View<float> second = layer.second.w.row_range(units.begin, units.end);
    const View<float> gradient = scratch.strip.view(w.rows, w.cols);
    for (Index r = 0; r < w.rows; ++r) std::fill_n(gradient.row(r), w.cols, 0.0f);
    add_to(gradient, 1.0f);
    for (Index r = 0; r < w.rows; ++r)
        kernels().step_adam_f32(w.row(r), gradient.row(r), first.row(r), second.row(r), w.cols, update.adam);
}

void Network::step_biases(Index l, View<const float> delta, const Update& update) {
    const DenseLayer& layer = this->layer(l);
    const Index n = layer.outputs();
    if (options_.optimizer == Optimizer::sgd) {
        kernels().add_rows_f32(delta, 1.0f, layer.c);
    } else if (options_.optimizer == Optimizer::momentum) {
        kernels().add_rows_f32(delta, static_cast<float>(update.momentum), layer.first.c);
        kernels().step_momentum_f32(layer.c, layer.first.c, n, 0.0f);
    } else {
        std::fill_n(bias_step_.data(), n, 0.0f);
        kernels().add_rows_f32(delta, 1.0f, bias_step_.data());
        AdamRule rule = update.adam;
        rule.decay = 0;
        kernels().step_adam_f32(layer.c, bias_step_.data(), layer.first.c, layer.second.c, n, rule);
    }
}

void Network::backward(Index l, View<const float> x, View<float> delta, View<float> below, const Update& update) {
    const DenseLayer& layer = this->layer(l);
    const Index strip_rows = std::clamp<Index>(strip_weights / layer.outputs(), 10, 512);
    // Without decay and velocities weights move by their gradient alone.
    const bool moves_all = options_.optimizer != Optimizer::sgd || options_.l2 != 0;
    strips_.clear();
    const auto cut = [&](Range run) {
        const Index rows = run.end - run.begin, pieces = ceil_div(rows, strip_rows);
        for (Index piece = 0; piece < pieces; ++piece)
            strips_.push_back({run.begin + rows * piece / pieces, run.begin + rows * (piece + 1) / pieces});
    };
    if (moves_all)
        cut({0, layer.inputs()});
    else
        for (const Range& run : runs_[static_cast<std::size_t>(l)]) cut(run);
    const auto n_strips = static_cast<Index>(strips_.size());
    parallel_ranges(std::max<Index>(n_strips, 1), team_for_product(layer, x.rows),
                    [&](Index begin, Index end, int thread) {
                        if (begin == 0) step_biases(l, delta, update);
                        for (Index strip = begin; strip < std::min(end, n_strips); ++strip) {
                            const Range units = strips_[static_cast<std::size_t>(strip)];
                            if (l > 0) input_gradient(l, x, delta, units, below);
                            step_weights(l, x, delta, units, update, thread);
                            if (is_narrow(l)) turn(l, units);
                        }
                    });
    if (options_.max_norm > 0) limit_norms(l);
}

// Shrinks the weights into each unit to length max_norm where they are longer.
void Network::limit_norms(Index l) {
    const DenseLayer& layer = this->layer(l);
    const Index blocks = ceil_div(layer.outputs(), block_width);
    const double work = static_cast<double>(layer.inputs() * layer.outputs()) / 8;
    parallel_ranges(blocks, team(work), [&](Index begin, Index end, int) {
        const Index first = begin * block_width, n = std::min(end * block_width, layer.outputs()) - first;
        const View<float> w{layer.w.data + first, layer.w.rows, n, layer.w.stride};
        float* squares = norms_.data() + first;
        std::fill_n(squares, n, 0.0f);
        kernels().add_squares_f32(w, squares);
        const double most = options_.max_norm * options_.max_norm;
        bool any = false;
        for (Index j = 0; j < n; ++j) {
            const auto square = static_cast<double>(squares[j]);
            const bool is_long = square > most && std::isfinite(square);  // what is not diverges
            any = any || is_long;
            squares[j] = is_long ? static_cast<float>(std::sqrt(most / square)) : 1.0f;
        }
        if (any) kernels().scale_columns_f32(squares, w);
    });
    if (is_narrow(l)) turn(l, {0, layer.inputs()});
}

LossSums Network::train(const Batch& data, const Targets& targets, Index batch_size, std::uint64_t step,
                        double learning_rate, double momentum) {
    turn_narrow_layers();
    LossSums sums;
    for (Index begin = 0; begin < data.count; begin += batch_size, ++step) {
        const Index rows = std::min(batch_size, data.count - begin);
        const Batch batch{data.rows, data.begin + begin, rows, data.order};
        const bool is_adam = options_.optimizer == Optimizer::adam;
        Update update{step, learning_rate, momentum, (is_adam ? 1.0 : -learning_rate) / static_cast<double>(rows), {}};
        if (is_adam) {
            const double t = static_cast<double>(step) + 1;
            const double second = std::sqrt(1 - std::pow(options_.beta2, t));
            update.adam = {static_cast<float>(options_.beta1),
                           static_cast<float>(options_.beta2),
                           static_cast<float>(1 - options_.beta1),
                           static_cast<float>(1 - options_.beta2),
                           static_cast<float>(learning_rate * second / (1 - std::pow(options_.beta1, t))),
                           static_cast<float>(options_.epsilon * second),
                           static_cast<float>(options_.l2)};
        }
        if (layer(0).dropout > 0) std::fill_n(keep_.data(), inputs(), keep(0));
        const auto at = [](Index l) { return static_cast<std::size_t>(l); };
        x_[0] = take_inputs(batch, update);
        View<float> y;
        for (Index l = 0; l < n_layers(); ++l) {
            y = values_[at(l) + 1].view(rows, layer(l).outputs());
            forward(l, x_[at(l)], y, update);
            x_[at(l) + 1] = y;
        }
        const LossSums batch_sums = compare(batch, targets, y, update);
        if (!std::isfinite(batch_sums.loss)) throw Diverged();
        sums.loss += batch_sums.loss;
        sums.errors += batch_sums.errors;
        View<float> delta = y;
        for (Index l = n_layers() - 1; l >= 0; --l) {
            const View<float> below = l > 0 ? deltas_[at(l)].view(rows, layer(l).inputs()) : View<float>{};
            backward(l, x_[at(l)], delta, below, update);
            delta = below;
        }
        rows_done_ += rows;
    }
    return sums;
}

}  // namespace harmonium
