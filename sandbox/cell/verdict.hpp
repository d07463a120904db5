// Why a module did not get through the cell.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kernel/base/result.hpp"
#include "sandbox/cell/frames.hpp"

namespace troupe::sandbox {

enum class verdict_kind : std::uint8_t {
  crashed,          // a signal ended it
  timed_out,        // wall or processor time
  out_of_memory,    // more address space than it may have
  forbidden_call,   // a system call that the cell does not allow
  exited,           // ended its process itself
  too_much_output,  // wrote more to stdout and stderr than it may
  bad_library,      // the loader refuses it, or it has no entry function
  bad_abi,          // its table is of another major version, too small or incomplete
  bad_config,       // the module refuses the configuration: its own words
  unsupported,      // the same: known, but not built by this module
  failed_build,     // the build failed, or broke a rule of the interface
  bad_program,      // what the verifier says
  broken_answer,    // the cell's answer makes no sense: the module has meddled with it
  not_started       // the cell could not be started: nothing is known of the module
};

struct verdict {
  verdict_kind kind{};
  cell_stage stage{};    // in which it ended
  int signal = 0;        // crashed
  int exit_code = 0;     // exited
  std::string call;      // forbidden_call: "socket"; empty: it forged a signal frame to hide it
  std::string function;  // of the module, in which it ended; empty = not known
  std::string
      text;  // for people, without the module's name: "crashed: segmentation fault in boom() during the build"
  std::string walls;   // as in cell_report
  std::string output;  // as in cell_report
};

// "crashed", "timed out", ...: for tables.
std::string_view name_of(verdict_kind kind);

// The error that a caller passes on. `file` and `who` ("module mixtral 1.0.0"; empty = not known yet) name the culprit.
error to_error(const verdict& v, const std::string& file, const std::string& who);

}  // namespace troupe::sandbox
