#include "model/sequential.hpp"

#include <algorithm>

#include "core/parallel.hpp"
#include "kernels/kernels.hpp"
#include "model/trainer.hpp"

namespace harmonium {
namespace {

// The kernels, chosen by the type of their arguments.
struct EitherPrecision {
    const Kernels& k = kernels();
    void sigmoid(float* x, Index n) const { k.sigmoid_f32(x, n, x); }
    void sigmoid(double* x, Index n) const { k.sigmoid_f64(x, n, x); }
    void pack(const float* values, Index n, std::uint64_t* words) const { k.pack_f32(values, n, words); }
    void pack(const double* values, Index n, std::uint64_t* words) const { k.pack_f64(values, n, words); }
    void multiply(const float* w, View<const float> h, float* x) const { k.multiply_unit_f32(w, h, x); }
    void multiply(const double* w, View<const double> h, double* x) const { k.multiply_unit_f64(w, h, x); }
    void spread(const float* w, Index n, const WeightedRows<float>& to) const { k.spread_unit_f32(w, n, to); }
    void spread(const double* w, Index n, const WeightedRows<double>& to) const { k.spread_unit_f64(w, n, to); }
    void step(float* w, Index n, const WeightedRows<float>& p, const WeightedRows<float>& q, float rate) const {
        k.step_unit_f32(w, n, p, q, rate);
    }
    void step(double* w, Index n, const WeightedRows<double>& p, const WeightedRows<double>& q, double rate) const {
        k.step_unit_f64(w, n, p, q, rate);
    }
};

// Lists what is not zero among a unit's values; returns how many.
template <class T>
Index list_nonzero(const T* values, Index n, std::int32_t* index, T* weight) {
    Index count = 0;
    for (Index r = 0; r < n; ++r) {
        index[count] = static_cast<std::int32_t>(r);
        weight[count] = values[r];
        count += values[r] != 0;
    }
    return count;
}

template <class T>
T sum(const T* values, Index n) {
    T total = 0;
    for (Index r = 0; r < n; ++r) total += values[r];
    return total;
}

constexpr Index drawn_together = 16;  // visible units whose draws are made together
constexpr Index line = 16;  // hidden units: whole cache lines of either precision

}  // namespace

template <class T>
SequentialTrainer<T>::SequentialTrainer(View<T> w, T* b, T* c, View<std::uint64_t> chains, int n_threads)
    : w_(w),
      b_(b),
      c_(c),
      chains_(chains),
      n_threads_(resolve_threads(n_threads)),
      hidden_stride_(ceil_div(w.cols, line) * line) {
    const double work = static_cast<double>(w.rows) * static_cast<double>(w.cols * chains.rows);
    const auto blocks = static_cast<int>(std::min<Index>(ceil_div(w.rows, block_width), n_threads_));
    shares_ = {w.rows, std::min(threads_for(work, n_threads_), blocks)};
    scratch_.resize(static_cast<std::size_t>(shares_.count()));
}

template <class T>
void SequentialTrainer<T>::reserve(Index rows) {
    const Index chains = chains_.rows, most = std::max(rows, chains);
    for (Buffer<T>* values : {&data_, &next_data_}) values->reserve(w_.rows * rows);
    model_.reserve(w_.rows * chains);
    data_hidden_.reserve(rows * hidden_stride_);
    model_hidden_.reserve(chains * hidden_stride_);
    states_.reserve_zeros(chains * hidden_stride_);
    for (Scratch& scratch : scratch_) {
        scratch.sums.reserve((rows + chains) * hidden_stride_);
        scratch.x.reserve(drawn_together * chains);
        scratch.index.reserve(std::max(2 * most, w_.rows + block_width));
        scratch.values.reserve(w_.rows + block_width);
        scratch.weights.reserve(2 * most);
    }
}

template <class T>
void SequentialTrainer<T>::run(const Batch& data, Index batch_size, double learning_rate, const double* uniform) {
    reserve(std::min(batch_size, data.count));
    const Index chains = chains_.rows;
    for (Index r = 0; r < chains; ++r)
        for (Index j = 0; j < w_.cols; ++j)
            states_[r * hidden_stride_ + j] = static_cast<T>(chains_(r, j / 64) >> (j % 64) & 1);
    for (Index done = 0; done < data.count; done += batch_size, uniform += numbers_per_update()) {
        const Index rows = std::min(batch_size, data.count - done);
        const Batch minibatch{data.rows, data.begin + done, rows, data.order};
        shares_.for_each([&](int share) { pass(share, minibatch, uniform); });
        step_ = {rows, static_cast<T>(learning_rate / static_cast<double>(rows)),
                 static_cast<T>(static_cast<double>(rows) / static_cast<double>(chains))};
        finish_hidden(uniform + chains * w_.rows);
        std::swap(data_, next_data_);
        rows_done_ += rows;
    }
    shares_.for_each([&](int share) { take_step(share); });
    step_ = {};
    for (Index r = 0; r < chains; ++r)
        EitherPrecision{}.pack(states_.data() + r * hidden_stride_, w_.cols, chains_.row(r));
    for (const Scratch& scratch : scratch_)
        if (!scratch.finite) throw Diverged();
}

template <class T>
void SequentialTrainer<T>::transpose(const Batch& minibatch, int share) {
    const Range units = shares_.units(share);
    Scratch& scratch = scratch_[static_cast<std::size_t>(share)];
    const Index rows = minibatch.count;
    T* to = next_data_.data() + units.begin * rows;
    std::fill_n(to, (units.end - units.begin) * rows, T{0});
    for (Index r = 0; r < rows; ++r) {
        const Index count = minibatch.rows.list_values(minibatch.row(r), units.begin, units.end, scratch.index.data(),
                                                       scratch.values.data());
        for (Index n = 0; n < count; ++n) to[scratch.index[n] * rows + r] = scratch.values[n];
    }
}

template <class T>
void SequentialTrainer<T>::pass(int share, const Batch& minibatch, const double* uniform) {
    const EitherPrecision kernels;
    const Range units = shares_.units(share);
    const Index rows = minibatch.count, chains = chains_.rows, n_hidden = w_.cols;
    Scratch& scratch = scratch_[static_cast<std::size_t>(share)];
    transpose(minibatch, share);
    T* data_sums = scratch.sums.data();
    T* model_sums = data_sums + rows * hidden_stride_;
    std::fill_n(data_sums, (rows + chains) * hidden_stride_, T{0});
    const auto spread = [&](Index unit, const Buffer<T>& values, Index n, T* sums) {
        const Index count = list_nonzero(values.data() + unit * n, n, scratch.index.data(), scratch.weights.data());
        kernels.spread(w_.row(unit), n_hidden,
                       {scratch.index.data(), scratch.weights.data(), count, sums, hidden_stride_});
    };
    const View<const T> states{states_.data(), chains, n_hidden, hidden_stride_};
    T* x = scratch.x.data();
    for (Index first = units.begin; first < units.end; first += drawn_together) {
        const Index last = std::min(first + drawn_together, units.end);
        for (Index i = first; i < last; ++i) {
            if (step_.rows) step_unit(i, scratch);
            spread(i, next_data_, rows, data_sums);
            T* logits = x + (i - first) * chains;
            kernels.multiply(w_.row(i), states, logits);
            for (Index r = 0; r < chains; ++r) logits[r] += b_[i];
        }
        kernels.sigmoid(x, (last - first) * chains);
        for (Index r = 0; r < chains; ++r)
            for (Index i = first; i < last; ++i)
                model_[i * chains + r] =
                    static_cast<T>(uniform[r * w_.rows + i] < static_cast<double>(x[(i - first) * chains + r]));
        for (Index i = first; i < last; ++i) spread(i, model_, chains, model_sums);
    }
}

template <class T>
void SequentialTrainer<T>::take_step(int share) {
    const Range units = shares_.units(share);
    Scratch& scratch = scratch_[static_cast<std::size_t>(share)];
    T zero = 0;  // NaN once a value is not finite
    for (Index i = units.begin; i < units.end; ++i) {
        if (step_.rows) step_unit(i, scratch);
        for (Index j = 0; j < w_.cols; ++j) zero += w_(i, j) * 0;
        zero += b_[i] * 0;
    }
    scratch.finite = zero == 0;
}

template <class T>
void SequentialTrainer<T>::step_unit(Index i, Scratch& scratch) {
    const Index rows = step_.rows, chains = chains_.rows;
    const T *data = data_.data() + i * rows, *model = model_.data() + i * chains;
    std::int32_t* index = scratch.index.data();
    T* weight = scratch.weights.data();
    const Index of_data = list_nonzero(data, rows, index, weight);
    const Index of_model = list_nonzero(model, chains, index + rows, weight + rows);
    std::fill_n(weight + rows, of_model, step_.chain_weight);
    EitherPrecision{}.step(w_.row(i), w_.cols, {index, weight, of_data, data_hidden_.data(), hidden_stride_},
                           {index + rows, weight + rows, of_model, model_hidden_.data(), hidden_stride_}, step_.rate);
    b_[i] += step_.rate * (sum(data, rows) - step_.chain_weight * sum(model, chains));
}

template <class T>
void SequentialTrainer<T>::finish_hidden(const double* uniform) {
    const EitherPrecision kernels;
    const Index rows = step_.rows, chains = chains_.rows, n_hidden = w_.cols;
    const auto work = static_cast<double>((rows + chains) * n_hidden) * (4 + shares_.count());
    parallel_ranges(ceil_div(n_hidden, line), threads_for(work, n_threads_), [&](Index begin, Index end, int) {
        const Index first = begin * line, last = std::min(end * line, n_hidden), n = last - first;
        for (Index r = 0; r < rows + chains; ++r) {
            T* p = (r < rows ? data_hidden_.data() + r * hidden_stride_
                             : model_hidden_.data() + (r - rows) * hidden_stride_) +
                   first;
            add_parts(scratch_.size(), n, p,
                      [&](std::size_t share) { return scratch_[share].sums.data() + r * hidden_stride_ + first; });
            for (Index j = 0; j < n; ++j) p[j] += c_[first + j];
            kernels.sigmoid(p, n);
        }
        for (Index r = 0; r < chains; ++r) {
            const T* p = model_hidden_.data() + r * hidden_stride_;
            T* h = states_.data() + r * hidden_stride_;
            for (Index j = first; j < last; ++j)
                h[j] = static_cast<T>(uniform[r * n_hidden + j] < static_cast<double>(p[j]));
        }
        for (Index j = first; j < last; ++j) {
            T data = 0, model = 0;
            for (Index r = 0; r < rows; ++r) data += data_hidden_[r * hidden_stride_ + j];
            for (Index r = 0; r < chains; ++r) model += model_hidden_[r * hidden_stride_ + j];
            c_[j] += step_.rate * (data - step_.chain_weight * model);
        }
    });
}

template class SequentialTrainer<float>;
template class SequentialTrainer<double>;

}  // namespace harmonium
