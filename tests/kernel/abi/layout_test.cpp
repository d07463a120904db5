// The current module header against the released ones: authors have compiled these offsets into their libraries.
#include "tests/kernel/abi/layout.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <array>
#include <string>
#include <vector>

// layout.c against the header of the release, and against the current one.
extern "C" const layout_entry layout_released_1_0[];
extern "C" const layout_entry layout_current_1_0[];
extern "C" const layout_entry layout_released_1_1[];
extern "C" const layout_entry layout_current_1_1[];

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// What would break a library that was compiled against `released`. Both tables come from one list and end in a null name.
std::vector<std::string> breaks(const layout_entry* released, const layout_entry* current) {
  std::vector<std::string> out;
  for (; released->name != nullptr; ++released, ++current) {
    if (released->offset != current->offset)
      out.push_back(
          fmt::format("{}: at byte {}, was at {}", released->name, current->offset, released->offset));
    const bool may_grow = released->kind == layout_struct;
    if (may_grow ? current->value < released->value : current->value != released->value)
      out.push_back(fmt::format("{}: {}, was {}", released->name, current->value, released->value));
  }
  return out;
}

TEST(AbiLayout, KeepsWhatVersion1_0Fixed) {
  EXPECT_THAT(breaks(layout_released_1_0, layout_current_1_0), IsEmpty())
      << "fields are only appended; anything else needs a new major version";
}

TEST(AbiLayout, KeepsWhatVersion1_1Fixed) {
  EXPECT_THAT(breaks(layout_released_1_1, layout_current_1_1), IsEmpty())
      << "fields are only appended; anything else needs a new major version";
}

TEST(AbiLayout, TakesAppendedFieldsForNoBreak) {
  const layout_entry before[] = {
      {"s.a", layout_field, 0, 4}, {"s", layout_struct, 0, 8}, {nullptr, layout_number, 0, 0}};
  auto grown = std::to_array(before);
  grown[1].value = 16;
  EXPECT_THAT(breaks(before, grown.data()), IsEmpty());
}

TEST(AbiLayout, NoticesEveryBreak) {
  const layout_entry before[] = {{"s.a", layout_field, 8, 4},
                                 {"s", layout_struct, 0, 16},
                                 {"OK", layout_number, 0, 0},
                                 {nullptr, layout_number, 0, 0}};
  auto after = std::to_array(before);
  after[0].offset = 16;
  after[1].value = 12;
  after[2].value = 1;
  EXPECT_THAT(breaks(before, after.data()),
              ElementsAre("s.a: at byte 16, was at 8", "s: 12, was 16", "OK: 1, was 0"));
  after = std::to_array(before);
  after[0].value = 8;
  EXPECT_THAT(breaks(before, after.data()), ElementsAre("s.a: 8, was 4"));
}

}  // namespace
}  // namespace troupe
