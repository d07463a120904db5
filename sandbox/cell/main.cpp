// troupe-cell: opens one module without any rights and tells what it answers. Started by run_cell() (cell.hpp) and by nobody else:
//   troupe-cell <name of the library> <memory bytes> <cpu seconds> <pid of the parent>
//   descriptors: 0 /dev/null, 1 and 2 output, 3 the library, 4 config.json (may be closed: only look at the table), 5 the answer
#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "kernel/modules/call.hpp"
#include "kernel/modules/native_table.hpp"
#include "kernel/program/native_ops.hpp"
#include "sandbox/cell/answer.hpp"
#include "sandbox/cell/fault.hpp"
#include "sandbox/cell/lockdown.hpp"
#include "sandbox/cell/sanitized.hpp"
#include "troupe/schemas/cell_generated.h"

namespace troupe::sandbox {
namespace {

constexpr std::size_t max_string_bytes = 1024;  // of the table; longer ones are cut

// What a module may need beside libstdc++, libm, libgcc_s and libc, which the cell is linked with: names that older C libraries
// gave to parts of today's. Opened while files can still be opened; whatever else a module needs is not there for it.
constexpr const char* old_names[] = {"libpthread.so.0", "libdl.so.2", "librt.so.1"};

[[noreturn]] void refuse(const error& e) {
  std::string bytes(sizeof(std::uint16_t), '\0');
  const auto code = static_cast<std::uint16_t>(e.code);
  std::memcpy(bytes.data(), &code, sizeof code);
  send(frame_kind::refusal, bytes + e.text);
  ::_exit(2);
}

[[noreturn]] void refuse(const std::string& why) {
  refuse(error{error_code::internal, why});
}

std::optional<std::string> read_config() {
  struct stat status = {};
  if (::fstat(config_descriptor, &status) != 0) return std::nullopt;
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n =
        ::pread(config_descriptor, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (n <= 0) refuse("the configuration cannot be read");
    done += static_cast<std::size_t>(n);
  }
  ::close(config_descriptor);
  return text;
}

void close_in(const cell_arguments& arguments, pid_t parent) {
  prepare_sanitizer();
  for (const char* name : old_names) ::dlopen(name, RTLD_NOW | RTLD_GLOBAL);
  if (auto problem = watch_faults(arguments.library); !problem.empty()) refuse(problem);
  if (auto problem = limit_resources(arguments); !problem.empty()) refuse(problem);
  const std::string walls = leave_everything();
  if (::getppid() != parent) ::_exit(3);  // it died before the cell asked to die with it
  if (auto problem = install_filter(arguments); !problem.empty()) refuse(problem);
  send(frame_kind::walls, fmt::format("seccomp{}{}{}", walls.empty() ? "" : "; ", walls,
                                      sanitized() ? "; lowered for a sanitizer" : ""));
}

const troupe_module& open(const std::string& library) {
  send(cell_stage::opening);
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const std::string why = ::dlerror();
    const char* hint =
        why.find("cannot open shared object file") == why.npos ? ""
        : why.find("libasan") != why.npos
            ? " (troupe module check --address-sanitizer judges such a module; no server loads it)"
            : " (a module may need libstdc++, libm, libgcc_s and libc; link others statically)";
    refuse(error{error_code::bad_module, fmt::format("cannot be loaded: {}{}", why, hint)});
  }
  void* symbol = ::dlsym(handle, TROUPE_MODULE_ENTRY_NAME);
  if (symbol == nullptr)
    refuse(error{error_code::bad_module, "not a module: it does not export " TROUPE_MODULE_ENTRY_NAME});
  send(cell_stage::entry);
  const troupe_module* table = reinterpret_cast<troupe_module_entry_function>(symbol)();
  if (auto ok = modules::check_table(table); !ok) refuse(ok.error());
  return *table;
}

// Strings of a table, cut, as a FlatBuffer.
class table_writer {
 public:
  void write(const troupe_module& table, const std::vector<const troupe_native_op*>& ops) {
    std::vector<text> architectures;
    for (const char* const* name = table.architectures; *name != nullptr; ++name)
      architectures.push_back(add(*name));
    std::vector<flatbuffers::Offset<wire::NativeOp>> native;
    native.reserve(ops.size());
    for (const auto* op : ops) native.push_back(add(*op));
    const auto name = add(table.name), version = add(table.version), summary = add(table.summary);
    b_.Finish(wire::CreateModuleTable(b_, table.abi_major, table.abi_minor, name, version, summary,
                                      b_.CreateVector(architectures), b_.CreateVector(native)));
  }
  std::span<const std::uint8_t> bytes() const { return {b_.GetBufferPointer(), b_.GetSize()}; }

