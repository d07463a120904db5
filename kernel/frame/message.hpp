// message<T>: a typed, ref-counted, immutable FlatBuffer whose root table is T.
//
// In a process it is handed on without copying: a copy of the handle is one atomic increment, and the same
// bytes go to a socket. Bytes from outside become a message only through `adopt_untrusted`, which runs the FlatBuffers
// verifier once; messages built here are trusted. Handles may be used from any thread.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "kernel/base/limits.hpp"
#include "kernel/base/result.hpp"

namespace troupe {

template <class T>
class message {
 public:
  using table_type = T;

  message() = default;  // empty: get() is null

  // Takes over what a builder has finished. Trusted.
  static message adopt(flatbuffers::DetachedBuffer buffer) {
    auto owner = std::make_shared<flatbuffers::DetachedBuffer>(std::move(buffer));
    message m;
    m.size_ = owner->size();
    m.data_ = std::shared_ptr<const std::uint8_t>(owner, owner->data());
    return m;
  }

  // Finishes `builder` with `root`. Trusted.
  static message finish(flatbuffers::FlatBufferBuilder& builder, flatbuffers::Offset<T> root) {
    builder.Finish(root);
    return adopt(builder.Release());
  }

  // From a generated object (FlatBuffers object API). Trusted; for messages that are not on the token path.
  template <class Native>
  static message pack(const Native& native) {
    flatbuffers::FlatBufferBuilder builder(256);
    return finish(builder, T::Pack(builder, &native));
  }

  // Copies bytes from outside (their alignment is unknown) and verifies them once. Error: invalid_frame.
  // FlatBuffers' verifier aligns a vector's length, but not elements of 8 bytes. No message of the client protocol has such
  // a vector (a test keeps that); those of the actors come from this program's own builders.
  static result<message> adopt_untrusted(std::span<const std::uint8_t> bytes) {
    if (bytes.size() < 8 || bytes.size() > max_flatbuffer_bytes)
      return fail(error_code::invalid_frame, "{}: {} bytes, expected 8 to {}", T::GetFullyQualifiedName(),
                  bytes.size(), max_flatbuffer_bytes);
    std::shared_ptr<std::uint8_t[]> copy(new std::uint8_t[bytes.size()]);
    std::memcpy(copy.get(), bytes.data(), bytes.size());
    flatbuffers::Verifier verifier(copy.get(), bytes.size(), 32, 1'000'000);
    if (!verifier.VerifyBuffer<T>(nullptr))
      return fail(error_code::invalid_frame, "not a valid {} message ({} bytes)", T::GetFullyQualifiedName(),
                  bytes.size());
    message m;
    m.size_ = bytes.size();
    m.data_ = std::shared_ptr<const std::uint8_t>(copy, copy.get());
    return m;
  }

  const T* get() const { return data_ ? flatbuffers::GetRoot<T>(data_.get()) : nullptr; }
  const T& operator*() const { return *get(); }
  const T* operator->() const { return get(); }
  explicit operator bool() const { return data_ != nullptr; }

  std::span<const std::uint8_t> bytes() const { return {data_.get(), size_}; }

 private:
  std::shared_ptr<const std::uint8_t> data_;
  std::size_t size_ = 0;
};

}  // namespace troupe
