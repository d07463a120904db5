#include "ops/device/room.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace troupe::ops {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t GiB = std::uint64_t{1} << 30, MiB = GiB >> 10;

// Mixtral 8x7B, more or less.
room_plan mixtral(std::uint64_t device, std::uint64_t cache) {
  return {device, 87 * GiB, cache, 0, 1 * GiB, 16 * MiB, 256 * MiB};
}
constexpr room_choices with_int8{44 * GiB, 131072, 64, 4 * MiB};

std::string refusal(const room_plan& plan, const room_choices& choices) {
  const auto found = check_room("mixtral", plan, choices);
  EXPECT_FALSE(found);
  return found ? "" : found.error().text;
}

TEST(Room, FitsToTheLastByte) {
  auto plan = mixtral(0, 20 * GiB);
  plan.device = plan.total();
  EXPECT_TRUE(check_room("mixtral", plan, with_int8));
  --plan.device;
  EXPECT_FALSE(check_room("mixtral", plan, with_int8));
}

TEST(Room, NamesThePlanAndWhatIsMissing) {
  EXPECT_THAT(refusal(mixtral(80 * GiB, 20 * GiB), with_int8),
              AllOf(HasSubstr("mixtral: "), HasSubstr("more than the device has"), HasSubstr("cache 20"),
                    HasSubstr("activations 1"), HasSubstr("graphs 16"), HasSubstr("reserve 256")));
}

TEST(Room, TellsTheContextThatASmallerCacheHolds) {
  const auto text = refusal(mixtral(100 * GiB, 20 * GiB), with_int8);
  const std::uint64_t bytes = 100 * GiB - 87 * GiB - GiB - 272 * MiB;
  EXPECT_THAT(text, HasSubstr(fmt::format("cache.memory = \"{}MiB\" (context of {} tokens in all)",
                                          bytes / MiB, bytes / 131072)));
}

TEST(Room, OffersInt8WhereThatIsEnough) {
  EXPECT_THAT(refusal(mixtral(80 * GiB, 20 * GiB), with_int8),
              AllOf(HasSubstr("device.weights = \"int8\""), Not(HasSubstr("cache.memory"))));
  EXPECT_THAT(refusal(mixtral(100 * GiB, 20 * GiB), {0, 131072, 64, 0}), Not(HasSubstr("int8")));
}

TEST(Room, OffersBothWhereNeitherIsEnough) {
  EXPECT_THAT(refusal(mixtral(60 * GiB, 40 * GiB), with_int8),
              HasSubstr("device.weights = \"int8\" with cache.memory = "));
}

TEST(Room, OffersFewerSequencesWhereTheirStatesAreTooMuch) {
  const room_plan plan{80 * GiB, 50 * GiB, 20 * GiB, 16 * GiB, 0, 0, 0};
  const auto text = refusal(plan, {0, 16384, 1024, 16 * MiB});
  EXPECT_THAT(text, HasSubstr("scheduler.max_sequences = 640"));
}

TEST(Room, SaysWhenNothingHelps) {
  EXPECT_THAT(refusal(mixtral(24 * GiB, 1 * GiB), with_int8), HasSubstr("needs a device with more memory"));
}

}  // namespace
}  // namespace troupe::ops
