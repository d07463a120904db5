#include "kernel/config/paths.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace {

using namespace troupe;

TEST(Paths, FindsTheBuildTreeFromTheRunningProgram) {
  EXPECT_EQ(config::find_install().prefix, TROUPE_BINARY_DIR);
  EXPECT_TRUE(std::filesystem::exists(config::find_install().demo_model / "config.json"));
}

TEST(Paths, FollowsThePrefix) {
  const auto paths = config::install_at("/opt/troupe");
  EXPECT_EQ(paths.backend("cpu"), "/opt/troupe/lib/libtroupe-cpu.so");
  EXPECT_EQ(paths.modules, "/opt/troupe/lib/troupe/modules");
  EXPECT_EQ(paths.share, "/opt/troupe/share/troupe");
}

TEST(Paths, KeepsModuleCopiesInTheUsersCache) {
  setenv("XDG_CACHE_HOME", "/somewhere/cache", 1);
  EXPECT_EQ(config::install_at("/x").module_store, "/somewhere/cache/troupe/modules");
  unsetenv("XDG_CACHE_HOME");
  setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(config::install_at("/x").module_store, "/home/someone/.cache/troupe/modules");
}

TEST(Paths, KeepsModuleCopiesAmongTemporaryFilesWithoutAHome) {
  unsetenv("XDG_CACHE_HOME");
  unsetenv("HOME");
  const auto name = "troupe-modules-" + std::to_string(geteuid());
  setenv("TMPDIR", TROUPE_BINARY_DIR, 1);
  EXPECT_EQ(config::install_at("/x").module_store, TROUPE_BINARY_DIR "/" + name);
  setenv("TMPDIR", "/nowhere/at/all", 1);
  EXPECT_EQ(config::install_at("/x").module_store, "/tmp/" + name);
  unsetenv("TMPDIR");
}

TEST(Paths, KeepsTheListOfTrustedModulesInTheUsersConfiguration) {
  setenv("XDG_CONFIG_HOME", "/somewhere/config", 1);
  EXPECT_EQ(config::install_at("/x").trusted_modules, "/somewhere/config/troupe/trusted_modules");
  unsetenv("XDG_CONFIG_HOME");
  setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(config::install_at("/x").trusted_modules, "/home/someone/.config/troupe/trusted_modules");
  unsetenv("HOME");
  EXPECT_TRUE(config::install_at("/x").trusted_modules.empty());
}

}  // namespace
