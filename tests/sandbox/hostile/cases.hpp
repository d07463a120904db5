// The hostile modules, and what must be said of each.
#pragma once

#include <algorithm>
#include <ostream>
#include <string_view>
#include <vector>

#include "sandbox/cell/sanitized.hpp"
#include "sandbox/cell/verdict.hpp"

namespace troupe::sandbox::test {

struct hostile_case {
  const char* module;  // its file, without .so
  const char* config;  // config.json
  verdict_kind expected;
  const char* text;           // a part of the verdict
  const char* function = "";  // in which it ended
  const char* call = "";      // the forbidden system call
};

inline void PrintTo(const hostile_case& c, std::ostream* out) {
  *out << c.module << " " << c.config;
}

// A sanitizer's runtime stands between the module and the cell: it reports some faults itself, and there is no limit of memory.
inline bool sanitizer_answers_instead(const hostile_case& c) {
  static constexpr std::string_view modules[] = {"frees_twice",        "allocates_50_gb", "allocates_all",
                                                 "catches_signals",    "starts_a_thread", "hides_its_call",
                                                 "overflows_its_stack"};
  const std::string_view module = c.module, config = c.config;
#ifdef __SANITIZE_THREAD__  // keeps a signal that is not a fault until the code calls something
  if (module == "loops" || config.find("loops") != config.npos) return true;
#endif
  return sanitized() && (std::ranges::find(modules, module) != std::end(modules) ||
                         config.find("beyond_its_end") != config.npos);
}

inline const std::vector<hostile_case>& hostile_cases() {
  using enum verdict_kind;
  static constexpr const char* any = "{}";
  static const std::vector<hostile_case> cases = {
      {"null_table", any, bad_abi, "troupe_module_entry answered null"},
      {"small_table", any, bad_abi, "its table has 12 bytes, expected at least 48"},
      {"other_major", any, bad_abi, "built for module interface 2.0, this Troupe speaks 1."},
      {"null_build", any, bad_abi, "the field build of its table is empty"},
      {"endless_architectures", any, bad_abi, "architectures: more than 256: is the list ended by null?"},
      {"wild_name", any, crashed, "Segmentation fault (SIGSEGV), in troupe_module_entry"},
      {"wild_table", any, crashed, "Segmentation fault (SIGSEGV), in troupe_module_entry"},
      {"entry_throws", any, crashed, "Aborted (SIGABRT), in troupe_module_entry"},

      {"start_crashes", any, crashed, "Segmentation fault (SIGSEGV), in at_start while it was opened",
       "at_start"},
      {"start_exits", any, exited, "ended its own process with code 0 while it was opened"},
      {"start_connects", any, forbidden_call, "called socket, which a module may not, in at_start",
       "at_start", "socket"},
      {"start_reads", any, forbidden_call, "called openat, which a module may not, in at_start", "at_start",
       "openat"},
      {"start_loops", any, timed_out, "while it was opened"},

      {"segfaults", any, crashed, "Segmentation fault (SIGSEGV), in do_harm during the build", "do_harm"},
      {"divides_by_zero", any, crashed, "Floating point exception (SIGFPE), in do_harm", "do_harm"},
      {"aborts", any, crashed, "Aborted (SIGABRT), in do_harm", "do_harm"},
      {"frees_twice", any, crashed, "Aborted (SIGABRT), in do_harm", "do_harm"},
      {"exits_0", any, exited, "ended its own process with code 0 during the build"},
      {"exits_3_at_once", any, exited, "ended its own process with code 3 during the build"},
      {"overflows_its_stack", any, crashed, "its stack is used up, in deeper", "deeper"},
      {"loops", any, timed_out, "of processor time, stopped in do_harm during the build", "do_harm"},
      {"sleeps", any, timed_out, "did not end within"},
      {"hides_and_loops", any, timed_out, "did not end within"},
      {"allocates_50_gb", any, out_of_memory, "asked for 53687", "do_harm"},
      {"allocates_all", any, out_of_memory, "needs more than 512 MiB of memory, in allocate_all",
       "allocate_all"},
      {"floods_its_output", any, too_much_output, "wrote more than 1048576 bytes to its output"},
      {"meddles_with_the_answer", any, broken_answer, "the module has meddled with it"},
      {"forges_an_answer", any, broken_answer, "the module has meddled with it"},
      {"build_throws", any, failed_build, "an exception crossed the interface: thrown in the build"},

      {"claims_walls", any, broken_answer, "out of its place"},
      {"goes_back", any, broken_answer, "out of its place"},
      {"skips_a_stage", any, broken_answer, "out of its place"},
      {"goes_back_in_the_build", any, broken_answer, "out of its place"},
      {"repeats_a_stage", any, broken_answer, "out of its place"},
      {"invents_a_stage", any, broken_answer, "out of its place"},
      {"invents_a_negative_stage", any, broken_answer, "out of its place"},
      {"claims_walls_in_the_build", any, broken_answer, "out of its place"},
      {"repeats_the_table", any, broken_answer, "out of its place"},
      {"names_a_place", any, broken_answer, "out of its place"},
      {"refuses_twice", any, broken_answer, "out of its place"},
      {"refuses_by_itself", any, failed_build, "the kernel of this machine"},  // in its own name
      {"invents_a_fault", any, broken_answer, "a fault of no known kind"},
      {"finishes_without_a_program", any, broken_answer, "no Program"},

      {"opens_a_socket", any, forbidden_call, "called socket", "reach_out", "socket"},
      {"reads_passwd", any, forbidden_call, "called openat", "reach_out", "openat"},
      {"looks_for_a_file", any, forbidden_call, "called newfstatat", "reach_out", "newfstatat"},
      {"writes_a_file", any, forbidden_call, "called creat", "reach_out", "creat"},
      {"executes", any, forbidden_call, "called execve", "reach_out", "execve"},
      {"forks_forever", any, forbidden_call, "called clone", "reach_out", "clone"},
      {"starts_a_thread", any, forbidden_call, "called clone3", "", "clone3"},
      {"hides_its_call", any, forbidden_call, "called socket", "reach_out", "socket"},
      {"blocks_signals", any, failed_build, "came back"},
      {"kills_its_parent", any, forbidden_call, "called kill", "reach_out", "kill"},
      {"traces", any, forbidden_call, "called ptrace", "reach_out", "ptrace"},
      {"catches_signals", any, forbidden_call, "called rt_sigaction", "reach_out", "rt_sigaction"},
      {"reads_the_environment", any, failed_build, "came back"},  // there is nothing to read

      {"programs", R"({"program": "twice"})", failed_build, "emitted more than one Program"},
      {"programs", R"({"program": "never"})", failed_build, "emitted no Program"},
      {"programs", R"({"program": "null"})", failed_build, "emitted null"},
      {"programs", R"({"program": "gigabyte"})", failed_build, "emitted more than 64 MiB"},
      {"programs", R"({"program": "beyond_its_end"})", crashed, "Segmentation fault (SIGSEGV)"},
      {"programs", R"({"program": "truncated"})", bad_program, "not a valid FlatBuffer"},
      {"programs", R"({"program": "wild_offset"})", bad_program, "not a valid FlatBuffer"},
      {"programs", R"({"program": "garbage"})", bad_program,
       "expected a FlatBuffer with the identifier TRPG"},
      {"programs", R"({"program": "cycle"})", bad_program,
       "inputs: expected tensors that earlier ops define"},
      {"programs", R"({"program": "later_tensor"})", bad_program,
       "inputs: expected tensors that earlier ops define"},
      {"programs", R"({"program": "wrong_tensor"})", bad_program, "op 2 (linear, layers.0): inputs"},
      {"programs", R"({"program": "wrong_weight"})", bad_program, "op 2 (linear, layers.0): weights"},
      {"programs", R"({"program": "wrong_cache"})", bad_program, "op 7 (attention, layers.0): cache"},
      {"programs", R"({"program": "wrong_logits"})", bad_program, "logits"},
      {"programs", R"({"program": "unknown_op"})", bad_program, "op 3"},
      {"programs", R"({"program": "shared_state"})", bad_program,
       "op 21 (attention, layers.1): layer 0 of cache kv is written by an earlier op"},
      {"programs", R"({"program": "state_out_of_bounds"})", bad_program,
       "layer of cache kv: expected 0 to 1, found 2147483648"},
      {"programs", R"({"program": "same_output_twice"})", bad_program, "outputs"},
      {"programs", R"({"program": "output_is_input"})", bad_program, "outputs"},
      {"programs", R"({"program": "huge_tensor"})", bad_program, "tensor 0"},
      {"programs", R"({"program": "huge_weight"})", bad_program, "weight 0"},
      {"programs", R"({"program": "huge_heads"})", bad_program, "op 7 (attention, layers.0)"},
      {"programs", R"({"program": "huge_layers"})", bad_program, "layers: expected 1 to 65536"},
      {"programs", R"({"program": "many_ops"})", bad_program, "expected at most 1048576 ops"},
      {"programs", R"({"program": "nothing"})", bad_program, "expected at least one op"},
      {"programs", R"({"program": "shared_frequencies"})", bad_program, "each counted wherever it is used"},
      {"programs", R"({"program": "forged_frequencies"})", bad_program, "each counted wherever it is used"},

      {"natives", R"({"op": "crashes"})", crashed, "Segmentation fault (SIGSEGV), in"},
      {"natives", R"({"op": "loops"})", timed_out, "of processor time"},
      {"natives", R"({"op": "lies"})", bad_program, "output y: the op gives [T, 1073741824]"},
      {"natives", R"({"op": "missing"})", bad_program, "expected a native op of the module in version 2"},
      {"natives", R"({"op": "shares_its_state"})", bad_program, "is written by an earlier op"},
  };
  return cases;
}

}  // namespace troupe::sandbox::test
