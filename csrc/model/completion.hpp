// Missing values of training rows: units whose states are sampled given those observed (docs/numerics.md, section 6).
#pragma once

#include "model/rbm.hpp"

namespace harmonium {

// A completion of each row of the data: bits that are the data where they are observed, and a Gibbs chain elsewhere.
class Completions {
  public:
    Completions() = default;
    // Both as bits of so many units, a row for each of the data; `states` are carried from update to update.
    Completions(View<const std::uint64_t> observed, View<std::uint64_t> states, Index units);

    bool is_empty() const { return states_.empty(); }
    // All completions as rows: with the order of a batch of data, they are the batch completed.
    const Rows& rows() const { return rows_; }
    // Takes those of a batch of packed data n_steps on, numbered from `step`: h ~ p(h|v), then v ~ p(v|h) of the units
    // that are not observed.
    void run(Rbm& rbm, const Batch& data, Index n_steps, std::uint64_t seed, std::uint64_t step);

  private:
    bool is_whole(Index row) const;
    // A row's observed units from one place, the others from another.
    void merge(Index row, const std::uint64_t* seen, const std::uint64_t* drawn);

    View<const std::uint64_t> observed_;
    View<std::uint64_t> states_;
    Index units_ = 0;
    Rows rows_ = Rows::bits({}, 0);
    Buffer<Index> incomplete_;
    Buffer<std::uint64_t> hidden_, drawn_;
};

}  // namespace harmonium
