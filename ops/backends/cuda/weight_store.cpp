#include "ops/backends/cuda/weight_store.hpp"

#include <algorithm>
#include <cstring>

#include "kernel/program/program.hpp"
#include "ops/backends/cuda/convert.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {
namespace {

constexpr std::uint64_t stage_bytes = std::uint64_t{32} << 20;

std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

stored_as stored_form(program::DType dtype) {
  if (dtype == program::DType::f32) return stored_as::f32;
  return dtype == program::DType::f16 ? stored_as::f16 : stored_as::bf16;
}

// Two pinned buffers and, for what is converted, two on the device; each pair is free again when its event has passed.
class stager {
 public:
  static result<stager> open(cudaStream_t stream) {
    stager made;
    made.stream_ = stream;
    for (auto& one : made.buffers_) {
      auto host = pinned_memory::take(stage_bytes, "cudaMallocHost of a buffer for loading");
      if (!host) return fail(std::move(host.error()));
      auto device = device_memory::take(stage_bytes, "buffer for loading");
      if (!device) return fail(std::move(device.error()));
      one.host = std::move(*host);
      one.device = std::move(*device);
      if (auto done = ok(cudaEventCreateWithFlags(&one.free, cudaEventDisableTiming), "cudaEventCreate");
          !done)
        return fail(std::move(done.error()));
    }
    return made;
  }
  stager(stager&& other) noexcept : stream_(other.stream_), turn_(other.turn_) {
    for (int i = 0; i < 2; ++i) {
      buffers_[i].host = std::move(other.buffers_[i].host);
      buffers_[i].device = std::move(other.buffers_[i].device);
      buffers_[i].free = std::exchange(other.buffers_[i].free, nullptr);
    }
  }
  ~stager() {
    for (auto& one : buffers_)
      if (one.free != nullptr) cudaEventDestroy(one.free);
  }

  // Numbers that `make` writes, at most stage_bytes of them: to `direct`, or, if that is null, to a buffer that `convert` reads.
  template <class Make, class Convert>
  result<void> make(const Make& make_at, void* direct, const Convert& convert) {
    void* to = direct != nullptr ? direct : buffers_[0].device.as<void>();
    make_at(to);
    if (direct == nullptr) convert(to);
    return ok(cudaGetLastError(), "making weights up");
  }

  // At most stage_bytes from the host to the device, likewise.
  template <class Convert>
  result<void> pass(const std::byte* from, std::uint64_t bytes, void* direct, const Convert& convert) {
    auto& one = buffers_[turn_];
    turn_ = 1 - turn_;
    if (auto done = ok(cudaEventSynchronize(one.free), "cudaEventSynchronize while loading"); !done)
      return done;
    std::memcpy(one.host.as(), from, bytes);
    void* to = direct != nullptr ? direct : one.device.as<void>();
    if (auto done = ok(cudaMemcpyAsync(to, one.host.as(), bytes, cudaMemcpyHostToDevice, stream_),
                       "cudaMemcpyAsync of weights");
        !done)
      return done;
    if (direct == nullptr) convert(one.device.as<void>());
    if (auto done = ok(cudaGetLastError(), "conversion of weights"); !done) return done;
    return ok(cudaEventRecord(one.free, stream_), "cudaEventRecord while loading");
  }

 private:
  stager() = default;
  struct buffer {
    pinned_memory host;
    device_memory device;
    cudaEvent_t free = nullptr;
  };
  cudaStream_t stream_ = nullptr;
  buffer buffers_[2];
  int turn_ = 0;
};

}  // namespace

result<weight_store> weight_store::open(const program::Program& program,
                                        const std::vector<checkpoint::bound_weight>& bound, bool int8) {
  weight_store made;
  made.program_ = &program;
  made.bound_ = &bound;
  made.int8_ = int8;
  made.take(256);                // no place has the offset 0
  std::uint64_t most = 1 << 20;  // addresses cost nothing: room for every weight in each form
  for (const auto& weight : bound)
    most += weight.planes.size() *
            (2 * round_up(weight.rows * weight.columns * 4) + 2 * round_up(weight.rows * 4) + 4096);
  auto range = reserved_range::reserve(most, "weights");
  if (!range) return fail(std::move(range.error()));
  made.range_ = std::move(*range);
  return made;
}

std::uint64_t weight_store::take(std::uint64_t bytes) {
  const std::uint64_t at = next_;
  next_ += round_up(bytes);
  return at;
}

weight_store::place& weight_store::at(std::uint32_t weight, form as, bool with_pointers) {
  const auto& bound = (*bound_)[weight];
  const std::uint64_t numbers = bound.rows * bound.columns, planes = bound.planes.size();
  auto [found, fresh] = places_.try_emplace({weight, as});
  place& own = found->second;
  if (fresh) {
    const std::uint64_t element = as == form::int8   ? 1
                                  : as == form::bf16 ? 2
                                  : as == form::f32  ? 4
                                                     : program::size_of(bound.dtype);
    own.stride = round_up(numbers * element);
    own.data = take(planes * own.stride);
    if (as == form::int8) {
      own.scale_stride = round_up(bound.rows * 4);
      own.scales = take(planes * own.scale_stride);
    }
  }
  if (with_pointers && own.pointers == 0) {
    own.pointers = take(planes * sizeof(void*));
    if (as == form::int8) own.scale_pointers = take(planes * sizeof(void*));
  }
  return own;
}

