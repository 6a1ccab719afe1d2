// Visible units are dealt to threads once and for all, a share each. A thread updates the weights of its own units,
// draws them, lists those that are on, and sums their rows of weights, so that no other core touches its part of W or
// of the 16-bit copies. What threads exchange are the sums of the hidden units: a part from each share, added up where
// a block of hidden units is finished.
#pragma once

#include <algorithm>
#include <vector>

#include "model/products.hpp"
#include "model/rbm.hpp"

namespace harmonium {

// The visible units that a thread works on: whole blocks.
class Shares {
  public:
    Shares() = default;
    Shares(Index units, int count) : units_(units), count_(count) {}
    int count() const { return count_; }
    Range blocks(int share) const {
        const Index all = ceil_div(units_, block_width);
        return {all * share / count_, all * (share + 1) / count_};
    }
    Range units(int share) const {
        const Range b = blocks(share);
        return {b.begin * block_width, std::min(b.end * block_width, units_)};
    }
    // f(share) for each, on a thread of its own: the same thread every time.
    template <class F>
    void for_each(F&& f) const {
        parallel_ranges(count_, count_, [&](Index begin, Index end, int) {
            for (Index share = begin; share < end; ++share) f(static_cast<int>(share));
        });
    }
    // Of some blocks of hidden units, those that a share's thread works on.
    Range dealt(int share, Index n_blocks) const {
        return {n_blocks * share / count_, n_blocks * (share + 1) / count_};
    }

  private:
    Index units_ = 0;
    int count_ = 1;
};

// What all shares have, added up in their order: part(s) is where share s has its n numbers.
template <class T, class Part>
void add_parts(std::size_t n_parts, Index n, T* total, Part&& part) {
    std::copy_n(part(0), n, total);
    for (std::size_t s = 1; s < n_parts; ++s) {
        const T* more = part(s);
        for (Index i = 0; i < n; ++i) total[i] = static_cast<T>(total[i] + more[i]);
    }
}

// Integer sums of hidden units in parts: each share sums over its own visible units.
class SharedSums {
  public:
    // Sums for so many rows are to come; nothing is known.
    void begin(const Shares& shares, Rbm& rbm, Index rows);
    // A share's part for visible states, from the part of before if there is one; `ones` are lists of the states, if
    // there are some. With `carry` this part is kept for the next.
    void sum(int share, Rbm& rbm, const Batch& visible, const ListBuffer* ones, bool carry);
    // All parts together: some rows of a block.
    void gather(Index block, Index row, Index rows, std::int32_t* acc);

  private:
    Shares shares_;
    Index rows_ = 0;
    std::vector<CarriedSums> parts_;
};

// The same of real-valued rows: float32 sums of rows of W.
class SharedProducts {
  public:
    void begin(const Shares& shares, Index rows, Index blocks);
    // From data, and the lists of what is not zero among a share's units.
    void sum(int share, View<const float> w, const Batch& data, const ValueLists& rows);
    void gather(Index block, Index row, Index rows, float* sums) const;

  private:
    Shares shares_;
    Index rows_ = 0;
    std::vector<Buffer<float>> parts_;  // [block][row][64]
};

}  // namespace harmonium
