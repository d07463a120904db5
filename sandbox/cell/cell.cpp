// Judges what a cell said and how it ended.
#include "sandbox/cell/cell.hpp"

#include <seccomp.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "kernel/base/clean_text.hpp"
#include "sandbox/cell/child.hpp"
#include "troupe/schemas/cell_generated.h"

namespace troupe::sandbox {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_name_bytes = 512;

const char* during(cell_stage stage) {
  switch (stage) {
    case cell_stage::opening:
      return "while it was opened (static initialisers)";
    case cell_stage::entry:
      return "in troupe_module_entry";
    case cell_stage::building:
      return "during the build";
    default:
      return "before it was opened";
  }
}

std::string call_name(std::uint64_t number) {
  const std::unique_ptr<char, decltype(&std::free)> name(
      seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number)), &std::free);
  return name ? name.get() : fmt::format("number {}", number);
}

std::string signal_name(int number) {
  const char* words = ::sigdescr_np(number);
  const char* name = ::sigabbrev_np(number);
  return words && name ? fmt::format("{} (SIG{})", words, name) : fmt::format("signal {}", number);
}

class judge {
 public:
  judge(const cell_answer& answer, const cell_limits& limits) : a_(answer), limits_(limits) {
    v_.stage = a_.stage;
    v_.function = clean_text(a_.where, max_name_bytes);
    v_.walls = clean_text(a_.walls, max_text_bytes);
    v_.output = clean_text(a_.output, a_.output.size());
  }

  verdict broken(const char* what) const {
    return as(verdict_kind::broken_answer,
              fmt::format("answers what the cell does not say ({}): the module has meddled with it", what));
  }

  verdict bad_program(const error& e) const {
    return as(verdict_kind::bad_program, clean_text(e.text, max_text_bytes));
  }

  // None = it ended as it should.
  std::optional<verdict> of_the_end() const {
    if (a_.too_much_output)
      return as(verdict_kind::too_much_output,
                fmt::format("wrote more than {} bytes to its output {}", limits_.output_bytes, place()));
    if (a_.broken) return broken("a frame of no known kind or size, or out of its place");
    if (a_.fault) return of_fault(*a_.fault);
    if (a_.timed_out) return timed_out();
    if (WIFSIGNALED(a_.status)) return of_signal(WTERMSIG(a_.status));
    if (a_.refusal) return of_refusal(*a_.refusal);
    if (a_.finished) return std::nullopt;
    return exited(WEXITSTATUS(a_.status));
  }

 private:
  verdict as(verdict_kind kind, std::string text) const {
    verdict v = v_;
    v.kind = kind;
    v.text = std::move(text);
    return v;
  }

  std::string place() const {
    return v_.function.empty() ? during(a_.stage) : fmt::format("in {} {}", v_.function, during(a_.stage));
  }

  verdict timed_out() const {
    return as(verdict_kind::timed_out,
              fmt::format("did not end within {} s, stopped {}",
                          static_cast<double>(limits_.wall.count()) / 1000, place()));
  }

  verdict of_fault(const fault_record& fault) const {
    switch (fault.kind) {
      case fault_kind::forbidden_call: {
        auto v = as(verdict_kind::forbidden_call, "");
        v.call = call_name(fault.number);
        v.text = fmt::format("called {}, which a module may not, {}", v.call, place());
        return v;
      }
      case fault_kind::memory:
        return as(
            verdict_kind::out_of_memory,
            fmt::format("needs more than {} MiB of memory{}, {}", limits_.memory_bytes >> 20,
                        fault.number == 0 ? "" : fmt::format(" (asked for {} bytes at once)", fault.number),
                        place()));
      case fault_kind::cpu_time:
        return as(verdict_kind::timed_out,
                  fmt::format("used {} s of processor time, stopped {}", limits_.cpu.count(), place()));
      case fault_kind::stack_overflow:
      case fault_kind::signal:
        return of_signal(static_cast<int>(fault.number), fault.kind == fault_kind::stack_overflow);
    }
    return broken("a fault of no known kind");
  }

