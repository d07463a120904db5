// What every module must do, ours and strangers': judged from outside, with the module's file and some config.json.
//
//   table     the cell opens it; its table is whole
//   programs  each configuration, and each of its neighbours, gives a Program that the verifier accepts or an error in the module's
//             own words; the same text gives the same bytes
//   mistakes  a mistake in a key that the module reads gives an error that names the key (mistakes_group.cpp says which mistakes)
//   laws      the Program's architecture is one of the module's table; an op uses each cache; each op computes something that another
//             op, a probe or the logits use. (Shapes and dtypes, ids, and that each weight is used, are the verifier's: `programs`)
//   weights   (with a checkpoint) the checkpoint has every weight of its Program
//   reference a small relative of the configuration, with random weights: fast operations agree with the plain ones
//   batches   the same bits for any cut into chunks, company, order and number of threads
//   states    nothing of one sequence, or of an earlier one, is found in another
//   guards    native ops write nothing but what they may, and all of it: outputs, states and workspace stand between pages that nobody may
//             touch. What an op does on its own heap shows under a sanitizer only: where its runtime is in the process (sandbox/cell/sanitized.hpp)
//             all of this runs unchanged, and a report fails the case
//
// What runs a module's native ops, or its Programs, does so in children of this process (in_a_child.hpp): an op that crashes or does not
// end is a failed case. Modules with native ops get that far only if they are trusted.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernel/base/result.hpp"
#include "kernel/modules/modules.hpp"
#include "sandbox/cell/cell.hpp"
#include "sandbox/conformance/report.hpp"

namespace troupe::conformance {

struct options {
  std::filesystem::path module;                     // the library
  std::vector<std::filesystem::path> configs;       // config.json files
  std::optional<std::filesystem::path> checkpoint;  // a folder; its config.json is one of the configurations
  std::filesystem::path backend;                    // libtroupe-cpu.so
  bool quick = false;  // only table, programs, laws and weights: nothing runs in this process or its children
                       // but cells. For a server, which has threads and must not fork
  std::filesystem::path cell = sandbox::installed_cell();
  // Of each build, and of each step of a small relative. The clock is generous: how long a thing takes depends on what else the machine
  // does.
  sandbox::cell_limits limits = {.wall = std::chrono::seconds(30), .cpu = std::chrono::seconds(10)};
  check::progress progress = [](std::string_view, std::size_t, std::size_t) {};
};

// Errors: those of store::load (the module is none, or gets no further than its table), not_found and bad_checkpoint for
// configurations. Whatever else is wrong is in the report. Without a configuration only `table` and a part of `mistakes` can be judged: the
// other groups cannot run, and that is not passed.
result<check::report> run(const options& o, const modules::store& store);

}  // namespace troupe::conformance
