// Dense products with many rows: cuBLASLt, opened at run time.
//
// The library (libcublasLt.so.13) is large and comes with CUDA; libtroupe-cuda.so does not link it. It is looked for where the
// loader looks, then in /usr/local/cuda/lib64.
#pragma once

#include <cstddef>
#include <memory>

#include "kernel/base/result.hpp"
#include "ops/device/cuda_view.hpp"

namespace troupe::ops::cuda {

class gemm {
 public:
  // Errors: not_found (no library; says where it was looked for), unsupported (another version), internal.
  static result<std::unique_ptr<gemm>> open();
  ~gemm();

  // y [T, M] f32 = x [T, N] bf16 · wᵀ, w [M, N] bf16. The plan for a shape is made once. Error: internal, unsupported (no algorithm).
  result<void> multiply(cudaStream_t stream, device_floats y, device_rows<const __nv_bfloat16> x,
                        const device_matrix& w);

 private:
  struct parts;
  explicit gemm(std::unique_ptr<parts> p);
  std::unique_ptr<parts> parts_;
};

}  // namespace troupe::ops::cuda
