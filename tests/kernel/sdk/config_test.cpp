#include <gmock/gmock.h>

#include <functional>
#include <troupe/sdk/config.hpp>

namespace troupe::sdk {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const module_error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Config, ReadsSizesAndWhatAbsentKeysMean) {
  const auto c = json::parse(R"({"layers": 12, "eps": 1e-6, "none": null})");
  EXPECT_EQ(positive(c, "layers"), 12u);
  EXPECT_EQ(count(c, "layers"), 12u);
  EXPECT_EQ(positive_or(c, "layers", 3), 12u);
  EXPECT_EQ(positive_or(c, "none", 3), 3u);
  EXPECT_EQ(above_zero(c, "eps", 1), 1e-6);
  EXPECT_EQ(above_zero(c, "none", 0.5), 0.5);
}

TEST(Config, NamesTheKeyWhoseSizeIsImpossible) {
  const auto c = json::parse(R"({"zero": 0, "many": 4097, "inner": {"eps": -1, "zero": 0}})");
  EXPECT_EQ(error_of([&] { positive(c, "hidden_size"); }), "hidden_size: the key is missing");
  EXPECT_EQ(error_of([&] { positive(c, "zero"); }), "zero: expected an integer above 0, found 0");
  EXPECT_EQ(error_of([&] { positive_or(c, "zero", 1); }), "zero: expected an integer above 0, found 0");
  EXPECT_EQ(error_of([&] { size_from_to(c, "many", 2, 64, 4); }),
            "many: expected a number from 2 to 64, found 4097");
  EXPECT_EQ(size_from_to(c, "absent", 2, 64, 4), 4u);
  const auto huge = json::parse(R"({"size": 2147483648, "eps": 1e-300, "scale": 1e300})");
  EXPECT_EQ(error_of([&] { positive(huge, "size"); }), "size: expected at most 2147483647, found 2147483648");
  EXPECT_EQ(error_of([&] { above_zero(huge, "eps", 1); }),
            "eps: expected a number that a float holds, found 1e-300");
  EXPECT_EQ(error_of([&] { above_zero(huge, "scale", 1); }),
            "scale: expected a number that a float holds, found 1e300");
  EXPECT_EQ(error_of([&] { count(c, "many"); }), "many: expected at most 4096, found 4097");
  EXPECT_EQ(error_of([&] { above_zero(*c.find("inner"), "eps", 1); }),
            "inner.eps: expected a number above 0, found -1");
}

TEST(Config, ReadsOneEndOfSequenceSeveralOrNone) {
  EXPECT_THAT(eos_ids(json::parse(R"({"eos_token_id": 2})"), 1000), ElementsAre(2));
  EXPECT_THAT(eos_ids(json::parse(R"({"eos_token_id": [2, 518]})"), 1000), ElementsAre(2, 518));
  EXPECT_THAT(eos_ids(json::parse(R"({"eos_token_id": null})"), 1000), IsEmpty());
  EXPECT_EQ(bos_id(json::parse(R"({"bos_token_id": 1})"), 1000), 1);
  EXPECT_EQ(bos_id(json::parse("{}"), 1000), -1);
}

TEST(Config, ReadsWhichLayersAreOfAKind) {
  const auto pattern =
      read_layer_pattern(json::parse(R"({"attn_layer_period": 8, "attn_layer_offset": 4})"), "attn", {});
  std::uint32_t layers = 0;
  for (std::uint32_t i = 0; i < 32; ++i) {
    EXPECT_EQ(pattern.count(i), layers) << i;
    EXPECT_EQ(pattern.has(i), i == 4 || i == 12 || i == 20 || i == 28) << i;
    layers += pattern.has(i) ? 1 : 0;
  }
  const auto absent = read_layer_pattern(json::parse("{}"), "attn", {2, 1});
  EXPECT_EQ(absent.period, 2U);
  EXPECT_EQ(absent.offset, 1U);
  EXPECT_EQ(error_of([] {
              read_layer_pattern(json::parse(R"({"attn_layer_period": 2, "attn_layer_offset": 2})"), "attn",
                                 {});
            }),
            "attn_layer_offset: expected a number below attn_layer_period 2, found 2");
}

TEST(Config, RefusesAnyOtherValueThanTheOneThatIsBuilt) {
  const auto c = json::parse(R"({"act": "relu", "bias": true, "groups": 4, "ffn": {"act": "gelu"}})");
  require(c, "act", "relu");
  require(c, "absent", "silu");
  EXPECT_EQ(error_of([&] { require(c, "act", "silu"); }), "act: expected \"silu\", found \"relu\"");
  EXPECT_EQ(error_of([&] { require(c, "bias", false); }), "bias: expected false, found true");
  EXPECT_EQ(error_of([&] { require(c, "groups", 1); }), "groups: expected 1, found 4");
  EXPECT_EQ(error_of([&] { require(*c.find("ffn"), "act", "silu"); }),
            "ffn.act: expected \"silu\", found \"gelu\"");
  try {
    require(c, "bias", false);
  } catch (const module_error& e) {
    EXPECT_EQ(e.status(), TROUPE_UNSUPPORTED);
  }
}

TEST(Config, ReadsSections) {
  const auto c = json::parse(R"({"attn": {"heads": 8}, "ffn": 3})");
  EXPECT_EQ(positive(section(c, "attn"), "heads"), 8u);
  EXPECT_EQ(error_of([&] { section(c, "moe"); }), "moe: the key is missing");
  EXPECT_EQ(error_of([&] { section(c, "ffn"); }), "ffn: expected an object, found 3");
  EXPECT_EQ(error_of([&] { positive(section(c, "attn"), "size"); }), "attn.size: the key is missing");
}

TEST(Config, ReadsActivationsByTheirNames) {
  using program::Activation;
  const auto read = [](const char* text) {
    return read_activation(json::parse(text), "act", Activation::relu);
  };
  EXPECT_EQ(read("{}"), Activation::relu);
  EXPECT_EQ(read(R"({"act": "silu"})"), Activation::silu);
  EXPECT_EQ(read(R"({"act": "swish"})"), Activation::silu);
  EXPECT_EQ(read(R"({"act": "gelu"})"), Activation::gelu);
  EXPECT_EQ(read(R"({"act": "gelu_new"})"), Activation::gelu_tanh);
  EXPECT_EQ(read(R"({"act": "gelu_pytorch_tanh"})"), Activation::gelu_tanh);
  EXPECT_EQ(read(R"({"act": "relu"})"), Activation::relu);
  EXPECT_EQ(error_of([&] { read(R"({"act": "mish"})"); }),
            "act: expected silu, gelu, gelu_new, gelu_pytorch_tanh or relu, found \"mish\"");
}

}  // namespace
}  // namespace troupe::sdk
