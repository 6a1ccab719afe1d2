// Which instruction set the kernels run on: detected once, overridable by HARMONIUM_ISA and by tests.
#pragma once

#include <string>
#include <vector>

namespace harmonium {

enum class Isa { baseline, avx2, avx512 };

const char* name(Isa isa);

// What this build contains and this processor can run, least first. `baseline` is always there.
const std::vector<Isa>& available_isas();

// The level in use. The first call reads HARMONIUM_ISA; an unknown or unavailable word throws std::invalid_argument.
Isa active_isa();
void set_active_isa(const std::string& level);

}  // namespace harmonium
