#include <gmock/gmock.h>

#include <fstream>
#include <thread>

#include "kernel/modules/modules.hpp"
#include "kernel/modules/stage.hpp"
#include "tests/support/temp_folder.hpp"

namespace troupe::modules {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

const fs::path mixtral = TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so";

fs::path test_module(const std::string& name) {
  return fs::path(TEST_MODULES) / (name + ".so");
}

bool is_mapped(const fs::path& file) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(file.string()) != line.npos) return true;
  return false;
}

class Load : public testing::Test {
 protected:
  store open() {
    auto s = store::open(folder_.path() / "store");
    if (!s) throw std::runtime_error(s.error().text);
    return *s;
  }
  std::string load_error(const fs::path& file, error_code code = error_code::bad_module) {
    const auto loaded = open().load(file);
    if (loaded) return "no error";
    EXPECT_EQ(loaded.error().code, code);
    EXPECT_THAT(loaded.error().text, HasSubstr(file.string()));
    return loaded.error().text;
  }
  test::temp_folder folder_;
};

TEST_F(Load, TellsWhatTheModuleIs) {
  const auto loaded = open().load(mixtral);
  ASSERT_TRUE(loaded) << loaded.error().text;
  const auto& m = **loaded;
  EXPECT_EQ(m.name(), "mixtral");
  EXPECT_EQ(m.version(), "1.0.0");
  EXPECT_FALSE(m.summary().empty());
  EXPECT_THAT(m.architectures(), ElementsAre("MixtralForCausalLM"));
  EXPECT_EQ(m.origin(), mixtral);
  EXPECT_EQ(m.sha256().size(), 64u);
  EXPECT_EQ(m.staged_path().filename(), m.sha256() + ".so");
  EXPECT_EQ(m.abi_major(), 1);
  EXPECT_EQ(m.abi_minor(), 0);
}

TEST_F(Load, LeavesTheProcessWithTheLastReference) {
  auto loaded = open().load(mixtral);
  ASSERT_TRUE(loaded) << loaded.error().text;
  const fs::path staged = (*loaded)->staged_path();
  module_ptr second = *loaded;
  EXPECT_TRUE(is_mapped(staged));
  EXPECT_FALSE(is_mapped(mixtral));
  loaded = fail(error_code::internal, "let go");
  EXPECT_TRUE(is_mapped(staged));
  second.reset();
  EXPECT_FALSE(is_mapped(staged));
}

TEST_F(Load, KeepsRunningWhileTheOperatorOverwritesTheFile) {
  const fs::path file = folder_.path() / "mine.so";
  fs::copy_file(test_module("good"), file);
  const auto loaded = open().load(file);
  ASSERT_TRUE(loaded) << loaded.error().text;
  folder_.write("mine.so", "garbage");
  EXPECT_EQ((*loaded)->name(), "table");
  EXPECT_THAT((*loaded)->build("{}").error().text, HasSubstr("emitted no Program"));
}

TEST_F(Load, SharesOneCopyAndRepairsADamagedOne) {
  const auto first = open().load(test_module("good"));
  ASSERT_TRUE(first) << first.error().text;
  const fs::path staged = (*first)->staged_path();
  const auto second = open().load(test_module("good"));
  ASSERT_TRUE(second) << second.error().text;
  EXPECT_EQ((*second)->staged_path(), staged);

  const test::temp_folder other;
  const auto s = store::open(other.path());
  other.write(staged.filename().string(), "damaged");
  const auto repaired = s->load(test_module("good"));
  ASSERT_TRUE(repaired) << repaired.error().text;
  EXPECT_EQ(fs::file_size((*repaired)->staged_path()), fs::file_size(test_module("good")));
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(other.path())) ++files;
  EXPECT_EQ(files, 1u) << "no temporary file stays behind";
}

TEST_F(Load, MayBeCalledFromSeveralThreads) {
  const auto s = open();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 10; ++round) {
        const auto loaded = s.load(mixtral);
        ASSERT_TRUE(loaded) << loaded.error().text;
        EXPECT_EQ((*loaded)->build("{}").error().code, error_code::bad_checkpoint);
      }
    });
  for (auto& thread : threads) thread.join();
}

TEST_F(Load, AcceptsANewerMinorVersion) {
  const auto loaded = open().load(test_module("newer_minor"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ((*loaded)->abi_minor(), 99);
}

TEST_F(Load, LoadsAModuleInPlainC) {
  const auto loaded = open().load(test_module("minimal_c"));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_THAT((*loaded)->architectures(), ElementsAre("MinimalForCausalLM"));
}

TEST_F(Load, SaysWhatToRebuildForAnotherMajorVersion) {
  EXPECT_THAT(load_error(test_module("wrong_major")),
              HasSubstr("built for module interface 99.0, this Troupe speaks 1.0: rebuild the module"));
}

TEST_F(Load, RefusesAnIncompleteTable) {
  EXPECT_THAT(load_error(test_module("small_table")), HasSubstr("its table has 16 bytes, expected at least"));
  EXPECT_THAT(load_error(test_module("null_table")), HasSubstr("troupe_module_entry answered null"));
  EXPECT_THAT(load_error(test_module("no_name")), HasSubstr("the field name of its table is empty"));
  EXPECT_THAT(load_error(test_module("no_version")), HasSubstr("the field version"));
  EXPECT_THAT(load_error(test_module("no_summary")), HasSubstr("the field summary"));
  EXPECT_THAT(load_error(test_module("no_architectures")), HasSubstr("the field architectures"));
  EXPECT_THAT(load_error(test_module("no_build")), HasSubstr("the field build"));
}

TEST_F(Load, RefusesWhatIsNoModule) {
  EXPECT_THAT(load_error(test_module("no_entry")), HasSubstr("it does not export troupe_module_entry"));
  EXPECT_THAT(load_error(folder_.write("text.so", "hello")),
              HasSubstr("expected an ELF shared library, found 5 other bytes"));
  EXPECT_THAT(load_error(folder_.write("empty.so", "")),
              HasSubstr("expected an ELF shared library, found 0 other bytes"));
  EXPECT_THAT(load_error(folder_.path() / "none.so", error_code::not_found), HasSubstr("No such file"));
  EXPECT_THAT(load_error(folder_.path()), HasSubstr("a folder"));
}

TEST_F(Load, RefusesATruncatedLibraryAndAnotherMachine) {
  std::ifstream in(test_module("good"), std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  EXPECT_THAT(load_error(folder_.write("cut.so", bytes.substr(0, 200))), HasSubstr("cannot be loaded"));
  bytes[18] = 8;  // e_machine: MIPS
  bytes[19] = 0;
  EXPECT_THAT(load_error(folder_.write("mips.so", bytes)), HasSubstr("built for another machine"));
}

TEST(Store, SaysWhyItsFolderCannotBe) {
  const test::temp_folder folder;
  folder.write("file", "x");
  const auto s = store::open(folder.path() / "file" / "below");
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, error_code::not_found);
  EXPECT_THAT(s.error().text, HasSubstr("the module store"));
}

TEST(Sha256, IsTheOneOfTheStandard) {
  const std::string abc = "abc";
  EXPECT_EQ(sha256_hex(abc), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace troupe::modules
