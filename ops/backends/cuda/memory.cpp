#include "ops/backends/cuda/memory.hpp"

#include <cuda.h>

#include <algorithm>
#include <utility>

#include "kernel/base/text.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {
namespace {

// The driver's functions for addresses without memory; found at run time, so that nothing links the driver.
struct driver_functions {
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) free = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuGetErrorString) error_string = nullptr;
  bool complete = true;

  driver_functions() {
    find("cuMemAddressReserve", reserve);
    find("cuMemAddressFree", free);
    find("cuMemCreate", create);
    find("cuMemRelease", release);
    find("cuMemMap", map);
    find("cuMemUnmap", unmap);
    find("cuMemSetAccess", set_access);
    find("cuMemGetAllocationGranularity", granularity);
    find("cuGetErrorString", error_string);
  }
  template <class Function>
  void find(const char* name, Function& to) {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult answer{};
    const auto status = cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &answer);
    if (status != cudaSuccess || answer != cudaDriverEntryPointSuccess) complete = false;
    to = reinterpret_cast<Function>(found);
  }
};

const driver_functions& driver() {
  static const driver_functions functions;
  return functions;
}

std::string text_of(CUresult status) {
  const char* text = nullptr;
  if (driver().error_string(status, &text) != CUDA_SUCCESS || text == nullptr) return std::to_string(status);
  return text;
}

CUmemAllocationProp properties() {
  CUmemAllocationProp wanted = {};
  wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) device = 0;
  wanted.location.id = device;
  return wanted;
}

}  // namespace

result<std::uint64_t> free_bytes() {
  std::size_t free = 0, total = 0;
  if (auto done = ok(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"); !done)
    return fail(std::move(done.error()));
  return free;
}

reserved_range::reserved_range(reserved_range&& other) noexcept {
  *this = std::move(other);
}

reserved_range& reserved_range::operator=(reserved_range&& other) noexcept {
  std::swap(address_, other.address_);
  std::swap(reserved_, other.reserved_);
  std::swap(page_, other.page_);
  std::swap(handle_, other.handle_);
  std::swap(mapped_, other.mapped_);
  std::swap(last_mapped_, other.last_mapped_);
  std::swap(what_, other.what_);
  return *this;
}

reserved_range::~reserved_range() {
  unmap();
  if (address_ != 0) driver().free(address_, reserved_);
}

result<reserved_range> reserved_range::reserve(std::uint64_t bytes, std::string_view what) {
  if (!driver().complete)
    return fail(error_code::unsupported, "CUDA: {}: the driver cannot map memory at reserved addresses",
                what);
  const auto wanted = properties();
  std::size_t page = 0;
  if (const auto status = driver().granularity(&page, &wanted, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
      status != CUDA_SUCCESS)
    return fail(error_code::unsupported, "CUDA: {}: cuMemGetAllocationGranularity: {}", what,
                text_of(status));
  reserved_range made;
  made.what_ = what;
  if (bytes > ~std::uint64_t{0} / 2)
    return fail(error_code::bad_config, "CUDA: {}: {}: more than the device can address", what,
                human_bytes(bytes));
  made.page_ = page;
  made.reserved_ = (std::max<std::uint64_t>(bytes, 1) + page - 1) / page * page;
  CUdeviceptr address = 0;
  if (const auto status = driver().reserve(&address, made.reserved_, 0, 0, 0); status != CUDA_SUCCESS)
    return fail(error_code::bad_config, "CUDA: {}: no addresses for {}: {}", what,
                human_bytes(made.reserved_), text_of(status));
  made.address_ = address;
  return made;
}

result<reserved_range> reserved_range::take(std::uint64_t bytes, std::string_view what) {
  auto made = reserve(bytes, what);
  if (!made) return made;
  if (auto mapped = made->map(bytes); !mapped) return fail(std::move(mapped.error()));
  return made;
}

result<void> reserved_range::map(std::uint64_t bytes) {
  unmap();
  if (bytes == 0) return {};
  const std::uint64_t wanted_bytes = (bytes + page_ - 1) / page_ * page_;
  const auto wanted = properties();
  CUmemGenericAllocationHandle handle = 0;
  if (const auto status = driver().create(&handle, wanted_bytes, &wanted, 0); status != CUDA_SUCCESS) {
    const auto left = free_bytes();
    return fail(error_code::bad_config, "CUDA: {}: {} wanted, {} free on the device: {}", what_,
                human_bytes(wanted_bytes), left ? human_bytes(*left) : "?", text_of(status));
  }
  CUmemAccessDesc access = {};
  access.location = wanted.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  auto status = driver().map(address_, wanted_bytes, 0, handle, 0);
  if (status == CUDA_SUCCESS) {
    status = driver().set_access(address_, wanted_bytes, &access, 1);
    if (status != CUDA_SUCCESS) driver().unmap(address_, wanted_bytes);
  }
  if (status != CUDA_SUCCESS) {
    driver().release(handle);
    return fail(error_code::internal, "CUDA: {}: cuMemMap of {}: {}", what_, human_bytes(wanted_bytes),
                text_of(status));
  }
  handle_ = handle;
  mapped_ = last_mapped_ = wanted_bytes;
  return {};
}

void reserved_range::unmap() {
  if (mapped_ == 0) return;
  driver().unmap(address_, mapped_);
  driver().release(handle_);
  mapped_ = 0;
}

result<device_memory> device_memory::take(std::uint64_t bytes, std::string_view what) {
  device_memory made;
  const auto status = cudaMalloc(&made.data_, std::max<std::uint64_t>(bytes, 256));
  if (status != cudaSuccess) {
    made.data_ = nullptr;
    (void)cudaGetLastError();
    const auto left = free_bytes();
    return fail(error_code::bad_config, "CUDA: {}: {} wanted, {} free on the device: {}", what,
                human_bytes(bytes), left ? human_bytes(*left) : "?", cudaGetErrorString(status));
  }
  made.bytes_ = bytes;
  return made;
}

device_memory::~device_memory() {
  if (data_ != nullptr) cudaFree(data_);
}

result<pinned_memory> pinned_memory::take(std::uint64_t bytes, std::string_view what) {
  pinned_memory made;
  if (auto done = ok(cudaMallocHost(&made.data_, std::max<std::uint64_t>(bytes, 256)), what); !done)
    return fail(std::move(done.error()));
  made.bytes_ = bytes;
  return made;
}

pinned_memory::~pinned_memory() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

}  // namespace troupe::ops::cuda
