#include <gmock/gmock.h>

#include <troupe/sdk/rope.hpp>

namespace troupe::sdk {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

std::string refusal(const char* config, std::uint32_t head_dim) {
  try {
    read_rope(json::parse(config), head_dim);
  } catch (const module_error& e) {
    return e.what();
  }
  return "no error";
}

struct pair_and_frequency {
  std::size_t pair;
  double frequency;
};
void expect_frequencies(const rope_options& rope, const std::vector<pair_and_frequency>& expected) {
  for (const auto& [pair, frequency] : expected)
    EXPECT_NEAR(rope.frequencies.at(pair), frequency, 2e-6 * frequency) << pair;
}

TEST(Rope, ReadsThetaWhereEitherGenerationWritesIt) {
  EXPECT_EQ(read_rope(json::parse("{}"), 64).theta, 10000);
  EXPECT_EQ(read_rope(json::parse("{}"), 64, 1e6).theta, 1e6);
  EXPECT_EQ(read_rope(json::parse(R"({"rope_theta": 5e5})"), 64).theta, 5e5);
  const auto v5 = json::parse(R"({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}})");
  EXPECT_EQ(read_rope(v5, 64).theta, 5e5);
  EXPECT_EQ(read_rope(v5, 64).head_dim, 64u);
  EXPECT_EQ(refusal(R"({"rope_theta": 0})", 64), "rope_theta: expected a number above 0, found 0");
}

TEST(Rope, RotatesTheLeadingPartOfEachHeadIfAsked) {
  EXPECT_EQ(read_rope(json::parse("{}"), 64).rotary_dim, 64u);
  EXPECT_EQ(read_rope(json::parse(R"({"partial_rotary_factor": 0.25})"), 64).rotary_dim, 16u);
  EXPECT_EQ(read_rope(json::parse(R"({"rope_parameters": {"partial_rotary_factor": 0.5}})"), 64).rotary_dim,
            32u);
  EXPECT_EQ(refusal(R"({"partial_rotary_factor": 0.5})", 10),
            "partial_rotary_factor: expected an even part of the head size 10, found 5");
  EXPECT_EQ(refusal(R"({"partial_rotary_factor": 2})", 10),
            "partial_rotary_factor: expected an even part of the head size 10, found 20");
  EXPECT_EQ(refusal("{}", 33), "head_dim: expected an even number, found 33");
}

TEST(Rope, WithoutScalingTheFrequenciesAreTheBackends) {
  EXPECT_THAT(read_rope(json::parse("{}"), 64).frequencies, IsEmpty());
  EXPECT_THAT(read_rope(json::parse(R"({"rope_scaling": null})"), 64).frequencies, IsEmpty());
  EXPECT_THAT(read_rope(json::parse(R"({"rope_scaling": {"type": "default"}})"), 64).frequencies, IsEmpty());
}

TEST(Rope, LinearScalingDividesEveryFrequency) {
  const auto rope = read_rope(json::parse(R"({"rope_scaling": {"type": "linear", "factor": 4}})"), 8);
  ASSERT_THAT(rope.frequencies, SizeIs(4));
  expect_frequencies(rope, {{0, 0.25}, {1, 0.025}, {2, 0.0025}, {3, 0.00025}});
  EXPECT_EQ(rope.amplitude, 1);
}

// Llama 3.1 8B. Expected: the formula in double precision.
TEST(Rope, Llama3ScalingKeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  const auto rope =
      read_rope(json::parse(R"({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})"),
                128);
  ASSERT_THAT(rope.frequencies, SizeIs(64));
  expect_frequencies(rope, {{0, 1},
                            {20, 0.01656044},
                            {28, 0.003211446},
                            {29, 0.002166571},
                            {30, 0.001371894},
                            {31, 0.0008567514},
                            {34, 0.0001785078},
                            {35, 9.556212e-05},
                            {63, 3.068926e-07}});
}

// Qwen 2.5 with the scaling that its model card advises.
TEST(Rope, YarnRampsFromKeptToStretchedFrequencies) {
  const auto rope = read_rope(json::parse(R"({"rope_theta": 1000000.0, "max_position_embeddings": 32768,
      "rope_scaling": {"type": "yarn", "factor": 4.0}})"),
                              128);
  expect_frequencies(rope, {{0, 1},
                            {20, 0.01333521},
                            {23, 0.006978306},
                            {24, 0.005375321},
                            {30, 0.001064361},
                            {39, 6.490394e-05},
                            {40, 4.445699e-05},
                            {63, 3.102344e-07}});
  EXPECT_NEAR(rope.amplitude, 1.138629436, 1e-6);
}