  verdict of_signal(int number, bool stack = false) const {
    if (number == SIGSYS)
      return as(verdict_kind::forbidden_call,
                fmt::format("made a forbidden system call and hid which, {}", place()));
    if (number == SIGKILL)  // by the limit of processor time, or by the system
      return as(verdict_kind::timed_out,
                fmt::format("was killed for its use of the processor or of memory, {}", place()));
    auto v = as(verdict_kind::crashed, fmt::format("crashed: {}{}, {}", signal_name(number),
                                                   stack ? ", its stack is used up" : "", place()));
    v.signal = number;
    return v;
  }

  verdict of_refusal(const error& e) const {
    const std::string text = clean_text(e.text, max_text_bytes);
    if (a_.stage == cell_stage::closing_in) return as(verdict_kind::not_started, text);
    if (a_.stage == cell_stage::opening) return as(verdict_kind::bad_library, text);
    if (a_.stage == cell_stage::entry) return as(verdict_kind::bad_abi, text);
    if (e.code == error_code::bad_checkpoint) return as(verdict_kind::bad_config, text);
    if (e.code == error_code::bad_program) return as(verdict_kind::bad_program, text);
    if (e.code == error_code::unsupported) return as(verdict_kind::unsupported, text);
    return as(verdict_kind::failed_build, text);
  }

  verdict exited(int code) const {
    if (a_.stage == cell_stage::closing_in)
      return as(verdict_kind::not_started,
                fmt::format("the cell ended with code {} before the module was opened", code));
    auto v = as(verdict_kind::exited, fmt::format("ended its own process with code {} {}", code, place()));
    v.exit_code = code;
    return v;
  }

  const cell_answer& a_;
  const cell_limits& limits_;
  verdict v_;
};

std::string text(const flatbuffers::String* s) {
  return clean_text(s->string_view(), max_name_bytes);
}

std::vector<std::string> texts(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* all) {
  std::vector<std::string> out;
  for (const auto* one : *all) out.push_back(text(one));
  return out;
}

std::optional<module_table> read_table(const std::vector<std::uint8_t>& bytes) {
  flatbuffers::Verifier verifier(bytes.data(), bytes.size());
  if (!verifier.VerifyBuffer<wire::ModuleTable>(nullptr)) return std::nullopt;
  const auto& from = *flatbuffers::GetRoot<wire::ModuleTable>(bytes.data());
  module_table table = {from.abi_major(),
                        from.abi_minor(),
                        text(from.name()),
                        text(from.version()),
                        text(from.summary()),
                        texts(from.architectures()),
                        {}};
  for (const auto* op : *from.native_ops())
    table.native_ops.push_back({text(op->name()), op->version(), text(op->summary()), op->has_cuda(),
                                texts(op->inputs()), texts(op->outputs()), texts(op->weights()),
                                texts(op->states())});
  return table;
}

}  // namespace

tl::expected<cell_report, verdict> run_cell(const fs::path& cell, const fs::path& library,
                                            std::optional<std::string_view> config_json,
                                            const cell_limits& limits) {
  const auto answer = ask_cell(cell, library, config_json, limits);
  if (!answer) {
    verdict v;
    v.kind = verdict_kind::not_started;
    v.text = answer.error().text;
    return tl::unexpected(std::move(v));
  }
  const judge judges(*answer, limits);
  if (auto bad = judges.of_the_end()) return tl::unexpected(std::move(*bad));
  cell_report report;
  auto table = answer->table ? read_table(*answer->table) : std::nullopt;
  if (!table) return tl::unexpected(judges.broken("no table"));
  report.table = std::move(*table);
  report.walls = clean_text(answer->walls, max_text_bytes);
  report.output = clean_text(answer->output, answer->output.size());
  if (!config_json) return report;
  if (!answer->program) return tl::unexpected(judges.broken("no Program"));
  auto program = program::verify(*answer->program);
  if (!program) return tl::unexpected(judges.bad_program(program.error()));
  report.program = std::move(*program);
  return report;
}

fs::path installed_cell() {
  std::error_code problem;
  const fs::path program = fs::read_symlink("/proc/self/exe", problem);
  const fs::path prefix = problem ? fs::path("/usr/local") : program.parent_path().parent_path();
  return prefix / TROUPE_LIBEXECDIR / "troupe" / "troupe-cell";
}

}  // namespace troupe::sandbox
