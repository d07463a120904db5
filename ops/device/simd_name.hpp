// The instruction set that the fast ops use on this machine, as Highway calls it: "AVX3", "AVX2", ...
#pragma once

namespace troupe::ops {

const char* simd_name();

}  // namespace troupe::ops
