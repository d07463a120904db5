// What the tests of ops share: both versions of the ops on some thread counts, random operands at odd
// addresses.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ops/backends/cpu/op_set.hpp"

namespace troupe::ops {

// Instruction sets that Highway may take, as a mask; 0 = all that the machine has.
constexpr std::int64_t up_to_avx2 = ~std::int64_t{HWY_AVX2 - 1};
constexpr std::int64_t baseline = ~std::int64_t{(HWY_AVX2 << 1) - 1};

struct op_version {
  const char* name;
  bool fast;
  unsigned threads;
  std::int64_t targets = 0;
};

// A test that runs on the reference and on the fast version: with one, two and three threads, and as on lesser machines.
class OpTest : public ::testing::TestWithParam<op_version> {
 protected:
  void SetUp() override {
    const std::int64_t wanted = GetParam().targets;
    if (wanted == 0) return;
    if ((hwy::SupportedTargets() & wanted) == 0) GTEST_SKIP() << "not on this machine";
    hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & wanted);
  }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  const cpu::op_set& ops() const { return GetParam().fast ? cpu::fast_ops : cpu::reference_ops; }
  execution& context() { return context_; }

  thread_pool threads_{GetParam().threads};
  execution context_{threads_};
};

inline const op_version op_versions[] = {{"ref", false, 1},
                                         {"fast1", true, 1},
                                         {"fast2", true, 2},
                                         {"fast3", true, 3},
                                         {"fast2_avx2", true, 2, up_to_avx2},
                                         {"fast2_baseline", true, 2, baseline}};

#define TROUPE_ON_ALL_VERSIONS(suite)                                        \
  INSTANTIATE_TEST_SUITE_P(Version, suite, ::testing::ValuesIn(op_versions), \
                           [](const auto& version) { return std::string(version.param.name); })

// Owns [rows, width].
struct matrix {
  std::vector<float> values;
  std::size_t rows, width;

  matrix(std::size_t r, std::size_t w) : values(r * w), rows(r), width(w) {}
  activations view() { return {values.data(), rows, width}; }
  const_activations view() const { return {values.data(), rows, width}; }
  float& at(std::size_t r, std::size_t c) { return values[r * width + c]; }
  float at(std::size_t r, std::size_t c) const { return values[r * width + c]; }
  // Rows [first, last) on their own.
  matrix slice(std::size_t first, std::size_t last) const {
    matrix part(last - first, width);
    std::copy(values.begin() + first * width, values.begin() + last * width, part.values.begin());
    return part;
  }
};

inline matrix random_matrix(std::size_t rows, std::size_t width, unsigned seed, float scale = 1) {
  matrix made(rows, width);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  for (float& value : made.values) value = normal(random);
  return made;
}

inline std::uint16_t to_bf16(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

// For numbers of ordinary size, truncated.
inline std::uint16_t to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto exponent = static_cast<int>(bits >> 23 & 0xff) - 112;
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  if (exponent <= 0) return sign;
  return static_cast<std::uint16_t>(sign | exponent << 10 | (bits >> 13 & 0x3ff));
}

// Weights as a checkpoint stores them, at an address that is not aligned to anything.
struct stored_matrix {
  std::vector<std::byte> bytes;
  DType dtype;
  std::size_t rows, columns;

  stored_matrix(const matrix& from, DType type) : dtype(type), rows(from.rows), columns(from.width) {
    const std::size_t element = type == DType::f32 ? 4 : 2;
    bytes.resize(1 + from.values.size() * element);
    for (std::size_t i = 0; i < from.values.size(); ++i) {
      std::byte* to = bytes.data() + 1 + i * element;
      const std::uint16_t half = type == DType::bf16 ? to_bf16(from.values[i]) : to_f16(from.values[i]);
      if (type == DType::f32) {
        std::memcpy(to, &from.values[i], 4);
      } else {
        std::memcpy(to, &half, 2);
      }
    }
  }
  weight_matrix view() const { return {dtype, bytes.data() + 1, rows, columns}; }
  double at(std::size_t r, std::size_t c) const { return load_element(dtype, view().row(r), c); }
};

inline stored_matrix random_weights(std::size_t rows, std::size_t columns, DType dtype, unsigned seed) {
  return stored_matrix(random_matrix(rows, columns, seed), dtype);
}

inline bool same_bits(const float* a, const float* b, std::size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}
inline ::testing::AssertionResult same_bits(const matrix& a, const matrix& b) {
  if (a.rows != b.rows || a.width != b.width) return ::testing::AssertionFailure() << "shapes differ";
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    if (same_bits(&a.values[i], &b.values[i], 1)) continue;
    return ::testing::AssertionFailure() << "row " << i / a.width << " column " << i % a.width << ": "
                                         << a.values[i] << " and " << b.values[i];
  }
  return ::testing::AssertionSuccess();
}

}  // namespace troupe::ops
