#include "core/isa.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace harmonium {
namespace {

constexpr int unset = -1;
std::atomic<int> active{unset};

std::vector<Isa> detect() {
    std::vector<Isa> levels{Isa::baseline};
#if defined(__x86_64__)
    __builtin_cpu_init();
    // What isa_avx2.cpp and isa_avx512.cpp name as their targets.
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt")) {
        levels.push_back(Isa::avx2);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            levels.push_back(Isa::avx512);
    }
#endif
    return levels;
}

Isa parse(const std::string& level, const char* source) {
    std::string known;
    for (Isa isa : available_isas()) {
        if (level == name(isa)) return isa;
        known += known.empty() ? "" : ", ";
        known += name(isa);
    }
    throw std::invalid_argument(std::string(source) + " is '" + level +
                                "', but the instruction sets available on this machine are: " + known);
}

}  // namespace

const char* name(Isa isa) {
    switch (isa) {
        case Isa::avx2:
            return "avx2";
        case Isa::avx512:
            return "avx512";
        default:
            return "baseline";
    }
}

const std::vector<Isa>& available_isas() {
    static const std::vector<Isa> levels = detect();
    return levels;
}

Isa active_isa() {
    int level = active.load(std::memory_order_relaxed);
    if (level == unset) {
        const char* wanted = std::getenv("HARMONIUM_ISA");
        level = static_cast<int>(wanted && *wanted ? parse(wanted, "HARMONIUM_ISA") : available_isas().back());
        active.store(level, std::memory_order_relaxed);
    }
    return static_cast<Isa>(level);
}

void set_active_isa(const std::string& level) {
    active.store(static_cast<int>(parse(level, "the instruction set asked for")), std::memory_order_relaxed);
}

}  // namespace harmonium
