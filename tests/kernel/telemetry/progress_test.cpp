#include "kernel/telemetry/progress.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

using namespace troupe::telemetry;
using namespace std::chrono_literals;

class Progress : public testing::Test {
 protected:
  void SetUp() override { out_ = open_memstream(&text_, &size_); }
  void TearDown() override {
    std::fclose(out_);
    std::free(text_);
  }
  std::string written() {
    std::fflush(out_);
    return {text_, size_};
  }
  static std::size_t count(const std::string& text, char c) {
    std::size_t n = 0;
    for (const char x : text) n += x == c;
    return n;
  }
  char* text_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* out_ = nullptr;
  progress::clock::time_point start_{};
};

TEST_F(Progress, PrintsFewLinesWithoutATerminal) {
  progress line("loading demo", out_, false);
  for (std::uint64_t i = 0; i <= 1000; ++i) line.update(i * 1024, 1000 * 1024, start_ + i * 1ms);
  line.finish();
  const std::string text = written();
  EXPECT_EQ(count(text, '\n'), 5u) << text;  // start, three quarters, end
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(text.find("loading demo  100%  1000.0 KiB of 1000.0 KiB\n"), std::string::npos) << text;
}

TEST_F(Progress, RedrawsATerminalAtMostTenTimesASecond) {
  progress line("loading demo", out_, true);
  for (std::uint64_t i = 0; i < 1000; ++i) line.update(i, 1000, start_ + i * 1ms);
  line.finish();
  const std::string text = written();
  EXPECT_LE(count(text, '\r'), 11u);
  EXPECT_GE(count(text, '\r'), 10u);
  EXPECT_EQ(count(text, '\n'), 1u);
}

TEST_F(Progress, EndsAnOpenLineWhenTheWorkIsGivenUp) {
  {
    progress line("loading demo", out_, true);
    line.update(1, 2, start_);
  }
  EXPECT_EQ(written().back(), '\n');
}

TEST_F(Progress, ShowsTheAmountWhereTheTotalIsUnknown) {
  progress line("reading", out_, false);
  line.update(2048, 0, start_);
  EXPECT_EQ(written(), "reading  2.0 KiB\n");
}

}  // namespace
