#include "ops/backends/cuda/linear_group.hpp"

#include <algorithm>

#include "ops/backends/cuda/gemm.hpp"

namespace troupe::ops::cuda {
namespace {

constexpr std::size_t joined_from = 2;      // rows; one streams
constexpr std::size_t small_product = 256;  // rows or columns below which the library is not asked

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// Slices of at most `most` maps of one kind, in order.
template <class Go>
void in_slices(const std::vector<device_linear>& maps, std::size_t most, const Go& go) {
  for (std::size_t begin = 0; begin < maps.size();) {
    std::size_t end = begin + 1;
    while (end < maps.size() && end - begin < most && maps[end].weight.int8() == maps[begin].weight.int8())
      ++end;
    go(std::vector<device_linear>(maps.begin() + static_cast<std::ptrdiff_t>(begin),
                                  maps.begin() + static_cast<std::ptrdiff_t>(end)));
    begin = end;
  }
}

void launch_few(const step_frame& f, device_inputs in, const std::vector<device_linear>& maps) {
  in_slices(maps, linear_parts, [&](std::vector<device_linear> slice) {
    for (std::size_t first = 0; first < in.rows; first += few_rows) {
      const std::size_t rows = std::min(few_rows, in.rows - first);
      auto part = slice;
      for (auto& one : part) one.y = {one.y.data + first * one.y.width, rows, one.y.width};
      linear_few_cuda(f.stream, {in.data + first * in.width, rows, in.width}, part, f.limits);
    }
  });
}

// The input as bf16, for bf16 maps and for int8 ones; made when it is first asked for.
class rounded_input {
 public:
  rounded_input(const step_frame& f, device_inputs in) : f_(f), in_(in) {}
  device_rows<const __nv_bfloat16> get(bool for_int8) {
    auto*& own = made_[for_int8];
    if (own == nullptr) {
      const std::size_t before = for_int8 ? round_up(in_.rows * in_.width * sizeof(__nv_bfloat16)) : 0;
      own = reinterpret_cast<__nv_bfloat16*>(f_.workspace + before);
      to_bf16_cuda(f_.stream, own, in_, for_int8);
    }
    return {own, in_.rows, in_.width};
  }

 private:
  const step_frame& f_;
  device_inputs in_;
  __nv_bfloat16* made_[2] = {};
};

bool joins(const device_linear& map, std::size_t rows) {
  return rows >= joined_from && map.weight.int8() && linear_joined_serves(rows, map.weight.columns);
}

}  // namespace

std::size_t linear_group::workspace(std::size_t rows, std::size_t width) {
  return 2 * round_up(rows * width * sizeof(__nv_bfloat16));
}

result<void> linear_group::launch(const step_frame& f) const {
  const auto in = x.in(f);
  if (in.rows == 0) return {};
  std::vector<device_linear> few, joined;
  rounded_input rounded(f, in);
  for (const auto& m : maps) {
    const device_linear one{m.weight, m.bias, m.y.out(f)};
    if (m.exact) {
      linear_exact_cuda(f.stream, in, one);
    } else if (joins(one, in.rows)) {
      joined.push_back(one);
    } else if (in.rows <= few_rows || !linear_tiles_fit(m.weight)) {
      few.push_back(one);
    } else if (m.weight.int8() || m.weight.rows < small_product || m.weight.columns < small_product) {
      linear_tiles_cuda(f.stream, rounded.get(m.weight.int8()), one, f.limits);
    } else {
      if (auto done = f.products->multiply(f.stream, one.y, rounded.get(false), one.weight); !done)
        return done;
      if (m.bias != nullptr) add_bias_cuda(f.stream, one.y, m.bias);
    }
  }
  launch_few(f, in, few);
  in_slices(joined, linear_parts, [&](const std::vector<device_linear>& slice) {
    linear_joined_cuda(f.stream, rounded.get(true), slice, f.limits);
  });
  return {};
}

}  // namespace troupe::ops::cuda
