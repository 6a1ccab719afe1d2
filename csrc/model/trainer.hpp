// Many minibatches a call: contrastive divergence and the pass over W, on parameters that live in Python's arrays.
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>

#include "model/centering.hpp"
#include "model/chains.hpp"
#include "model/completion.hpp"
#include "model/fast_weights.hpp"

namespace harmonium {

// The weights or biases became infinite or not a number. The trainer is then to be thrown away: its copies are not in
// step.
struct Diverged : std::runtime_error {
    Diverged() : std::runtime_error("the weights became infinite or not a number") {}
};

// What training carries from update to update besides the parameters; velocities are empty without momentum.
struct TrainingState {
    View<std::uint64_t> chains;
    View<float> w_velocity;
    float* b_velocity = nullptr;
    float* c_velocity = nullptr;
    View<std::uint64_t> completions;  // of rows with missing values, as bits; else empty
};

// What there is of each row of the data beside its values, all of them optional.
struct RowTraits {
    const double* weights = nullptr;  // their mean 1
    View<const std::uint64_t> observed;  // units whose values are not missing, as bits
    Index rows = -1;  // so many; −1 where there is nothing
};

struct TrainingOptions {
    Index n_gibbs_steps = 1;
    bool persistent = true;
    double l1 = 0, l2 = 0;
    std::uint64_t seed = 0;
    Index n_labels = 0;  // the last visible units, a softmax group
};

// Hidden biases are drawn to where units are on in so large a part of the data (Lee, Ekanadham & Ng 2008).
struct Sparsity {
    float* activity = nullptr;  // moving averages of p(h|v⁺); null where there is no target
    double target = 0, cost = 0, decay = 0;
};

// Moving averages of the squares of the gradient, by whose roots steps are divided; null where they are not. With
// velocities, which are then averages of the gradient itself, this is Adam (Kingma & Ba 2015), and RMSprop without.
struct Adaptation {
    View<float> w_square;
    float* b_square = nullptr;
    float* c_square = nullptr;
    std::int64_t* updates = nullptr;  // that they have seen
    double beta_1 = 0, beta_2 = 0, epsilon = 0;
    bool is_on() const { return !w_square.empty(); }
};

// Numbers that updates carry beside arrays of their own.
enum Count { updates_made, averages_taken, averaged_at, n_counts };

// Moving averages of the parameters, whose weights fall by `decay` an update; null where there are none.
struct Averages {
    View<float> w;
    float* b = nullptr;
    float* c = nullptr;
    double decay = 0;
};

class Trainer {
  public:
    Trainer(Parameters parameters, TrainingState state, TrainingOptions options, Precision precision, int n_threads,
            RowTraits traits = {});

    // Options of the update (docs/numerics.md, section 6), whose arrays are Python's too.
    void center(float* visible_offset, float* hidden_offset, double rate) {
        centering_ = Centering(visible_offset, hidden_offset, rate);
    }
    void adapt(const Adaptation& adaptation) { adaptation_ = adaptation; }
    void make_sparse(const Sparsity& sparsity) { sparsity_ = sparsity; }
    // The norm of each hidden unit's weights is at most this after every update.
    void limit_norms(double most);
    void keep_averages(const Averages& averages, std::int64_t* counts) {
        averages_ = averages;
        counts_ = counts;
    }

    // How the chains of an update mix, beside their steps. They start at random; or exchange states with replicas at
    // other temperatures, as many at each but the first, which is theirs; or are those of a machine with fast weights.
    void restart_chains() { restarts_ = true; }
    void temper(const Path& path, View<std::uint64_t> replicas, View<std::int64_t> exchanges) {
        path_ = path;
        replicas_ = replicas;
        exchanges_ = exchanges;
    }
    void keep_fast_weights(const Parameters& fast, double rate, double decay);

    // One update per minibatch of `batch_size` rows (the last may be shorter) over the whole of `data`, the
    // first with Gibbs step number `step`, at constant learning rate and momentum. Throws Diverged after the update
    // that diverged.
    void run(const Batch& data, Index batch_size, std::uint64_t step, double learning_rate, double momentum);

    // How many updates with such minibatches W takes in one pass (docs/numerics.md, section 6). Passes are counted from
    // the beginning of run(), at whose end W is up to date: the same rows in several calls, each but the last a
    // multiple of so many minibatches, leave the same bits.
    Index updates_a_pass(const Rows& data, Index batch_size) const;

    // The visible states of the last update's chains, one row a chain.
    void copy_visible_states(View<std::uint64_t> out) const;
    Index last_chains() const { return cd_.visible_states().rows; }

    // How many rows all updates so far have seen.
    Index rows_done() const { return rows_done_; }

    // CD needs a chain per row of a minibatch; throws std::invalid_argument if there are fewer.
    void require_chains(Index batch_rows) const;
    // What is known of each row must fit the data; throws std::invalid_argument if it does not.
    void require_traits(const Rows& data) const;

    Rbm& rbm() { return rbm_; }
    Index chains() const { return state_.chains.rows; }

  private:
    void draw_starts(View<std::uint64_t> chains, std::uint64_t step) const;
    // With the visible states that the chains have now.
    void exchange_with_replicas(View<std::uint64_t> chains, std::uint64_t step);
    UpdateRule rule_of(double learning_rate, double momentum) const;
    void adapt_rule(double learning_rate, UpdateRule& rule) const;
    // Of the biases; and of the weights, by this update and those pending.
    void update(const UpdateRule& rule, double rate, bool moves_weights);
    void begin_centering(double rate);
    // By their step; or, in place of that, by a factor for each column.
    void update_weights(const UpdateRule& rule, int share, const float* factor = nullptr);
    // Of as many units as share the lines of the transposed copy.
    void update_line(const UpdateRule& rule, int share, Range units, const float* factor);
    void limit_columns();
    // Of a block; true if some are not 1.
    bool find_factors(Index block);
    // After the largest |w| of at most eight rows changed to these.
    void follow_row_scales(Range units, const std::uint32_t* most);
    void follow_column_scales(Index block);
    void update_visible_biases(const UpdateRule& rule, double rate, int share);
    void update_hidden_biases(const UpdateRule& rule, double rate, Index block);
    void add_sparsity(double rate, Index block, float* step) const;
    // After an update that left W up to date.
    void average_parameters();
    void update_biases(const UpdateRule& rule, Direction direction, Range units, float* step);

    Rbm rbm_;
    TrainingState state_;
    TrainingOptions options_;
    RowTraits traits_;
    Completions completions_;
    Centering centering_;
    Adaptation adaptation_;
    Sparsity sparsity_;
    Averages averages_;
    std::int64_t* counts_ = nullptr;
    bool restarts_ = false;
    Path path_{nullptr, nullptr, 0};
    View<std::uint64_t> replicas_;
    View<std::int64_t> exchanges_;
    Buffer<std::uint64_t> all_visible_, all_hidden_;
    std::unique_ptr<FastWeights> fast_;
    ContrastiveDivergence cd_;
    bool quantizes_;
    Index rows_done_ = 0;
    // The largest |w| of each column within each eight rows, as bits: [tile][padded column]. A column's maximum is
    // taken over these instead of over W.
    Buffer<std::uint32_t> tile_max_;
    Buffer<std::uint32_t> share_max_;  // the same within each share of visible units
    double max_norm_ = 0;  // 0: none
    Buffer<float> tile_square_;  // sums of w² of each column within each eight rows, like tile_max_
    Buffer<float> column_factor_;
    Buffer<float> b_step_;
    std::atomic<bool> diverged_{false};
    Index padded_hidden_;
};

}  // namespace harmonium
