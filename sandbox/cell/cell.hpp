// Runs a module's code in a child process without rights: to look at its table, and to build its Program. The caller's process
// never maps the library.
//
// The child, troupe-cell, locks itself in before the library is opened, so that even static initialisers run without rights:
// no file, no network, no process, no signal to others, bounded memory, time and output (lockdown.hpp says how). Whatever the
// module does ends in a cell_report or in a verdict; the caller only waits, at most limits::wall.
//
// Any thread, several at once: each call has a child of its own. The child dies with the calling thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "kernel/program/program.hpp"
#include "sandbox/cell/verdict.hpp"

namespace troupe::sandbox {

struct cell_limits {
  std::chrono::milliseconds wall = std::chrono::seconds(10);
  std::chrono::seconds cpu = std::chrono::seconds(5);
  std::uint64_t memory_bytes = std::uint64_t{512} << 20;  // address space; not kept where sanitized()
  std::uint64_t output_bytes = std::uint64_t{1} << 20;    // what it may write to stdout and stderr together
};

// An op that a module brings along. Names of what it takes, gives and keeps, in the order of its table.
struct native_op {
  std::string name;
  std::uint32_t version = 0;
  std::string summary;
  bool has_cuda = false;  // a CPU body it always has
  std::vector<std::string> inputs, outputs, weights, states;
};

// What a module says of itself. Texts are UTF-8 without control characters.
struct module_table {
  std::uint16_t abi_major = 0;
  std::uint16_t abi_minor = 0;
  std::string name, version, summary;
  std::vector<std::string> architectures;
  std::vector<native_op> native_ops;
};

struct cell_report {
  module_table table;
  std::optional<program::verified_program> program;  // if there was a configuration
  std::string
      walls;  // what stood around the cell: "seccomp; Landlock 7; own user, mount, network, ... namespaces"
  std::string output;  // the first bytes of what the module wrote to stdout and stderr
};

// `cell`: the program troupe-cell. `library`: a file that nobody changes meanwhile; it is opened here, read-only, and handed over
// as a descriptor. `config_json`: none = only look at the table. The Program that comes back has passed the verifier here;
// the shapes of its native ops have been checked by the module's own functions, in the cell.
tl::expected<cell_report, verdict> run_cell(const std::filesystem::path& cell,
                                            const std::filesystem::path& library,
                                            std::optional<std::string_view> config_json,
                                            const cell_limits& limits = {});

// Where an installation keeps troupe-cell: libexec/troupe beside the folder of the running program.
std::filesystem::path installed_cell();

}  // namespace troupe::sandbox
