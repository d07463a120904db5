// What is written for the device in pinned memory: the same bytes as they will stand there, sent in a few copies.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "ops/backends/cuda/memory.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {

class step_image {
 public:
  // Begins anew: for places from `to` on, at most `bytes` of them. The device has done with `through`, which grows if need be.
  result<void> begin(pinned_memory& through, char* to, std::size_t bytes) {
    if (through.bytes() < bytes) {
      through = {};
      auto memory = pinned_memory::take(bytes, "cudaMallocHost for what steps send");
      if (!memory) return fail(std::move(memory.error()));
      through = std::move(*memory);
    }
    from_ = through.as();
    to_ = to;
    pieces_.clear();
    return {};
  }

  // Room for the `count` numbers at `place`; the caller fills it. Places come in ascending order.
  template <class T>
  std::span<T> at(T* place, std::size_t count) {
    const auto begin = static_cast<std::size_t>(reinterpret_cast<char*>(place) - to_);
    const std::size_t end = begin + count * sizeof(T);
    if (count == 0) return {};
    if (!pieces_.empty() && begin - pieces_.back().end <= near)
      pieces_.back().end = end;
    else
      pieces_.push_back({begin, end});
    return {reinterpret_cast<T*>(from_ + begin), count};
  }
  template <class T, class Values>
  void put(T* place, const Values& values) {
    std::copy(values.begin(), values.end(), at(place, values.size()).begin());
  }

  result<void> send(cudaStream_t stream) const {
    for (const auto& p : pieces_)
      if (auto done = ok(cudaMemcpyAsync(to_ + p.begin, from_ + p.begin, p.end - p.begin,
                                         cudaMemcpyHostToDevice, stream),
                         "cudaMemcpyAsync of a step's inputs");
          !done)
        return done;
    return {};
  }

 private:
  static constexpr std::size_t near = 4096;  // a gap that costs less than another copy
  struct piece {
    std::size_t begin, end;
  };
  char *from_ = nullptr, *to_ = nullptr;
  std::vector<piece> pieces_;
};

}  // namespace troupe::ops::cuda
