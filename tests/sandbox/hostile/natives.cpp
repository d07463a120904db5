// Native ops that are wrong before they ever run: Troupe asks them for their shapes. config.json says in which way: {"op": "lies"}.
#include <cstdlib>
#include <troupe/sdk/json.hpp>
#include <troupe/sdk/module.hpp>

#include "tests/support/native_program.hpp"

namespace {

using namespace troupe;

void crash(sdk::native_shapes&) {
  *reinterpret_cast<volatile int*>(std::strtoul("8", nullptr, 10)) = 1;
}
void loop(sdk::native_shapes&) {
  for (volatile unsigned x = 0;; x = x + 1) {
  }
}
void lie(sdk::native_shapes& s) {
  s.output(0, 1u << 30);
}

template <void (*Shapes)(sdk::native_shapes&)>
struct variant : test::tally {
  static void shapes(sdk::native_shapes& s) { Shapes(s); }
};
struct crashes : variant<&crash> {
  static constexpr const char* name = "crashes";
};
struct loops : variant<&loop> {
  static constexpr const char* name = "loops";
};
struct lies : variant<&lie> {
  static constexpr const char* name = "lies";
};
struct right : test::tally {
  static constexpr const char* name = "right";
};

std::vector<std::uint8_t> make(const std::string& op) {
  auto p = test::make_native_program();
  p.ops[1]->attrs.AsNativeAttrs()->op = op == "shares_its_state" ? "right" : op;
  if (op == "shares_its_state") {  // the second layer's op writes what the first one's does
    auto& other = *p.ops[15];
    other.kind = program::OpKind::native;
    other.attrs.Set(program::NativeAttrsT(*p.ops[1]->attrs.AsNativeAttrs()));
  }
  return test::tiny_program::bytes(p);
}

troupe_status build(const char* text, std::size_t size, const troupe_build_host* host) {
  try {
    const auto bytes = make(sdk::json::parse({text, size}).get<std::string>("op"));
    return host->emit(host->context, bytes.data(), bytes.size());
  } catch (const std::exception& e) {
    return host->fail(host->context, TROUPE_FAILED, e.what());
  }
}

const troupe_native_op* const ops[] = {&sdk::native_op<crashes>(), &sdk::native_op<loops>(),
                                       &sdk::native_op<lies>(), &sdk::native_op<right>(), nullptr};
const char* const architectures[] = {"HostileForCausalLM", nullptr};
const troupe_module module = {sizeof(troupe_module),
                              TROUPE_ABI_MAJOR,
                              TROUPE_ABI_MINOR,
                              "natives",
                              "6.6.6",
                              "For tests",
                              architectures,
                              build,
                              ops};

}  // namespace

const troupe_module* troupe_module_entry() {
  return &module;
}
