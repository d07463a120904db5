// The cell's side of the answer pipe. Safe in signal handlers.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "sandbox/cell/frames.hpp"

namespace troupe::sandbox {

// Writes the whole frame; a pipe that is closed ends the process.
void send(frame_kind kind, std::span<const std::uint8_t> bytes) noexcept;
void send(frame_kind kind, std::string_view text) noexcept;  // cut to max_text_bytes
void send(cell_stage stage) noexcept;
void send(const fault_record& fault) noexcept;

}  // namespace troupe::sandbox
