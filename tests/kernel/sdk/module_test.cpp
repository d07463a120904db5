// The macro, used in this program itself: what the exported function answers.
#include <gmock/gmock.h>

#include <stdexcept>
#include <string>
#include <troupe/sdk/module.hpp>

namespace {

using namespace troupe::sdk;

void build(builder& b, const json& config) {
  const auto what = config.get<std::string>("what");
  if (what == "unsupported") throw unsupported_error("what: not built here");
  if (what == "runtime") throw std::runtime_error("a fault");
  if (what == "number") throw 7;
  b.facts({.architecture = "A", .vocabulary = 4, .hidden = 2, .layers = 1, .context_tokens = 8});
  const auto table = b.weight("w", {4, 2});
  b.logits(b.linear(b.select_rows(b.embed(table)), table));
}

}  // namespace

TROUPE_MODULE("test", "1.2.3", "For this test", build, "A", "B")

namespace {

struct answer {
  std::string text;
  std::size_t bytes = 0;
};
troupe_status on_emit(void* context, const std::uint8_t*, std::size_t size) {
  static_cast<answer*>(context)->bytes = size;
  return TROUPE_OK;
}
troupe_status on_fail(void* context, troupe_status kind, const char* text) {
  static_cast<answer*>(context)->text = text;
  return kind;
}

troupe_status build_with(std::string_view config, answer& a) {
  const troupe_build_host host = {sizeof(troupe_build_host), &a, on_emit, on_fail};
  return troupe_module_entry()->build(config.data(), config.size(), &host);
}

TEST(ModuleMacro, FillsInTheTable) {
  const auto* table = troupe_module_entry();
  EXPECT_EQ(table, troupe_module_entry());
  EXPECT_EQ(table->struct_size, sizeof(troupe_module));
  EXPECT_EQ(table->abi_major, TROUPE_ABI_MAJOR);
  EXPECT_STREQ(table->name, "test");
  EXPECT_STREQ(table->version, "1.2.3");
  EXPECT_STREQ(table->architectures[0], "A");
  EXPECT_STREQ(table->architectures[1], "B");
  EXPECT_EQ(table->architectures[2], nullptr);
}

TEST(ModuleMacro, EmitsWhatWasBuilt) {
  answer a;
  EXPECT_EQ(build_with(R"({"what": "fine"})", a), TROUPE_OK);
  EXPECT_GT(a.bytes, 100u);
}

TEST(ModuleMacro, TurnsExceptionsIntoStatusAndText) {
  answer a;
  EXPECT_EQ(build_with("{}", a), TROUPE_BAD_CONFIG);
  EXPECT_EQ(a.text, "what: the key is missing");
  EXPECT_EQ(build_with("[]", a), TROUPE_BAD_CONFIG);
  EXPECT_EQ(a.text, "expected an object, found a list");
  EXPECT_EQ(build_with("{", a), TROUPE_BAD_CONFIG);
  EXPECT_EQ(build_with(R"({"what": "unsupported"})", a), TROUPE_UNSUPPORTED);
  EXPECT_EQ(a.text, "what: not built here");
  EXPECT_EQ(build_with(R"({"what": "runtime"})", a), TROUPE_FAILED);
  EXPECT_EQ(a.text, "a fault");
  EXPECT_EQ(build_with(R"({"what": "number"})", a), TROUPE_FAILED);
  EXPECT_EQ(a.bytes, 0u);
}

}  // namespace
