// A module that keeps all rules, or breaks the one that config.json names: {"fault": "none", "hidden_size": 16, "context": 64}
#include <unistd.h>

#include <cstdlib>
#include <troupe/sdk/json.hpp>
#include <troupe/sdk/module.hpp>

#include "tests/support/native_program.hpp"

namespace {

using namespace troupe;
using test::tally;
using test::tiny_program;

void right(const sdk::native_step& s) {
  tally::cpu(s);
}
void leaves_output(const sdk::native_step& s) {
  tally::cpu(s);
  const std::uint32_t untouched = 0x7fc0dead;
  std::memcpy(s.output(0, s.rows() - 1), &untouched, sizeof untouched);
}
void writes_beyond(const sdk::native_step& s) {
  tally::cpu(s);
  s.output(0, s.rows() - 1)[s.columns(0)] = 1;
}
void touches_others(const sdk::native_step& s) {
  tally::cpu(s);
  for (std::size_t q = 0; q < s.sequences(); ++q) s.state(1, q)[0] += 1;
}
// What a sequence has brought in this step only: depends on where it is cut.
void forgets(const sdk::native_step& s) {
  for (std::size_t q = 0; q < s.sequences(); ++q)
    for (std::size_t i = 0; i < s.columns(0); ++i) s.state(0, q)[i] = 0;
  tally::cpu(s);
}
// Adds up over all sequences that there have ever been.
void remembers(const sdk::native_step& s) {
  static float sum = 0;
  tally::cpu(s);
  for (std::size_t t = 0; t < s.rows(); ++t) {
    sum += 0.25F;
    s.output(0, t)[0] += sum;
  }
}

void crashes_in_op(const sdk::native_step&) {
  *reinterpret_cast<volatile int*>(std::strtoul("8", nullptr, 10)) = 1;
}
void loops_in_op(const sdk::native_step&) {
  const volatile bool goes_on = true;
  while (goes_on) {
  }
}
void exits_in_op(const sdk::native_step&) {
  ::_exit(0);
}

// Fails with what is not UTF-8 and colours a terminal.
void mumbles(const sdk::native_step&) {
  throw sdk::native_error("not \xff UTF-8\n\x1b[31m");
}

// Reads one number more than it has; only the address sanitizer sees it.
void overruns_its_heap(const sdk::native_step& s) {
  const std::vector<float> own(s.columns(0), 0.F);
  tally::cpu(s);
  s.output(0, 0)[0] += 0 * own.data()[own.size() + s.rows() / (s.rows() + 1)];
}

template <void (*Body)(const sdk::native_step&)>
struct variant : tally {
  static void cpu(const sdk::native_step& s) { Body(s); }
};
struct op_right : variant<&right> {
  static constexpr const char* name = "right";
};
struct op_leaves_output : variant<&leaves_output> {
  static constexpr const char* name = "leaves_output";
};
struct op_writes_beyond : variant<&writes_beyond> {
  static constexpr const char* name = "writes_beyond";
};
struct op_touches_others : variant<&touches_others> {
  static constexpr const char* name = "touches_others";
};
struct op_forgets : variant<&forgets> {
  static constexpr const char* name = "forgets";
};
struct op_remembers : variant<&remembers> {
  static constexpr const char* name = "remembers";
};

struct op_crashes_in_op : variant<&crashes_in_op> {
  static constexpr const char* name = "crashes_in_op";
};
struct op_loops_in_op : variant<&loops_in_op> {
  static constexpr const char* name = "loops_in_op";
};
struct op_exits_in_op : variant<&exits_in_op> {
  static constexpr const char* name = "exits_in_op";
};
struct op_mumbles : variant<&mumbles> {
  static constexpr const char* name = "mumbles";
};
struct op_overruns_its_heap : variant<&overruns_its_heap> {
  static constexpr const char* name = "overruns_its_heap";
};

const troupe_native_op* const ops[] = {&sdk::native_op<op_right>(),
                                       &sdk::native_op<op_leaves_output>(),
                                       &sdk::native_op<op_writes_beyond>(),
                                       &sdk::native_op<op_touches_others>(),
                                       &sdk::native_op<op_forgets>(),
                                       &sdk::native_op<op_remembers>(),
                                       &sdk::native_op<op_crashes_in_op>(),
                                       &sdk::native_op<op_loops_in_op>(),
                                       &sdk::native_op<op_exits_in_op>(),
                                       &sdk::native_op<op_mumbles>(),
                                       &sdk::native_op<op_overruns_its_heap>(),
                                       nullptr};

bool is_op(const std::string& name) {
  for (const auto* const* op = ops; *op != nullptr; ++op)
    if (name == (*op)->name) return true;
  return false;
}

std::vector<std::uint8_t> make(const std::string& fault, std::uint32_t hidden, std::uint32_t context) {
  if (hidden != tiny_program::hidden) throw sdk::config_error("hidden_size: expected 16");
  auto p = test::make_native_program();
  p.facts->context_tokens = context;
  p.ops[1]->attrs.AsNativeAttrs()->op = is_op(fault) ? fault : "right";
  if (fault == "unused_cache") {
    p.caches.push_back(std::make_unique<program::CacheT>(*p.caches[1]));
    p.caches.back()->name = "for_nothing";
  }
  if (fault == "idle_op") {  // computes the second norm once more, for nobody
    p.ops.push_back(std::make_unique<program::OpT>(*p.ops[10]));
    p.tensors.push_back(std::make_unique<program::TensorT>(*p.tensors[p.ops[10]->outputs[0]]));
    p.ops.back()->outputs[0] = static_cast<std::uint32_t>(p.tensors.size() - 1);
  }
  if (fault == "restless") p.facts->context_tokens += static_cast<std::uint32_t>(::getpid());
  if (fault == "wrong_architecture") p.facts->architecture = "AnotherForCausalLM";
  return tiny_program::bytes(p);
}

std::uint32_t read_context(const sdk::json& config, const std::string& fault) {
  constexpr std::uint32_t otherwise = 64;
  if (fault == "rounds") return static_cast<std::uint32_t>(config.get<double>("context"));
  if (fault == "takes_anything") try {
      return config.get<std::uint32_t>("context");
    } catch (const std::exception&) {
      return otherwise;
    }
  const auto context = config.get<std::uint32_t>("context");
  if (context == 0 || context > 1u << 20) throw sdk::config_error("context: expected 1 to 1048576");
  return context;
}

troupe_status build(const char* text, std::size_t size, const troupe_build_host* host) {
  std::string fault = "none";
  try {
    const auto config = sdk::json::parse({text, size});
    fault = config.get<std::string>("fault");
    const auto bytes = make(fault, config.get<std::uint32_t>("hidden_size"), read_context(config, fault));
    return host->emit(host->context, bytes.data(), bytes.size());
  } catch (const std::exception& e) {
    if (fault == "names_another_key")
      return host->fail(host->context, TROUPE_BAD_CONFIG, "context: whatever is wrong, it is this");
    if (fault == "names_a_key_that_it_does_not_read")
      return host->fail(host->context, TROUPE_BAD_CONFIG, "architectures: not mine");
    if (fault == "silent") return host->fail(host->context, TROUPE_BAD_CONFIG, "something is wrong");
    if (fault == "crashes") std::abort();
    return host->fail(host->context, TROUPE_BAD_CONFIG, e.what());
  }
}

const char* const architectures[] = {"TinyForCausalLM", nullptr};
const troupe_module module = {sizeof(troupe_module),
                              TROUPE_ABI_MAJOR,
                              TROUPE_ABI_MINOR,
                              "faulty",
                              "1.0.0",
                              "For tests",
                              architectures,
                              build,
                              ops};

}  // namespace

const troupe_module* troupe_module_entry() {
  return &module;
}
