// What the tests of the CUDA ops share: a fixture that skips where there is no device, numbers that go there and come back.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "ops/backends/cuda/convert.hpp"
#include "ops/backends/cuda/memory.hpp"
#include "ops/device/cuda_view.hpp"
#include "tests/ops/support/op_cases.hpp"

namespace troupe::ops {

// Why there is no device to test on; empty = there is one.
inline std::string no_device() {
  int count = 0;
  const auto status = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (status != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(status);
  return count == 0 ? "no CUDA device" : "";
}

#define TROUPE_SKIP_WITHOUT_DEVICE() \
  if (const auto why = no_device(); !why.empty()) GTEST_SKIP() << why

// Numbers on the device; filled with a NaN's bits before, so that what an op leaves out shows.
template <class T>
class on_device {
 public:
  explicit on_device(std::size_t count)
      : count_(count), memory_(std::move(*cuda::device_memory::take(count * sizeof(T), "test"))) {
    EXPECT_EQ(cudaMemset(memory_.template as<void>(), 0xff, std::max<std::size_t>(count * sizeof(T), 1)),
              cudaSuccess);
  }
  explicit on_device(std::span<const T> values) : on_device(values.size()) {
    EXPECT_EQ(
        cudaMemcpy(memory_.template as<void>(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice),
        cudaSuccess);
  }
  explicit on_device(const std::vector<T>& values) : on_device(std::span<const T>(values)) {}

  T* data() const { return memory_.template as<T>(); }
  std::vector<T> read() const {
    std::vector<T> out(count_);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
    EXPECT_EQ(cudaMemcpy(out.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return out;
  }

 private:
  std::size_t count_;
  cuda::device_memory memory_;
};

struct device_matrix_of_floats {
  on_device<float> memory;
  std::size_t rows, width;
  explicit device_matrix_of_floats(const matrix& m) : memory(m.values), rows(m.rows), width(m.width) {}
  device_matrix_of_floats(std::size_t r, std::size_t w) : memory(r * w), rows(r), width(w) {}
  device_floats out() const { return {memory.data(), rows, width}; }
  device_inputs in() const { return {memory.data(), rows, width}; }
  matrix read() const {
    matrix m(rows, width);
    m.values = memory.read();
    return m;
  }
};

inline float rounded(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u);
}
inline matrix rounded(matrix m) {
  for (float& value : m.values) value = rounded(value);
  return m;
}
inline std::vector<std::uint16_t> bf16_of(const matrix& m) {
  std::vector<std::uint16_t> out;
  for (const float value : m.values) out.push_back(to_bf16(rounded(value)));
  return out;
}

// A weight on the device, bf16 or int8, and what its numbers are.
struct device_weight {
  on_device<std::uint16_t> halves;
  on_device<std::int8_t> bytes;
  on_device<float> scales;
  bool int8;
  matrix exact;  // what the device computes with
  device_weight(const matrix& m, bool as_int8)
      : halves(bf16_of(m)), bytes(m.values.size()), scales(m.rows), int8(as_int8), exact(rounded(m)) {
    if (!int8) return;
    cuda::to_int8(nullptr, bytes.data(), scales.data(), halves.data(), cuda::stored_as::bf16, m.rows,
                  m.width);
    const auto numbers = bytes.read();
    const auto factors = scales.read();
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const float value = factors[i / m.width] * static_cast<float>(numbers[i]);
      EXPECT_NEAR(value, exact.values[i], 0.5001f * factors[i / m.width]);
      exact.values[i] = value;
    }
  }
  device_matrix view() const {
    if (int8) return {bytes.data(), scales.data(), exact.rows, exact.width};
    return {halves.data(), nullptr, exact.rows, exact.width};
  }
  weight_matrix reference() const {
    return {DType::f32, reinterpret_cast<const std::byte*>(exact.values.data()), exact.rows, exact.width};
  }
};

// |a - b| / |b|; not a number if there is one anywhere.
inline double distance(const matrix& a, const matrix& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < b.values.size(); ++i) {
    difference += (double{a.values[i]} - b.values[i]) * (double{a.values[i]} - b.values[i]);
    size += double{b.values[i]} * b.values[i];
  }
  return std::sqrt(difference) / (std::sqrt(size) + 1e-30);
}
#define EXPECT_CLOSE(found, expected, most) EXPECT_LE(distance(found, expected), most)

inline device_limits limits_here() {
  cudaDeviceProp found = {};
  EXPECT_EQ(cudaGetDeviceProperties(&found, 0), cudaSuccess);
  return {found.multiProcessorCount, found.sharedMemPerBlockOptin};
}

class CudaOps : public ::testing::Test {
 protected:
  void SetUp() override { TROUPE_SKIP_WITHOUT_DEVICE(); }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
  }
  execution& context() { return context_; }
  thread_pool threads_{1};
  execution context_{threads_};
};

}  // namespace troupe::ops
