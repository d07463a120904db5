// Instruction sets that the fast ops are compiled for: the build's baseline, AVX2 and AVX-512; the best one
// that the machine has is taken at run time. The sets between them bring nothing here, and those of scalable
// vectors do not fit (arrays of vectors are used). Include before any header of Highway.
#pragma once

#define HWY_DISABLED_TARGETS \
  ((((1LL << 14) - 1) & ~(HWY_AVX2 | HWY_AVX3)) | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
