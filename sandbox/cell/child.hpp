// The parent's side of one cell: starts it, collects what it says within its bounds, ends it. No judgement: see cell.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"
#include "sandbox/cell/cell.hpp"
#include "sandbox/cell/frames.hpp"

namespace troupe::sandbox {

// What a cell said before it ended. Nothing of it has been checked but sizes.
struct cell_answer {
  std::string walls;
  cell_stage stage = cell_stage::closing_in;
  std::optional<std::vector<std::uint8_t>> table, program;
  std::optional<error> refusal;
  std::optional<fault_record> fault;
  std::string where;
  bool finished = false;

  std::string output;  // the first bytes
  bool too_much_output = false;
  bool timed_out = false;
  bool broken = false;  // a frame of no known kind or size, or out of its place
  int status = 0;       // of waitpid()
};

// Error: the cell could not be started; the text says why.
result<cell_answer> ask_cell(const std::filesystem::path& cell, const std::filesystem::path& library,
                             std::optional<std::string_view> config_json, const cell_limits& limits);

}  // namespace troupe::sandbox
