// Updates that W has not taken yet (docs/numerics.md, section 6). Small minibatches change W by little and yet all of
// it has to be passed over, so several of their updates are taken in one pass. Until then they exist as what they are
// made of, rows of visible states vᵣ and of signed hidden probabilities Pᵣ, and products with W are corrected by
// products with those: v(W + a·Σ vᵣᵀPᵣ) = vW + a·Σ (v·vᵣ)Pᵣ, and so for h.
#pragma once

#include <vector>

#include "model/phase.hpp"
#include "model/shares.hpp"

namespace harmonium {

class PendingUpdates {
  public:
    // How many updates of CD-1 may share a pass; a function of sizes alone, since it decides about bits.
    static Index most(Index n_visible, Index n_hidden, Index rows);

    // Nothing is pending; room for some updates, each of so many rows of data and as many chains.
    void begin(const Shares& shares, Index n_visible, Index n_hidden, Index rows, Index most);
    void clear() { count_ = 0; }
    Index count() const { return count_; }
    Index rows() const { return count_ * 2 * batch_; }

    // What the next update is made of. Visible states of its data, set from lists by the share of their units, and of
    // its chains, written by whoever draws them; probabilities as integers, those of the chains negated.
    enum Side { data, chains };
    void set_data(int share, const RowLists& ones);
    View<std::uint64_t> visible(Side side) { return states_.row_range(first_row(side), first_row(side) + batch_); }
    Index first_row(Side side) const { return rows() + (side == chains ? batch_ : 0); }
    std::int16_t* integers() const { return integers_.data(); }
    Index integers_rows() const { return most_ * 2 * batch_; }
    // After both are there for a block of hidden units; and when all is, with what turns sums of them into weights.
    void turn(Index block);
    void close(float factor);

    // x of hidden units, for the next update's data or chains. What they have in common with the rows pending is
    // counted share by share, then put together by each share that corrects blocks.
    void compare(int share, Side side);
    void gather(int share, Side side);
    void correct_hidden(int share, Index block, Index row, Index rows, float* x) const;
    // x of a share's visible units, for hidden states.
    void project(int share, const Batch& hidden);
    void correct_visible(int share, Index block, Index row, Index rows, float* x) const;

    // The rows of a share's units that are on, as lists: for the pass over W.
    RowLists listed(int share);

  private:
    struct Share {
        Buffer<std::int16_t> common[2], all_common;  // units on in both: [row of the batch][row pending]
        Buffer<std::int32_t> projected;  // Σⱼ hⱼPᵣⱼ: the same
        ListBuffer ones;
    };

    Shares shares_;
    std::vector<Share> share_;
    Index n_visible_ = 0, n_hidden_ = 0, batch_ = 0, most_ = 0, count_ = 0;
    float factor_ = 0;
    Buffer<std::uint64_t> words_;
    View<std::uint64_t> states_;  // [row pending][word]
    Buffer<std::int16_t> integers_;  // [block][row pending][64]
    QuantizedMatrix turned_;  // the same as n_hidden inputs × rows pending, to be summed over hidden states
};

}  // namespace harmonium