// gpt-oss: bounds of the ramp are not rounded.
TEST(Rope, YarnTakesItsBoundsAsTheyAreIfToldSo) {
  const auto rope =
      read_rope(json::parse(R"({"rope_parameters": {"rope_theta": 150000, "rope_type": "yarn", "factor": 32.0,
      "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false, "original_max_position_embeddings": 4096}})"),
                64);
  expect_frequencies(rope, {{0, 1},
                            {8, 0.05081327},
                            {9, 0.0317057},
                            {12, 0.006794959},
                            {17, 0.0001293187},
                            {18, 3.830881e-05},
                            {31, 3.023511e-07}});
  EXPECT_NEAR(rope.amplitude, 1.34657359, 1e-6);
}

TEST(Rope, YarnsAmplitudeIsTheOneGivenOrFollowsFromTheMagnitudes) {
  const auto amplitude = [](const std::string& more) {
    return read_rope(
               json::parse(
                   R"({"max_position_embeddings": 4096, "rope_scaling": {"type": "yarn", "factor": 40)" +
                   more + "}}"),
               64)
        .amplitude;
  };
  EXPECT_NEAR(amplitude(R"(, "attention_factor": 1.5)"), 1.5, 1e-6);
  EXPECT_NEAR(amplitude(R"(, "mscale": 1.0, "mscale_all_dim": 0.5)"), 1.15572199, 1e-6);
  EXPECT_NEAR(amplitude(R"(, "mscale": 0.707, "mscale_all_dim": 0.707)"), 1, 1e-6);
}

TEST(Rope, ScalesOnlyTheDimensionsThatRotate) {
  const auto rope = read_rope(
      json::parse(R"({"partial_rotary_factor": 0.5, "rope_scaling": {"type": "linear", "factor": 2}})"), 64);
  EXPECT_EQ(rope.rotary_dim, 32u);
  ASSERT_THAT(rope.frequencies, SizeIs(16));
  EXPECT_NEAR(rope.frequencies[1], std::pow(10000.0, -1 / 16.0) / 2, 1e-6);
}

TEST(Rope, NamesWhatItDoesNotBuildAndWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"rope_scaling": {"type": "dynamic", "factor": 2}})",
       "rope_scaling.type: expected default, linear, llama3 or yarn, found \"dynamic\""},
      {R"({"rope_parameters": {"rope_type": "longrope"}})",
       "rope_parameters.rope_type: expected default, linear, llama3 or yarn, found \"longrope\""},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})",
       "rope_parameters.full_attention: expected one set of parameters for all layers, found an object"},
      {R"({"rope_scaling": "linear"})", "rope_scaling: expected an object, found \"linear\""},
      {R"({"rope_scaling": {"type": "linear"}})", "rope_scaling.factor: the key is missing"},
      {R"({"rope_scaling": {"type": "linear", "factor": 0}})",
       "rope_scaling.factor: expected a number above 0, found 0"},
      {R"({"rope_scaling": {"type": "yarn", "factor": 4}})", "max_position_embeddings: the key is missing"},
      {R"({"rope_scaling": {"type": "llama3", "factor": 8}})",
       "rope_scaling.low_freq_factor: the key is missing"},
      {R"({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
           "original_max_position_embeddings": 8192}})",
       "rope_scaling.high_freq_factor: expected a number above low_freq_factor, found 4"},
  };
  for (const auto& [config, text] : cases) EXPECT_EQ(refusal(config, 64), text);
}

}  // namespace
}  // namespace troupe::sdk
