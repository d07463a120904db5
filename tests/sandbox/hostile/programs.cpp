// Emits Programs that are wrong. config.json says in which way: {"program": "cycle"}.
#include <unistd.h>

#include <functional>
#include <map>
#include <troupe/sdk/json.hpp>
#include <troupe/sdk/module.hpp>

#include "tests/support/sharing_program.hpp"
#include "tests/support/tiny_program.hpp"

namespace {

using namespace troupe::program;
using troupe::test::tiny_program;
using bytes = std::vector<std::uint8_t>;

OpT& first(ProgramT& p, OpKind kind, int which = 0) {
  for (auto& op : p.ops)
    if (op->kind == kind && which-- == 0) return *op;
  throw std::logic_error("no such op");
}

// One thing of a valid Program, changed.
const std::map<std::string, std::function<void(ProgramT&)>> changes = {
    {"cycle", [](ProgramT& p) { first(p, OpKind::add).inputs[0] = first(p, OpKind::add).outputs[0]; }},
    {"later_tensor", [](ProgramT& p) { first(p, OpKind::rms_norm).inputs[0] = p.logits; }},
    {"wrong_tensor", [](ProgramT& p) { first(p, OpKind::linear).inputs[0] = 0xffffffff; }},
    {"wrong_weight", [](ProgramT& p) { first(p, OpKind::linear).weights[0] = 12345; }},
    {"wrong_cache", [](ProgramT& p) { first(p, OpKind::attention).cache = 7; }},
    {"wrong_logits", [](ProgramT& p) { p.logits = 0x80000000; }},
    {"unknown_op", [](ProgramT& p) { p.ops[3]->kind = static_cast<OpKind>(60000); }},
    {"shared_state",
     [](ProgramT& p) { first(p, OpKind::attention, 1).attrs.AsAttentionAttrs()->cache_layer = 0; }},
    {"state_out_of_bounds",
     [](ProgramT& p) { first(p, OpKind::attention).attrs.AsAttentionAttrs()->cache_layer = 1u << 31; }},
    {"same_output_twice",
     [](ProgramT& p) { first(p, OpKind::linear, 1).outputs = first(p, OpKind::linear).outputs; }},
    {"output_is_input",
     [](ProgramT& p) { first(p, OpKind::add).outputs[0] = first(p, OpKind::add).inputs[1]; }},
    {"huge_tensor", [](ProgramT& p) { p.tensors[0]->shape = {std::uint64_t{1} << 62}; }},
    {"huge_weight",
     [](ProgramT& p) {
       p.weights[0]->shape = {~std::uint64_t{0}, ~std::uint64_t{0}};
     }},
    {"huge_heads",
     [](ProgramT& p) {
       auto& a = *first(p, OpKind::attention).attrs.AsAttentionAttrs();
       a.heads = a.kv_heads = a.head_dim = 0x80000000;
     }},
    {"huge_layers", [](ProgramT& p) { p.caches[0]->layers = 0xffffffff; }},
    {"many_ops",
     [](ProgramT& p) {
       for (int i = 0; i < (1 << 20); ++i) p.ops.push_back(std::make_unique<OpT>());
     }},
    {"nothing", [](ProgramT& p) { p.ops.clear(); }},
};

// A valid Program's bytes, spoiled.
bytes truncated() {
  auto b = tiny_program::bytes(tiny_program::make());
  b.resize(b.size() / 2);
  return b;
}
bytes wild_offset() {
  auto b = tiny_program::bytes(tiny_program::make());
  std::fill(b.begin() + 64, b.begin() + 96, 0xff);
  return b;
}

// Says itself what the cell would say of a Program, without the cell's own checks.
[[noreturn]] void forge(const bytes& program) {
  constexpr int answer = 5;
  constexpr std::uint32_t program_frame = 4, finished_frame = 8;
  const std::uint32_t before[] = {program_frame, static_cast<std::uint32_t>(program.size())};
  const std::uint32_t behind[] = {finished_frame, 0};
  bool written = ::write(answer, before, sizeof before) > 0;
  for (std::size_t at = 0; written && at < program.size();) {
    const auto n = ::write(answer, program.data() + at, program.size() - at);
    written = n > 0;
    at += static_cast<std::size_t>(n);
  }
  ::_exit(written && ::write(answer, behind, sizeof behind) > 0 ? 0 : 1);
}

troupe_status emit(const troupe_build_host* host, const bytes& b) {
  return host->emit(host->context, b.data(), b.size());
}

troupe_status run(const std::string& what, const troupe_build_host* host) {
  const auto right = tiny_program::bytes(tiny_program::make());
  if (what == "right") return emit(host, right);
  if (what == "twice") return emit(host, right), emit(host, right);
  if (what == "never") return TROUPE_OK;
  if (what == "null") return host->emit(host->context, nullptr, 100);
  if (what == "gigabyte") return host->emit(host->context, right.data(), std::size_t{1} << 30);
  if (what == "beyond_its_end") return host->emit(host->context, right.data(), std::size_t{60} << 20);
  if (what == "truncated") return emit(host, truncated());
  if (what == "wild_offset") return emit(host, wild_offset());
  if (what == "shared_frequencies")
    return emit(host, troupe::test::sharing_program::bytes(20'000, 1'000'000));
  if (what == "forged_frequencies") forge(troupe::test::sharing_program::bytes(20'000, 1'000'000));
  if (what == "garbage") return emit(host, bytes(4096, 0xa5));
  auto program = tiny_program::make();
  changes.at(what)(program);
  return emit(host, tiny_program::bytes(program));
}

const char* const architectures[] = {"HostileForCausalLM", nullptr};

troupe_status build(const char* text, std::size_t size, const troupe_build_host* host) {
  try {
    return run(troupe::sdk::json::parse({text, size}).get<std::string>("program"), host);
  } catch (const std::exception& e) {
    return host->fail(host->context, TROUPE_FAILED, e.what());
  }
}

const troupe_module module = {sizeof(troupe_module), TROUPE_ABI_MAJOR, 0,    "programs", "6.6.6",
                              "For tests",           architectures,    build};

}  // namespace

const troupe_module* troupe_module_entry() {
  return &module;
}
