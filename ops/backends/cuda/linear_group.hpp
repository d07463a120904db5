// Linear maps of one tensor: what of them can be one launch, is.
#pragma once

#include <vector>

#include "kernel/base/result.hpp"
#include "ops/backends/cuda/operand.hpp"
#include "ops/linear/linear_cuda.hpp"

namespace troupe::ops::cuda {

struct linear_group {
  operand x;
  struct map {
    operand y;
    device_matrix weight;
    const float* bias = nullptr;
    bool exact = false;  // a router's logits
  };
  std::vector<map> maps;

  // Which version of linear runs follows from the number of rows and the shapes. Errors: those of gemm.
  result<void> launch(const step_frame& f) const;

  // Bytes of f.workspace for rows of `width` numbers.
  static std::size_t workspace(std::size_t rows, std::size_t width);
};

}  // namespace troupe::ops::cuda
