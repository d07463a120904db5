#include "ops/device/open_backend.hpp"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/ops/support/tiny_model.hpp"

namespace troupe::ops {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path libraries = std::filesystem::path(TROUPE_BINARY_DIR) / "lib";
constexpr backend_options small{1, false, 8, 1 << 16};

bool is_mapped(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(name) != std::string::npos) return true;
  }
  return false;
}

TEST(OpenBackend, LoadsTheCpuLibraryAndRunsAProgramOnIt) {
  auto opened = open_backend(libraries / "libtroupe-cpu.so", small);
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_EQ((*opened)->info().name, "cpu");
  const auto source = test::tiny_program::make();
  const tiny_checkpoint files(source);
  auto loaded = (*opened)->load(*program::verify(test::tiny_program::bytes(source)), files.open());
  ASSERT_TRUE(loaded) << loaded.error().text;
  const auto logits = tiny_sequences(**loaded).step({{0, {1, 2, 3}}});
  EXPECT_NE(logits.front(), logits.back());
}

TEST(OpenBackend, TheLibraryIsMappedAsLongAsTheBackendLives) {
  auto opened = open_backend(libraries / "libtroupe-cpu.so", small);
  ASSERT_TRUE(opened);
  std::shared_ptr<backend> shared = std::move(*opened);
  EXPECT_TRUE(is_mapped("libtroupe-cpu.so"));
  EXPECT_EQ(shared->info().name, "cpu");
}

TEST(OpenBackend, AMissingFileIsNotFound) {
  const auto refused = open_backend("/nowhere/libtroupe-cpu.so", small);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::not_found);
  EXPECT_THAT(refused.error().text, HasSubstr("/nowhere/libtroupe-cpu.so"));
}

TEST(OpenBackend, AFileThatIsNoLibraryIsRefused) {
  const test::temp_folder folder;
  const auto file = folder.write("libtroupe-odd.so", "not an ELF file");
  const auto refused = open_backend(file, small);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_config);
  EXPECT_THAT(refused.error().text, HasSubstr(file.string()));
}

TEST(OpenBackend, ALibraryThatIsNoBackendIsRefused) {
  for (const char* other :
       {"/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"}) {
    if (!std::filesystem::exists(other)) continue;
    const auto refused = open_backend(other, small);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().text, HasSubstr("troupe_open_backend"));
    return;
  }
  GTEST_SKIP() << "no other library at the usual places";
}

TEST(OpenBackend, WhatTheBackendRefusesComesBack) {
  const auto refused =
      open_backend(libraries / "libtroupe-cpu.so", {1, false, 4000000000u, std::uint64_t{1} << 40});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, error_code::bad_config);
}

}  // namespace
}  // namespace troupe::ops
