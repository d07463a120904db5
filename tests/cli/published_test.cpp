// `troupe program --config` on configurations of models in their published size.
#include <gmock/gmock.h>

#include <boost/json/parse.hpp>

#include "tests/cli/process.hpp"

namespace troupe::testing {
namespace {

using ::testing::HasSubstr;

struct published {
  std::string name;                     // of the file in tests/modules/configs
  std::string total, active;            // as printed
  std::uint64_t cache_bytes_per_token;  // bf16
  std::uint64_t state_bytes = 0;        // of one sequence
};

void PrintTo(const published& p, std::ostream* out) {
  *out << p.name;
}

class Published : public ::testing::TestWithParam<published> {
 protected:
  const std::string file_ = TROUPE_SOURCE_DIR "/tests/modules/configs/" + GetParam().name + ".json";
};

TEST_P(Published, HasTheParametersOfItsModelCard) {
  const auto o = run_troupe({"program", "--config", file_, "--no-weights"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("parameters " + GetParam().total + " B in all, " + GetParam().active +
                               " B active per token\n"));
}

TEST_P(Published, HasTheCacheOfItsHeads) {
  const auto o = run_troupe({"program", "--config", file_, "--json"});
  ASSERT_EQ(o.status, 0) << o.err;
  const auto root = boost::json::parse(o.out);
  const auto number = [&](const char* key) { return root.at("facts").at(key).to_number<std::uint64_t>(); };
  EXPECT_EQ(number("cache_bytes_per_token_bf16"), GetParam().cache_bytes_per_token);
  EXPECT_EQ(number("cache_bytes_per_token_f32"), 2 * GetParam().cache_bytes_per_token);
  EXPECT_EQ(number("state_bytes_per_sequence"), GetParam().state_bytes);
  EXPECT_EQ(number("weight_bytes_bf16"), 2 * number("parameters"));
}

// 28 layers of Mamba: 16 numbers and 3 columns of the convolution for each of 8192 channels, f32.
constexpr std::uint64_t jamba_state = 28 * (16 + 3) * 8192 * 4;

INSTANTIATE_TEST_SUITE_P(Models, Published,
                         ::testing::Values(published{"mixtral-8x7b", "46.70", "12.75", 131072},
                                           published{"mixtral-8x22b", "140.62", "38.95", 229376},
                                           published{"dbrx", "131.60", "35.85", 163840},
                                           published{"jamba-v0.1", "51.57", "11.84", 16384, jamba_state},
                                           published{"jamba-1.5-mini", "51.57", "11.84", 16384, jamba_state}),
                         [](const auto& param) {
                           std::string name = param.param.name;
                           for (char& c : name)
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           return name;
                         });

}  // namespace
}  // namespace troupe::testing
