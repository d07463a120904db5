// Memory of the device and pinned memory of the host, owned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "kernel/base/result.hpp"

namespace troupe::ops::cuda {

// What a plan leaves free on a device for what the driver takes by itself.
inline constexpr std::uint64_t driver_reserve = std::uint64_t{256} << 20;

// Bytes of the current device that nobody has.
result<std::uint64_t> free_bytes();

// A range of device addresses that keeps its place while memory behind it comes and goes: for what captured graphs point to.
// Whole pages of the driver's (2 MiB).
class reserved_range {
 public:
  reserved_range() = default;
  reserved_range(reserved_range&& other) noexcept;
  reserved_range& operator=(reserved_range&& other) noexcept;
  ~reserved_range();

  // Reserves addresses for that many bytes; no memory yet. Error: bad_config (no such addresses), unsupported (the device cannot).
  static result<reserved_range> reserve(std::uint64_t bytes, std::string_view what);
  // With memory behind all of it.
  static result<reserved_range> take(std::uint64_t bytes, std::string_view what);
  // Puts memory behind the first `bytes` of the range. Error: bad_config, with what is free.
  result<void> map(std::uint64_t bytes);
  // Gives the memory back; the addresses stay. Whoever uses them has finished.
  void unmap();
  // Other memory behind what had some before unmap(). Error: as map().
  result<void> map_again() { return map(last_mapped_); }

  char* data() const { return reinterpret_cast<char*>(address_); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(address_);
  }
  std::uint64_t bytes() const { return mapped_; }            // with memory behind them
  std::uint64_t last_bytes() const { return last_mapped_; }  // that had memory behind them last

 private:
  std::uint64_t address_ = 0, reserved_ = 0, mapped_ = 0, last_mapped_ = 0, page_ = 0;
  unsigned long long handle_ = 0;
  std::string_view what_;
};

// Device memory that is given back with its owner.
class device_memory {
 public:
  device_memory() = default;
  device_memory(device_memory&& other) noexcept { *this = std::move(other); }
  device_memory& operator=(device_memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~device_memory();

  static result<device_memory> take(std::uint64_t bytes, std::string_view what);
  template <class T = char>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// Pinned host memory: the device copies from and to it by itself.
class pinned_memory {
 public:
  pinned_memory() = default;
  pinned_memory(pinned_memory&& other) noexcept { *this = std::move(other); }
  pinned_memory& operator=(pinned_memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~pinned_memory();

  static result<pinned_memory> take(std::uint64_t bytes, std::string_view what);
  template <class T = char>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace troupe::ops::cuda
