#include "sandbox/cell/answer.hpp"

#include <unistd.h>

#include <cerrno>

namespace troupe::sandbox {

namespace {

void write_all(const void* from, std::size_t bytes) noexcept {
  const auto* at = static_cast<const std::uint8_t*>(from);
  while (bytes > 0) {
    const ssize_t n = ::write(answer_descriptor, at, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(1);  // nobody listens
    at += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

}  // namespace

void send(frame_kind kind, std::span<const std::uint8_t> bytes) noexcept {
  const frame_header header = {static_cast<std::uint32_t>(kind), static_cast<std::uint32_t>(bytes.size())};
  write_all(&header, sizeof header);
  write_all(bytes.data(), bytes.size());
}

void send(frame_kind kind, std::string_view text) noexcept {
  text = text.substr(0, max_text_bytes);
  send(kind, std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

void send(cell_stage stage) noexcept {
  const auto byte = static_cast<std::uint8_t>(stage);
  send(frame_kind::stage, std::span(&byte, 1));
}

void send(const fault_record& fault) noexcept {
  send(frame_kind::fault, std::span(reinterpret_cast<const std::uint8_t*>(&fault), sizeof fault));
}

}  // namespace troupe::sandbox
