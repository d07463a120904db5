#include "sandbox/cell/symbols.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <vector>

namespace troupe::sandbox {
namespace {

std::vector<std::uint8_t> this_program() {
  std::ifstream in("/proc/self/exe", std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

extern "C" [[gnu::noinline]] int a_function_to_be_found(int x) {
  asm volatile("" : "+r"(x));
  return 3 * x + 1;
}

std::uint64_t offset_of_it() {
  Dl_info info = {};
  auto* const address = reinterpret_cast<void*>(&a_function_to_be_found);
  EXPECT_NE(::dladdr(address, &info), 0);
  return reinterpret_cast<std::uint64_t>(address) - reinterpret_cast<std::uint64_t>(info.dli_fbase);
}

TEST(Symbols, NamesTheFunctionAroundAnAddress) {
  EXPECT_EQ(a_function_to_be_found(1), 4);
  const auto file = this_program();
  EXPECT_EQ(function_at(file, offset_of_it()), "a_function_to_be_found");
  EXPECT_EQ(function_at(file, offset_of_it() + 1), "a_function_to_be_found");
  EXPECT_EQ(function_at(file, ~std::uint64_t{0}), "");
}

TEST(Symbols, SurvivesFilesThatAreCutOrDamaged) {
  const auto file = this_program();
  const std::uint64_t offset = offset_of_it();
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    auto damaged = file;
    if (i % 3 == 0) damaged.resize(random() % damaged.size());
    for (int n = 0; n < 20 && damaged.size() > 64; ++n)
      damaged[random() % 64] = static_cast<std::uint8_t>(random());
    (void)function_at(damaged, offset);
  }
  EXPECT_EQ(function_at({}, offset), "");
}

}  // namespace
}  // namespace troupe::sandbox