 private:
  using text = flatbuffers::Offset<flatbuffers::String>;

  text add(const char* from) { return b_.CreateString(from, ::strnlen(from, max_string_bytes)); }

  auto add(const troupe_native_value* values, std::uint32_t count) {
    std::vector<text> names;
    for (std::uint32_t i = 0; i < count; ++i) names.push_back(add(values[i].name));
    return b_.CreateVector(names);
  }

  flatbuffers::Offset<wire::NativeOp> add(const troupe_native_op& op) {
    const auto name = add(op.name), summary = add(op.summary);
    const auto inputs = add(op.inputs, op.input_count), outputs = add(op.outputs, op.output_count),
               weights = add(op.weights, op.weight_count), states = add(op.states, op.state_count);
    return wire::CreateNativeOp(b_, name, op.version, summary, op.cuda != nullptr, inputs, outputs, weights,
                                states);
  }

  flatbuffers::FlatBufferBuilder b_;
};

void send_table(const troupe_module& table, const std::vector<const troupe_native_op*>& ops) {
  table_writer writer;
  writer.write(table, ops);
  if (writer.bytes().size() > max_table_bytes)
    refuse(error{error_code::bad_module, fmt::format("its table has {} bytes of text, expected at most {}",
                                                     writer.bytes().size(), max_table_bytes)});
  send(frame_kind::table, writer.bytes());
}

// Only here can a native op be asked for its shapes without trust. What the verifier says is said again by the parent, which
// verifies for itself.
void check_ops(std::span<const std::uint8_t> bytes, const std::vector<const troupe_native_op*>& ops) {
  const auto program = program::verify(bytes);
  if (!program || !program::has_native_ops(**program)) return;
  if (auto ok = program::check_native_ops(**program, program::native_ops(ops, nullptr)); !ok)
    refuse(ok.error());
}

[[noreturn]] void run(const cell_arguments& arguments, const std::optional<std::string>& config) {
  const troupe_module& table = open(arguments.library);
  const auto ops = modules::read_native_ops(table);
  if (!ops) refuse(ops.error());
  send_table(table, *ops);
  if (config) {
    send(cell_stage::building);
    const auto program = modules::call_build(table, *config);
    if (!program) refuse(program.error());
    check_ops(*program, *ops);
    send(frame_kind::program, std::span<const std::uint8_t>(*program));
  }
  send(frame_kind::finished, std::string_view());
  ::_exit(0);  // no finaliser of the module runs
}

}  // namespace
}  // namespace troupe::sandbox

int main(int argc, char** argv) {
  using namespace troupe::sandbox;
  struct stat status = {};
  if (argc != 5 || ::fstat(answer_descriptor, &status) != 0 || !S_ISFIFO(status.st_mode)) {
    fmt::print(
        stderr,
        "troupe-cell runs a module's code without rights; troupe starts it. See troupe module inspect.\n");
    return 2;
  }
  const cell_arguments arguments = {argv[1], std::strtoull(argv[2], nullptr, 10),
                                    std::strtoull(argv[3], nullptr, 10)};
  const auto config = read_config();
  close_in(arguments, static_cast<pid_t>(std::strtol(argv[4], nullptr, 10)));
  run(arguments, config);
}
