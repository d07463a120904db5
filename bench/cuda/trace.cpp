#include "bench/cuda/trace.hpp"

#include <cuda_runtime_api.h>
#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>

namespace troupe::bench {
namespace {

struct library {
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush = nullptr;
  decltype(&cuptiActivityGetNextRecord) next = nullptr;
  std::string problem;

  library() {
    void* handle = nullptr;
    for (const char* name : {"libcupti.so.13", "/usr/local/cuda/lib64/libcupti.so.13",
                             "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so.13"})
      if (handle == nullptr) handle = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      problem = "libcupti.so.13 is not there";
      return;
    }
    const auto find = [&](const char* name, auto& to) {
      to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(::dlsym(handle, name));
      if (to == nullptr) problem = std::string("libcupti.so.13 has no ") + name;
    };
    find("cuptiActivityRegisterCallbacks", register_callbacks);
    find("cuptiActivityEnable", enable);
    find("cuptiActivityDisable", disable);
    find("cuptiActivityFlushAll", flush);
    find("cuptiActivityGetNextRecord", next);
  }
};

library& cupti() {
  static library opened;
  return opened;
}

std::mutex guard;
std::vector<activity> seen;

constexpr std::size_t buffer_bytes = std::size_t{8} << 20;

void give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(8, buffer_bytes));
  *size = *buffer == nullptr ? 0 : buffer_bytes;
  *records = 0;
}

// "void a::b::(anonymous namespace)::tiles<4, true>(int*)" -> "tiles<4, true>"
std::string short_name(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  std::string name = status == 0 ? text.get() : mangled;
  for (const char* part : {"(anonymous namespace)::", "troupe::ops::cuda::", "troupe::ops::",
                           "troupe::jamba::", "troupe::", "void "})
    for (auto at = name.find(part); at != name.npos; at = name.find(part))
      name.erase(at, std::string_view(part).size());
  int depth = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    depth += name[i] == '<' ? 1 : name[i] == '>' ? -1 : 0;
    if (name[i] == '(' && depth == 0) name.resize(i);
  }
  if (name.size() > 56) name.resize(56);
  return name;
}

void note(const CUpti_Activity& record) {
  if (record.kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
    const auto& k = reinterpret_cast<const CUpti_ActivityKernel10&>(record);
    seen.push_back({short_name(k.name), k.start, k.end, false});
  } else if (record.kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
    const auto& m = reinterpret_cast<const CUpti_ActivityMemcpy6&>(record);
    const bool to_host = m.copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_DTOH;
    seen.push_back({to_host ? "copy to host" : "copy to device", m.start, m.end, to_host});
  } else if (record.kind == CUPTI_ACTIVITY_KIND_MEMSET) {
    const auto& m = reinterpret_cast<const CUpti_ActivityMemset4&>(record);
    seen.push_back({"fill", m.start, m.end, false});
  }
}

void take_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t, std::size_t valid) {
  const std::lock_guard lock(guard);
  CUpti_Activity* record = nullptr;
  while (valid > 0 && cupti().next(buffer, valid, &record) == CUPTI_SUCCESS) note(*record);
  std::free(buffer);
}

constexpr CUpti_ActivityKind kinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
                                        CUPTI_ACTIVITY_KIND_MEMSET};

}  // namespace

result<void> start_trace() {
  auto& lib = cupti();
  if (!lib.problem.empty()) return fail(error_code::not_found, "CUPTI: {}", lib.problem);
  seen.clear();
  if (const auto status = lib.register_callbacks(give_buffer, take_buffer); status != CUPTI_SUCCESS)
    return fail(error_code::internal, "CUPTI: cuptiActivityRegisterCallbacks: {}", static_cast<int>(status));
  for (const auto kind : kinds)
    if (const auto status = lib.enable(kind); status != CUPTI_SUCCESS)
      return fail(error_code::internal, "CUPTI: cuptiActivityEnable({}): {}", static_cast<int>(kind),
                  static_cast<int>(status));
  return {};
}

result<std::vector<activity>> stop_trace() {
  auto& lib = cupti();
  (void)cudaDeviceSynchronize();
  const auto status = lib.flush(1);
  for (const auto kind : kinds) (void)lib.disable(kind);
  if (status != CUPTI_SUCCESS)
    return fail(error_code::internal, "CUPTI: cuptiActivityFlushAll: {}", static_cast<int>(status));
  const std::lock_guard lock(guard);
  std::sort(seen.begin(), seen.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return std::move(seen);
}

}  // namespace troupe::bench
