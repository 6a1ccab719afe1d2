// A Bernoulli RBM over parameters somebody else owns: conditionals, chains and energies of whole batches.
// docs/numerics.md says what each computes; products.hpp how a batch goes through the machine.
#pragma once

#include "core/view.hpp"
#include "model/memory.hpp"
#include "model/quantized_matrix.hpp"
#include "model/rows.hpp"
#include "rng/philox.hpp"

namespace harmonium {

enum class Direction { up, down };  // up: visible → hidden, p(h|v); down: hidden → visible, p(v|h)

// `automatic` takes binary operands through the 16-bit weights and real ones through float32; `float32` all.
enum class Precision { automatic, float32 };

struct Parameters {
    View<float> w;  // n_visible × n_hidden; written by training alone
    float* b;  // n_visible
    float* c;  // n_hidden
};

class Rbm {
  public:
    // The last n_labels visible units are a softmax group: one of them is on.
    Rbm(Parameters parameters, Precision precision, int n_threads, Index n_labels = 0);

    Index n_visible() const { return parameters_.w.rows; }
    Index n_hidden() const { return parameters_.w.cols; }
    Index n_labels() const { return n_labels_; }
    Range labels() const { return {n_visible() - n_labels_, n_visible()}; }
    const Parameters& parameters() const { return parameters_; }
    Precision precision() const { return precision_; }
    int n_threads() const { return n_threads_; }
    Index inputs(Direction d) const { return d == Direction::up ? n_visible() : n_hidden(); }
    Index outputs(Direction d) const { return d == Direction::up ? n_hidden() : n_visible(); }

    bool takes_integer_path(const Rows& rows) const { return rows.is_binary() && precision_ == Precision::automatic; }

    // The 16-bit weights of a direction, made at the first call; training keeps them in step with W.
    QuantizedMatrix& quantized(Direction d);
    // The bias of a direction's outputs, padded with zeros to whole blocks.
    const float* padded_bias(Direction d);
    // After all parameters changed: everything made of them again.
    void renew();
    // After biases begin … end − 1 of a direction's outputs changed: their padded copies again.
    void refresh_bias(Direction d, Index begin, Index end);

  private:
    Parameters parameters_;
    Precision precision_;
    int n_threads_;
    Index n_labels_;
    QuantizedMatrix up_, down_;
    bool has_up_ = false, has_down_ = false;
    Buffer<float> padded_b_, padded_c_;
};

// Where one half-step leaves its results; empty views are not written.
struct HalfStep {
    View<float> probabilities;
    View<std::uint64_t> states;  // drawn with `draw`, row n of the batch as row row0 + n
    rng::Draw draw;
    std::uint32_t row0 = 0;
    const Index* numbers = nullptr;  // row n is drawn as row numbers[n] instead
    // Probabilities as integers p·fixed_factor, in blocks of so many rows as QuantizedMatrix has them:
    // [block][row][64].
    std::int16_t* fixed = nullptr;
    Index fixed_rows = 0;
    float fixed_factor = 0;
    // One factor a row instead, of integers and of `probabilities`; drawn states know nothing of it.
    const float* row_factors = nullptr;
    // Outputs that are labels, and where their pre-activations go for draw_labels(): [row][label].
    Range labels{0, 0};
    float* label_x = nullptr;

    std::uint32_t number(Index row) const {
        return numbers ? static_cast<std::uint32_t>(numbers[row]) : row0 + static_cast<std::uint32_t>(row);
    }
};

struct Pass;

// σ(x) of the units on the other side, drawn states of them, or both.
void half_step(Rbm& rbm, Direction direction, const Batch& batch, const HalfStep& out, const Pass& pass);
void half_step(Rbm& rbm, Direction direction, const Batch& batch, const HalfStep& out);

// Pre-activations x themselves.
void preactivations(Rbm& rbm, Direction direction, const Batch& batch, View<float> out);

// F(v) per row.
void free_energy(Rbm& rbm, const Batch& batch, double* out);

// Stochastic log pseudo-likelihood per row: one pixel flipped, chosen by Philox at (n, step); the mean over steps
// step … step + n_flips − 1, which share the row's product.
void pseudo_likelihood(Rbm& rbm, const Batch& batch, std::uint64_t seed, std::uint64_t step, Index n_flips,
                       double* out);

// Exact log pseudo-likelihood per row: every pixel flipped in turn.
void exact_pseudo_likelihood(Rbm& rbm, const Batch& batch, double* out);

}  // namespace harmonium
