#include "kernel/base/clean_text.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

using namespace std::string_literals;

TEST(CleanText, KeepsWhatPeopleWrite) {
  EXPECT_EQ(clean_text("plain, and Grüße, 日本, 😀", 100), "plain, and Grüße, 日本, 😀");
}

TEST(CleanText, TurnsControlCharactersIntoBlanks) {
  EXPECT_EQ(clean_text("a\nb\x1b[0m\x7f"
                       "c\0d"s,
                       100),
            "a b [0m c d");
  EXPECT_EQ(clean_text("next line \xc2\x85 here", 100), "next line ?? here");
  EXPECT_EQ(clean_text("end\n\n", 100), "end");
}

TEST(CleanText, MarksBytesThatAreNoText) {
  EXPECT_EQ(clean_text("\xff", 100), "?");
  EXPECT_EQ(clean_text("\xc0\x80", 100), "??") << "overlong";
  EXPECT_EQ(clean_text("\xed\xa0\x80", 100), "???") << "surrogate";
  EXPECT_EQ(clean_text("\xf4\x90\x80\x80", 100), "????") << "beyond the last code point";
  EXPECT_EQ(clean_text("cut \xe6\x97", 100), "cut ??");
}

TEST(CleanText, StopsAtTheLimitBetweenCharacters) {
  EXPECT_EQ(clean_text("日本", 5), "日");
  EXPECT_EQ(clean_text("abc", 2), "ab");
}

}  // namespace
}  // namespace troupe
