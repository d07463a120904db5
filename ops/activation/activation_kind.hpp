// Which activation; activation.hpp has the formulas. Alone here, so that device code needs nothing else.
#pragma once

namespace troupe::ops {

enum class activation { silu, gelu, relu, gelu_tanh };

}  // namespace troupe::ops
