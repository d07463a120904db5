// What the cell writes on its answer pipe: frames, each a header and `bytes` bytes. All of it comes from a process that runs
// a stranger's code, so the reader believes nothing of it: sizes are bounded, texts are cleaned, the Program is verified. What comes
// before `opening` comes from the cell alone; nothing behind it can take that back, or go on as if the module had not been opened:
//
//   walls, stage opening, stage entry, table, stage building, program, finished
//
// A refusal ends this line anywhere; a fault may come at any time, where behind it. A frame out of its place is no answer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::sandbox {

enum class frame_kind : std::uint32_t {
  walls = 1,    // text: what stands around the cell, separated by "; "; once, before the module is opened
  stage = 2,    // one byte: cell_stage, sent when it begins; closing_in is not sent
  table = 3,    // wire::ModuleTable
  program = 4,  // the bytes that the module emitted
  refusal = 5,  // error_code as uint16, then text: why there is no table, or no Program
  fault = 6,    // fault_record, from a signal handler
  where = 7,    // text: the function of the module in which the fault happened; behind a fault
  finished = 8  // empty: the cell has done what it was asked
};

struct frame_header {
  std::uint32_t kind = 0;
  std::uint32_t bytes = 0;
};

// Where the cell is in the life of the module.
enum class cell_stage : std::uint8_t { closing_in = 0, opening = 1, entry = 2, building = 3 };

enum class fault_kind : std::uint32_t {
  signal = 1,          // `number`: the signal
  stack_overflow = 2,  // `number`: the signal
  forbidden_call = 3,  // `number`: the system call
  memory = 4,          // `number`: the bytes that were asked for last; 0 = not known
  cpu_time = 5         // the processor time is used up
};

struct fault_record {
  fault_kind kind{};
  std::uint32_t unused = 0;
  std::uint64_t number = 0;
};

// Descriptors of the cell.
inline constexpr int module_descriptor = 3;
inline constexpr int config_descriptor = 4;  // open only if there is a configuration to build for
inline constexpr int answer_descriptor = 5;

inline constexpr std::size_t max_text_bytes = 4096;                   // walls, refusal, where
inline constexpr std::size_t max_table_bytes = std::size_t{1} << 20;  // table

}  // namespace troupe::sandbox
