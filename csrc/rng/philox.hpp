// Philox4x32-10, the scalar definition: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3",
// SC11. The kernels compute the same function many counters at a time.
#pragma once

#include <array>
#include <cstdint>

namespace harmonium::rng {

constexpr std::uint32_t philox_m0 = 0xD2511F53u, philox_m1 = 0xCD9E8D57u;
constexpr std::uint32_t philox_w0 = 0x9E3779B9u, philox_w1 = 0xBB67AE85u;
constexpr int philox_rounds = 10;

using Counter = std::array<std::uint32_t, 4>;

inline Counter philox4x32(Counter c, std::uint64_t seed) {
    auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < philox_rounds; ++round) {
        const std::uint64_t p0 = std::uint64_t{philox_m0} * c[0], p1 = std::uint64_t{philox_m1} * c[2];
        c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
             static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
        k0 += philox_w0;
        k1 += philox_w1;
    }
    return c;
}

// What a draw is for: the low seven bits of the counter's last word. Listed in docs/numerics.md.
enum class Stream : std::uint32_t {
    user = 0,
    hidden = 1,
    visible = 2,
    hidden_start = 3,
    shuffle = 4,
    flip = 5,
    binarise = 6,
    dropout = 7,
    layer = 8,
    label = 9,
    input = 10,
    completion_hidden = 11,
    completion_visible = 12,
    exchange = 13,
};

// Added to a stream for the low half of a draw, needed only when the high half does not decide.
constexpr std::uint32_t low_half = 128;

// The coordinates that all the draws of one call share; unit and row complete them.
struct Draw {
    std::uint64_t seed = 0;
    std::uint64_t step = 0;
    std::uint32_t stream = 0;

    std::uint32_t word2() const { return static_cast<std::uint32_t>(step); }
    std::uint32_t word3() const { return stream | static_cast<std::uint32_t>(step >> 32) << 8; }
};

}  // namespace harmonium::rng