device_matrix weight_store::matrix(std::uint32_t weight, bool exact) {
  const bool int8 = int8_ && !exact && program_->weights()->Get(weight)->quantizable();
  const auto& own = at(weight, int8 ? form::int8 : form::bf16, false);
  const auto& bound = (*bound_)[weight];
  return {range_.data() + own.data,
          int8 ? reinterpret_cast<const float*>(range_.data() + own.scales) : nullptr, bound.rows,
          bound.columns};
}

const float* weight_store::vector(std::uint32_t weight) {
  return reinterpret_cast<const float*>(range_.data() + at(weight, form::f32, false).data);
}

device_planes weight_store::planes(std::uint32_t weight) {
  const bool int8 = int8_ && program_->weights()->Get(weight)->quantizable();
  const auto& own = at(weight, int8 ? form::int8 : form::bf16, true);
  return {reinterpret_cast<const void* const*>(range_.data() + own.pointers),
          int8 ? reinterpret_cast<const float* const*>(range_.data() + own.scale_pointers) : nullptr,
          {range_.data() + own.data, own.stride}};
}

const void* const* weight_store::stored(std::uint32_t weight) {
  return reinterpret_cast<const void* const*>(range_.data() + at(weight, form::stored, true).pointers);
}

result<void> weight_store::write_pointers(cudaStream_t stream, const place& where, std::size_t planes,
                                          bool scales) {
  std::vector<const void*> pointers;
  for (std::size_t i = 0; i < planes; ++i)
    pointers.push_back(range_.data() +
                       (scales ? where.scales + i * where.scale_stride : where.data + i * where.stride));
  return ok(cudaMemcpyAsync(range_.data() + (scales ? where.scale_pointers : where.pointers), pointers.data(),
                            pointers.size() * sizeof(void*), cudaMemcpyHostToDevice, stream),
            "cudaMemcpyAsync of pointers");
}

std::uint64_t weight_store::stored_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [key, where] : places_) {
    const auto& bound = (*bound_)[key.first];
    total += bound.planes.size() * bound.rows * bound.columns * program::size_of(bound.dtype);
  }
  return total;
}

// Fills plane `plane` of a weight in pieces that the stage holds; `tell` hears the bytes of each.
template <class Stage, class Tell>
result<void> weight_store::fill(Stage& stage, cudaStream_t stream, std::uint32_t weight, form as,
                                const place& where, std::size_t plane, const Tell& tell) {
  const auto& bound = (*bound_)[weight];
  const auto dtype = stored_form(bound.dtype);
  const std::uint64_t element = program::size_of(bound.dtype);
  const std::uint64_t unit = as == form::int8 ? bound.columns : 1;  // numbers that stay together
  if (unit * element > stage_bytes)
    return fail(error_code::unsupported,
                "weight {}: rows of {} numbers, the cuda backend loads up to {} bytes of one at once",
                program_->weights()->Get(weight)->name()->str(), bound.columns, stage_bytes);
  const std::uint64_t step = stage_bytes / (unit * element) * unit, numbers = bound.rows * bound.columns;
  char* to = range_.data() + where.data + plane * where.stride;
  auto* scales = reinterpret_cast<float*>(range_.data() + where.scales + plane * where.scale_stride);
  const bool as_it_is = as == form::stored || (as == form::bf16 && dtype == stored_as::bf16) ||
                        (as == form::f32 && dtype == stored_as::f32);
  for (std::uint64_t first = 0; first < numbers; first += step) {
    const std::uint64_t count = std::min(step, numbers - first);
    const auto convert = [&](const void* from) {
      if (as == form::bf16)
        return to_bf16(stream, reinterpret_cast<__nv_bfloat16*>(to) + first, from, dtype, count);
      if (as == form::f32) return to_f32(stream, reinterpret_cast<float*>(to) + first, from, dtype, count);
      to_int8(stream, reinterpret_cast<std::int8_t*>(to) + first, scales + first / bound.columns, from, dtype,
              count / bound.columns, bound.columns);
    };
    const auto make = [&](void* at) {
      make_up(stream, static_cast<__nv_bfloat16*>(at), *bound.synthetic, plane, first, count);
    };
    void* direct = as_it_is ? to + first * element : nullptr;
    auto passed = bound.synthetic
                      ? stage.make(make, direct, convert)
                      : stage.pass(bound.planes[plane] + first * element, count * element, direct, convert);
    if (!passed) return passed;
    tell(count * element);
  }
  return {};
}

result<void> weight_store::load(cudaStream_t stream, const progress& tell) {
  if (auto done = range_.map(next_); !done) return done;
  auto stage = stager::open(stream);
  if (!stage) return fail(std::move(stage.error()));
  const std::uint64_t total = stored_bytes();
  std::uint64_t done_bytes = 0;
  const auto passed = [&](std::uint64_t bytes) {
    done_bytes += bytes;
    if (tell) tell(done_bytes, total);
  };
  for (const auto& [key, where] : places_) {
    const std::size_t planes = (*bound_)[key.first].planes.size();
    for (std::size_t plane = 0; plane < planes; ++plane)
      if (auto done = fill(*stage, stream, key.first, key.second, where, plane, passed); !done) return done;
    if (where.pointers != 0)
      if (auto written = write_pointers(stream, where, planes, false); !written) return written;
    if (where.scale_pointers != 0)
      if (auto written = write_pointers(stream, where, planes, true); !written) return written;
  }
  return ok(cudaStreamSynchronize(stream), "loading of weights");
}

}  // namespace troupe::ops::cuda
